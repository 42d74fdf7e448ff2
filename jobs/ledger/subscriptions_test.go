package ledger

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// What a webhook has had is known from the bookmark on at which it came to want what it wants, or the stream was reset,
// and no longer of backfills before. One under way begins again for what is wanted now.
func TestWhatIsKnownToHaveBeenEntered(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		filled := []jobs.Span{{Since: start}, {Before: start}}
		put := func(subs ...jobs.Subscription) {
			t.Helper()
			c := s.changed()
			c.Subscriptions = subs
			s.must(s.ChangeWebhooks(ctx, c))
		}
		was := []jobs.Subscription{
			{Webhook: "acme", Type: "Appointment", Start: "a", Filled: filled},
			{Webhook: "acme", Type: "Lead", Start: "s", Backfill: "b", Until: "s", Filled: filled},
			{Webhook: "acme", Type: "Note", Start: "n"}, // whose stream there is no more
			{Webhook: "other", Type: "Lead", Start: "s", Backfill: "b", Until: "s", Steady: "before", Filled: filled},
		}
		put(was...)
		s.enter("", s.record("acme", jobs.Pending)) // moves the bookmark to +
		page := was[1]

		c := s.changed()
		c.Rewanted = []string{"acme"}
		s.must(s.ChangeWebhooks(ctx, c))
		want := slices.Clone(was)
		want[0].Filled = nil
		want[1].Backfill, want[1].Steady, want[1].Filled = "", "+", nil
		if diff := cmp.Diff(want, must[jobs.Registered](t)(s.Webhooks(ctx)).Subscriptions); diff != "" {
			t.Errorf("wanting other records (-want +got):\n%s", diff)
		}
		page.Backfill = "" // its cursor is where the one that begins again is
		if _, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Bookmark: "c", Backfill: &page, Done: true}); err == nil {
			t.Error("a page of the backfill before was taken for one of that which began again")
		}

		generation := s.stream("Lead").Generation
		s.must(s.ResetStream(ctx, "Lead", "other table", "there"))
		want[1].Steady = "there"
		want[3].Steady, want[3].Filled = "there", nil
		if diff := cmp.Diff(want, must[jobs.Registered](t)(s.Webhooks(ctx)).Subscriptions); diff != "" {
			t.Errorf("the stream reset (-want +got):\n%s", diff)
		}
		if s.stream("Lead").Generation == generation {
			t.Error("other processes do not hear of it")
		}
	})
}
