package main

import (
	"slices"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
)

// webhookOf reads a document of one webhook as the configuration c would hold it.
func webhookOf(c *config.Resolved, doc map[string]any) (jobs.Webhook, error) {
	w, found := c.ReadWebhook(doc, configOptions())
	var mistakes admin.Mistakes
	for _, m := range found {
		mistakes = append(mistakes, admin.Mistake{Key: m.Path, Text: m.Text})
	}
	if mistakes != nil {
		return jobs.Webhook{}, mistakes
	}
	return w, nil
}

// fromStays refuses another beginning for a webhook that has begun.
var fromStays = admin.Mistake{Key: "from", Text: "is where the webhook began, and stays; leadrelay backfill sends older rows"}

// applyTo changes what a document names; nil is the default. With another dialect, retries and accepted answers that
// were the old one's become the new one's.
func applyTo(w *jobs.Webhook, c *config.Resolved, doc map[string]any) error {
	whole := map[string]any{"id": w.ID, "chatbot": w.Chatbots, "url": w.URL.Reveal(), "dialect": w.Dialect}
	if w.AllChatbots() {
		whole["chatbot"] = jobs.AllChatbots
	}
	var mistakes admin.Mistakes
	named := func(key string) bool { _, there := doc[key]; return there }
	if named("dialect") && !named("types") && len(w.Events) > 0 {
		whole["types"] = w.Events // as the dialect before names them: this one may have none like these
	}
	for key, value := range doc {
		switch {
		case value == nil && key == "sign_key":
			mistakes = append(mistakes, admin.Mistake{Key: key, Text: "is never taken away; rotate-key makes a new one"})
		case key == "from" && value != w.From:
			mistakes = append(mistakes, fromStays)
		case value == nil, value == "" && key == "sign_key_of":
			delete(whole, key)
		default:
			whole[key] = value
		}
	}
	if mistakes != nil {
		return mistakes
	}
	to, err := webhookOf(c, whole)
	if err != nil {
		return err
	}
	if was, known := c.Dialects.Lookup(w.Dialect); known && to.Dialect != w.Dialect {
		if !named("retry_at") && slices.Equal(w.RetryAt, was.RetryAt) {
			w.RetryAt = to.RetryAt
		}
		if !named("ack") && slices.Equal(w.Ack, was.Ack) {
			w.Ack = to.Ack
		}
	}
	for key := range doc {
		switch key {
		case "chatbot":
			w.Chatbots = to.Chatbots
		case "url":
			w.URL = to.URL
		case "types":
			w.Types, w.Events = to.Types, to.Events
		case "dialect":
			w.Dialect = to.Dialect
		case "schedule":
			w.Schedule = to.Schedule
		case "timezone":
			w.Timezone = to.Timezone
		case "immediate":
			w.Immediate = to.Immediate
		case "retry_at":
			w.RetryAt = to.RetryAt
		case "rate":
			w.Rate = to.Rate
		case "ack":
			w.Ack = to.Ack
		case "headers":
			w.Headers = to.Headers
		case "description":
			w.Description = to.Description
		case "sign_key_of":
			w.SignKeyOf = to.SignKeyOf
		}
	}
	return giveKey(c.Dialects, w, to.SignKey)
}
