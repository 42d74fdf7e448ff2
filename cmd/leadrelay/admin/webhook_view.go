package admin

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Webhook is one as it is shown: by the API, and by the commands with --json.
type Webhook struct {
	ID          string            `json:"id" example:"acme"`
	Chatbot     OneOrMore         `json:"chatbot" doc:"The chatbot whose records it gets, a list of several, or * for all."`
	URL         string            `json:"url" doc:"Scheme, host and first path segment; with reveal=true the whole." example:"https://crm.example.com/hooks/…"`
	SignKeyOf   string            `json:"sign_key_of,omitempty" doc:"The webhook whose key signs its requests, where it is not its own."`
	Types       []string          `json:"types" doc:"The types of record, or the events, that it gets; empty: all."`
	Dialect     string            `json:"dialect" example:"smarterbot"`
	Schedule    string            `json:"schedule" example:"@hourly"`
	Timezone    string            `json:"timezone" example:"Europe/Prague"`
	Immediate   bool              `json:"immediate" doc:"Records are also pushed as soon as they are committed."`
	RetryAt     []string          `json:"retry_at" doc:"Offsets from the first failure; empty: no retries."`
	Rate        string            `json:"rate" doc:"The most requests in a time, over all daemons; empty: no bound." example:"5/s"`
	Ack         any               `json:"ack" doc:"The answers that acknowledge a record: values of status, a preset such as 2xx, or a rule, as they are posted."`
	Headers     map[string]string `json:"headers,omitempty" doc:"Static headers by name. Values are never shown."`
	From        string            `json:"from" doc:"Where it began: now, beginning or a time." example:"now"`
	Description string            `json:"description"`
	Provisioned bool              `json:"provisioned" doc:"A configuration file gives it: it is changed there."`
	State       string            `json:"state" enum:"active,held,disabled"`
	StateReason string            `json:"state_reason"`
	OldKeyUntil *time.Time        `json:"old_key_until" doc:"Until when the key before signs too; null while none is replaced."`
	EnteredAt   time.Time         `json:"entered_at"`
}

// ViewOf is a webhook as it may be shown; with reveal its URL is whole. Keys and headers' values are left out.
func ViewOf(w *jobs.Webhook, reveal bool) Webhook {
	v := Webhook{
		ID: w.ID, Chatbot: w.Chatbots, URL: jobs.MaskedURL(w.URL), SignKeyOf: w.SignKeyOf, Types: typesOf(w), Dialect: w.Dialect,
		Schedule: w.Schedule, Timezone: w.Timezone, Immediate: w.Immediate, RetryAt: []string{}, Rate: w.Rate.String(), Ack: jobs.AckDocument(w.Ack),
		From: w.From, Description: w.Description, Provisioned: w.Origin != "",
		State: string(w.State), StateReason: w.StateReason, EnteredAt: w.EnteredAt.UTC(),
	}
	for _, offset := range w.RetryAt {
		v.RetryAt = append(v.RetryAt, jobs.SpellDuration(offset))
	}
	for name, value := range w.Headers {
		if v.Headers == nil {
			v.Headers = map[string]string{}
		}
		v.Headers[name] = value.String()
	}
	v.OldKeyUntil = known(w.OldKeyUntil)
	if reveal {
		v.URL = w.URL.Reveal()
	}
	return v
}

// typesOf are the words that a webhook's types are written with; none: it wants all.
func typesOf(w *jobs.Webhook) []string {
	if len(w.Events) > 0 {
		return slices.Clone(w.Events)
	}
	return append([]string{}, w.Types...)
}

// known is nil for a time that is not known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// OneOrMore is a text, or a list of several.
type OneOrMore []string

// MarshalJSON writes one text alone as a text.
func (o OneOrMore) MarshalJSON() ([]byte, error) {
	if len(o) == 1 {
		return json.Marshal(o[0])
	}
	return json.Marshal([]string(o))
}

// Schema says so.
func (OneOrMore) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		OneOf:    []*huma.Schema{{Type: "string"}, {Type: "array", Items: &huma.Schema{Type: "string"}}},
		Examples: []any{"59001dd73709417321c58b11693183a2"},
	}
}
