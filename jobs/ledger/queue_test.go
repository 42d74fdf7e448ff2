package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// A record's whole way, read back at each step.
func TestWayOfOneRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		d := s.record("acme", jobs.Pending)
		d.Chatbot, d.Row = "bot'\"\\{}", "7,\"{NULL}\\"
		d.ID = d.Key.ID()
		s.enter(lease, d)

		want := d
		want.SeenAt, want.NextAt = start, start
		if diff := cmp.Diff(want, s.get(d.ID)); diff != "" {
			t.Errorf("entered (-want +got):\n%s", diff)
		}

		claimed := s.claim(lease, 8, 8)
		want.State, want.Lease, want.Claims = jobs.Sending, lease, 1
		if diff := cmp.Diff([]jobs.Delivery{want}, claimed); diff != "" {
			t.Fatalf("claimed (-want +got):\n%s", diff)
		}
		o := s.failed(claimed[0], time.Minute)
		s.settle(o)
		if diff := cmp.Diff(o.Delivery, s.get(d.ID)); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		if got := s.claim(lease, 8, 8); len(got) != 0 {
			t.Errorf("claimed before its time: %v", got)
		}
		s.pass(time.Minute)
		o = s.acked(s.claim(lease, 8, 8)[0])
		s.settle(o)
		if diff := cmp.Diff(o.Delivery, s.get(d.ID)); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		wantStatus := WebhookStatus{Webhook: "acme", Delivered: 1} // no failure, which was overcome
		if diff := cmp.Diff(wantStatus, s.status("acme")); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	})
}
