package receiver_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestDialects receives every dialect: its signature verifies, its id is told apart, and what its sender takes for an
// acknowledgement is counted as one.
func TestDialects(t *testing.T) {
	kinds := map[string]string{
		"smarterbot": "Lead", "smartlook": "Lead.created", "smarterlaunch": "Lead.created", "smartsurvey": "Lead.created",
		"userback": "Lead", "standard-webhooks": "Lead.created",
	}
	for _, dialect := range sinks.BuiltIn().Names() {
		t.Run(dialect, func(t *testing.T) {
			answer, err := receiver.Parse([]string{"http-500,wrong-case,reset,http-204,success"})
			if err != nil {
				t.Fatal(err)
			}
			d, _ := sinks.BuiltIn().Lookup(dialect)
			o := receiver.Options{Dialect: dialect, Answer: answer, Keep: 10, Tolerance: time.Minute, SignKeys: []jobs.Secret{}}
			w := &jobs.Webhook{ID: "w", Dialect: dialect}
			if d.Signed {
				w.SignKey = sinks.BuiltIn().NewKey(dialect)
				o.SignKeys = []jobs.Secret{w.SignKey}
			}
			crm, url := start(t, o)
			w.URL = jobs.Secret(url)
			h := sink(t)
			id := uuid.New()
			var got []string
			for range 5 {
				got = append(got, push(t, h, w, "c", id))
			}
			want := []string{"http_500", "", sinks.ReasonReset, "", ""}
			counts := receiver.Counts{Requests: 5, Unique: 1, Duplicates: 3, Acked: 1, Refused: 2}
			if dialect == "smarterbot" {
				want = []string{"http_500", sinks.ReasonAckMismatch, sinks.ReasonReset, sinks.ReasonEmpty, ""}
				counts = receiver.Counts{Requests: 5, Unique: 1, Acked: 1, Refused: 4}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(counts, eventually(crm, counts)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			chatbot := map[string]string{"smarterbot": "c", "smartlook": "c"}[dialect]
			for _, req := range crm.Kept() {
				if req.Chatbot != chatbot || req.Type != kinds[dialect] {
					t.Errorf("chatbot %q, type %q", req.Chatbot, req.Type)
				}
			}
			if !d.Signed {
				return
			}
			wrong := *w
			wrong.SignKey = sinks.BuiltIn().NewKey(dialect)
			if got := push(t, h, &wrong, "c", id); got != "http_401" {
				t.Errorf("with another key: %q", got)
			}
		})
	}
	if _, err := receiver.New(receiver.Options{Dialect: "nosuch"}); err == nil {
		t.Error("an unknown dialect is taken")
	}
}
