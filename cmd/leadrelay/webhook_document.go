package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// webhookOf reads a document of one webhook as the configuration c would hold it.
func webhookOf(c *config.Resolved, doc map[string]any) (jobs.Webhook, error) {
	streams := []any{}
	for _, s := range c.Streams {
		streams = append(streams, map[string]any{"type": s.Type, "table": "any"})
	}
	text, err := json.Marshal(map[string]any{
		"streams": streams, "source": "sqlite:/nowhere", "schedule": c.Schedule, "timezone": c.Timezone, "immediate": c.Immediate,
		"http": map[string]any{"allow_http": c.HTTP.AllowHTTP}, "webhooks": []any{doc},
	})
	if err != nil {
		return jobs.Webhook{}, err
	}
	options := configOptions()
	options.Dialects = c.Dialects
	parsed, err := config.Parse("webhook", literally(text), options)
	if err == nil {
		var resolved *config.Resolved
		if resolved, err = parsed.Resolve(environment()); err == nil {
			w := resolved.Webhooks[0]
			w.Origin = ""
			if mistakes := mistakesOf(c, w); mistakes != nil {
				return w, mistakes
			}
			return w, nil
		}
	}
	var found config.Mistakes
	if !errors.As(err, &found) {
		return jobs.Webhook{}, &exitError{code: exitUsage, err: err}
	}
	var mistakes admin.Mistakes
	for _, m := range found {
		mistakes = append(mistakes, admin.Mistake{Key: strings.TrimPrefix(strings.TrimPrefix(m.Path, "webhooks[0]"), "."), Text: m.Text})
	}
	return jobs.Webhook{}, mistakes
}

// literally makes a configuration of JSON, which is YAML but for a few things: what is expanded in a configuration is
// here what it is, and signs that cannot be seen are written as escapes.
func literally(document []byte) []byte {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(string(document), "${", "$${") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return []byte(b.String())
}

// mistakesOf are what the sinks find wrong with a webhook that the configuration's reader let pass.
func mistakesOf(c *config.Resolved, w jobs.Webhook) (mistakes admin.Mistakes) {
	if _, err := sinks.ParseURL(w.URL, c.HTTP.AllowHTTP); err != nil {
		mistakes = append(mistakes, admin.Mistake{Key: "url", Text: err.Error()})
	}
	if w.SignKey != "" { // one that is left out is made
		if err := c.Dialects.CheckKey(w.Dialect, w.SignKey); err != nil {
			mistakes = append(mistakes, admin.Mistake{Key: "sign_key", Text: err.Error()})
		}
	}
	if err := c.Dialects.CheckHeaders(w.Dialect, w.Headers); err != nil {
		mistakes = append(mistakes, admin.Mistake{Key: "headers", Text: err.Error()})
	}
	return mistakes
}

// applyTo changes what a document names; nil is the default. With another dialect, retries and accepted answers that
// were the old one's become the new one's.
func applyTo(w *jobs.Webhook, c *config.Resolved, doc map[string]any) error {
	whole := map[string]any{"id": w.ID, "chatbot": w.Chatbots, "url": w.URL.Reveal(), "dialect": w.Dialect}
	if w.AllChatbots() {
		whole["chatbot"] = jobs.AllChatbots
	}
	var mistakes admin.Mistakes
	for key, value := range doc {
		switch {
		case value == nil && key == "sign_key":
			mistakes = append(mistakes, admin.Mistake{Key: key, Text: "is never taken away; rotate-key makes a new one"})
		case key == "from" && value != w.From:
			mistakes = append(mistakes, admin.Mistake{Key: key, Text: "is where the webhook began, and stays; leadrelay backfill sends older rows"})
		case value == nil:
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
		if _, named := doc["retry_at"]; !named && slices.Equal(w.RetryAt, was.RetryAt) {
			w.RetryAt = to.RetryAt
		}
		if _, named := doc["ack"]; !named && slices.Equal(w.Ack, was.Ack) {
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
			w.Types = to.Types
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
		case "ack":
			w.Ack = to.Ack
		case "headers":
			w.Headers = to.Headers
		case "description":
			w.Description = to.Description
		}
	}
	return giveKey(c.Dialects, w, to.SignKey)
}
