package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// TestSample: a sample is of the first type that the webhook wants, has every field of that stream, and nothing that a
// dialect cannot send.
func TestSample(t *testing.T) {
	t.Parallel()
	columns := func(names ...string) (fields []config.Field) {
		for _, name := range names {
			fields = append(fields, config.Field{Name: name, Column: "c"})
		}
		return fields
	}
	streams := []config.Stream{
		{Type: "Lead", Fields: columns("FirstName", "LastName", "Email", "PhoneNumber", "Content", "SessionID", "URI")},
		{Type: "note", Fields: append(columns("id", "author.name", "author.email", "createdAt", "voted_at", "page_url", "chat_format", "message"), config.Field{Name: "tag", Const: int64(7)})},
	}
	sink, err := sinks.New(sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_912_345, time.UTC)
	lead := map[string]any{
		"FirstName": "Test", "LastName": "Leadrelay", "Email": "test@example.com", "PhoneNumber": "+1 202 555 0100", "Content": sampleText,
		"SessionID": int64(31305), "URI": "www.example.com",
	}
	note := map[string]any{
		"id": "test", "author.name": "Test Leadrelay", "author.email": "test@example.com", "createdAt": "2026-01-02T03:04:05.678Z",
		"voted_at": "2026-01-02T03:04:05.678Z", "chat_format": "test", "page_url": "https://example.com/test", "message": sampleText, "tag": int64(7),
	}
	for name, tt := range map[string]struct {
		webhook              jobs.Webhook
		typ, action, chatbot string
		fields               map[string]any
	}{
		"all types":        {jobs.Webhook{}, "Lead", "create", "bakery", lead},
		"one type":         {jobs.Webhook{Types: []string{"note"}}, "note", "create", "bakery", note},
		"every chatbot":    {jobs.Webhook{Chatbots: []string{jobs.AllChatbots}}, "Lead", "create", "test", lead},
		"an event":         {jobs.Webhook{Dialect: "smartlook", Events: []string{"note.updated"}}, "note", "update", "bakery", note},
		"a type long gone": {jobs.Webhook{Types: []string{"Order"}}, "Order", "create", "bakery", lead},
		"an unknown event": {jobs.Webhook{Dialect: "smartlook", Types: []string{"note"}, Events: []string{"x.y"}}, "note", "create", "bakery", note},
	} {
		w := tt.webhook
		if w.Chatbots == nil {
			w.Chatbots = []string{"bakery", "florist"}
		}
		rec := sample(&w, streams, sink.Event, now)
		got := map[string]any{}
		for _, f := range rec.Fields {
			got[f.Name] = f.Value
		}
		if rec.Type != tt.typ || rec.Action != tt.action || rec.Chatbot != tt.chatbot || !rec.Created.Equal(now.Truncate(time.Microsecond)) {
			t.Errorf("%s: got %+v", name, rec)
		}
		if diff := cmp.Diff(tt.fields, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, dialect := range sinks.BuiltIn().Names() {
		for _, typ := range []string{"Lead", "note"} {
			w := jobs.Webhook{Chatbots: []string{"bakery"}, Types: []string{typ}, Dialect: dialect}
			rec := sample(&w, streams, sink.Event, now)
			if body, err := sink.Encode(&w, &rec, now); err != nil || !slices.Contains(body, '{') {
				t.Errorf("%s, %s: %s %v", dialect, typ, body, err)
			}
		}
	}
}
