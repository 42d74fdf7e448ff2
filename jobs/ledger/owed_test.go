package ledger

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestOwed: what is pending or sending is counted, of a scope's webhooks, chatbots and types.
func TestOwed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		of := func(webhook, chatbot, typ string, state jobs.State) jobs.Delivery {
			d := s.record(webhook, state)
			d.Chatbot, d.Type = chatbot, typ
			return d
		}
		done := of("acme", "a", "Lead", jobs.Sending)
		s.enter(lease,
			done, of("acme", "a", "Lead", jobs.Sending), of("acme", "a", "Lead", jobs.Pending), of("acme", "b", "Appointment", jobs.Pending),
			of("other", "b", "Lead", jobs.Pending))
		done.Lease = lease
		s.settle(s.acked(done))
		for name, tt := range map[string]struct {
			scope jobs.Scope
			want  map[string]int
		}{
			"all":                  {jobs.Scope{}, map[string]int{"acme": 3, "other": 1}},
			"a webhook":            {jobs.Scope{Webhooks: []string{"acme"}}, map[string]int{"acme": 3}},
			"no webhook":           {jobs.Scope{Webhooks: []string{}}, map[string]int{}},
			"a chatbot":            {jobs.Scope{Chatbots: []string{"b"}}, map[string]int{"acme": 1, "other": 1}},
			"a type":               {jobs.Scope{Types: []string{"Lead"}}, map[string]int{"acme": 2, "other": 1}},
			"a chatbot and a type": {jobs.Scope{Chatbots: []string{"b"}, Types: []string{"Lead"}}, map[string]int{"other": 1}},
		} {
			got := must[map[string]int](t)(s.Owed(ctx, tt.scope))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}
