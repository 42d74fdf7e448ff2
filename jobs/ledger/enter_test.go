package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

func idsOf(deliveries ...jobs.Delivery) []uuid.UUID {
	ids := []uuid.UUID{}
	for _, d := range deliveries {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestStreams(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		if _, err := s.Stream(ctx, "Lead"); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("a stream that is not there: %v", err)
		}
		s.must(s.EnterStream(ctx, "Lead", "leads.id", "b1"))
		s.must(s.EnterStream(ctx, "Lead", "other", "b2"))
		first := must[jobs.Generation](t)(s.Generation(ctx))
		want := jobs.Stream{Type: "Lead", Definition: "leads.id", Bookmark: "b1", Version: 1, Generation: first, Fresh: true}
		if diff := cmp.Diff(want, s.stream("Lead")); diff != "" {
			t.Errorf("entered twice (-want +got):\n%s", diff)
		}
		must[[]bool](t)(s.Enter(ctx, jobs.Entries{Type: "Lead", Version: 1, Bookmark: "b3"}))
		s.must(s.StopStream(ctx, "Lead", "restored"))
		want.Bookmark, want.Version, want.Fresh, want.Error = "b3", 2, false, "restored"
		if diff := cmp.Diff(want, s.stream("Lead")); diff != "" {
			t.Errorf("stopped (-want +got):\n%s", diff)
		}
		s.must(s.ResetStream(ctx, "Lead", "leads.uuid", "b4"))
		want.Definition, want.Bookmark, want.Version, want.Error = "leads.uuid", "b4", 3, ""
		if want.Generation = must[jobs.Generation](t)(s.Generation(ctx)); want.Generation == first {
			t.Error("a stream was reset, and the webhooks' generation is the one before")
		}
		if diff := cmp.Diff([]jobs.Stream{want}, must[[]jobs.Stream](t)(s.AllStreams(ctx))); diff != "" {
			t.Errorf("reset (-want +got):\n%s", diff)
		}
		for name, err := range map[string]error{
			"reset": s.ResetStream(ctx, "None", "", ""), "stop": s.StopStream(ctx, "None", "x"),
		} {
			if !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("%s a stream that is not there: %v", name, err)
			}
		}
	})
}

// Of two processes that read the same page one enters it, and the other does nothing at all.
func TestEnterRace(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		ledgers := []*Ledger{s.Ledger, s.open()}
		for round := range 10 {
			version := s.stream("Lead").Version
			var pages [2][]jobs.Delivery
			for i := range pages {
				pages[i] = []jobs.Delivery{s.record("acme", jobs.Sending), s.record("acme", jobs.Pending)}
			}
			var errs [2]error
			var both sync.WaitGroup
			for i, l := range ledgers {
				both.Go(func() {
					lease, err := l.TakeLease(ctx, "test", time.Minute)
					if err != nil {
						errs[i] = err
						return
					}
					_, errs[i] = l.Enter(ctx, jobs.Entries{Type: "Lead", Version: version, Bookmark: "b", Lease: lease, Deliveries: pages[i]})
				})
			}
			both.Wait()
			winner := 0
			if errs[0] != nil {
				winner = 1
			}
			if errs[winner] != nil || !errors.Is(errs[1-winner], jobs.ErrBookmarkMoved) {
				t.Fatalf("round %d: %v", round, errs)
			}
			for _, d := range pages[winner] {
				s.get(d.ID)
			}
			for _, d := range pages[1-winner] {
				if items, _, err := s.Deliveries(ctx, Filter{Row: d.Row}); err != nil || len(items) != 0 {
					t.Fatalf("round %d: the loser wrote %v (%v)", round, items, err)
				}
			}
			if got := s.stream("Lead").Version; got != version+1 {
				t.Fatalf("round %d: version %d, want %d", round, got, version+1)
			}
		}
	})
}

// What is known stays as it stands, whichever page names it again.
func TestEnterKnownKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		known := s.record("acme", jobs.Sending)
		s.enter(lease, known)
		held := known
		held.Lease = lease
		s.settle(s.acked(held))
		before := s.get(known.ID)

		fresh, twice := s.record("acme", jobs.Pending), s.record("acme", jobs.Pending)
		elsewhere := record("other", known.Row, jobs.Pending)
		stream := s.stream("Lead")
		news, err := s.Enter(ctx, jobs.Entries{
			Type: "Lead", Version: stream.Version, Lease: lease,
			Deliveries: []jobs.Delivery{known, fresh, twice, elsewhere, twice},
		})
		s.must(err)
		if diff := cmp.Diff([]bool{false, true, true, true, false}, news); diff != "" {
			t.Errorf("new (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, s.get(known.ID)); diff != "" {
			t.Errorf("a known delivery was changed (-want +got):\n%s", diff)
		}
		if got := s.status("acme").Pending; got != 2 {
			t.Errorf("%d pending, want 2", got)
		}
	})
}

// Text that one of the databases would refuse must not stop a stream.
func TestEnterOddText(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		rows := []string{"a\x00b", "\xff\xfe", "{}", `"`, `\`, "NULL", "null", "", " ", "é\u2028😀", "a,b", "\n\t\x01", "'; drop table x"}
		var page []jobs.Delivery
		for _, row := range rows {
			page = append(page, record("acme", row, jobs.Pending))
		}
		s.enter("", page...)
		for _, d := range page {
			want := d.Row
			switch d.Row {
			case "a\x00b":
				want = "a\uFFFDb"
			case "\xff\xfe":
				want = "\uFFFD"
			}
			if got := s.get(d.ID).Row; got != want {
				t.Errorf("row %q is kept as %q", d.Row, got)
			}
		}
	})
}

func TestEnterBackfill(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		c := s.changed()
		sub := jobs.Subscription{Webhook: "acme", Type: "Lead", Start: "s", Since: start, Backfill: "", Until: "u"}
		c.Subscriptions = []jobs.Subscription{sub}
		s.must(s.ChangeWebhooks(ctx, c))
		version := s.stream("Lead").Version
		page := func(b jobs.Bookmark, done bool) error {
			_, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Bookmark: b, Backfill: &sub, Done: done, Deliveries: []jobs.Delivery{s.record("acme", jobs.Pending)}})
			return err
		}
		s.must(page("b1", false))
		if err := page("b1", false); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("a page from a cursor that has moved: %v", err)
		}
		sub.Backfill = "b1"
		s.must(page("b2", true))
		if err := page("b3", false); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("a page of a backfill that is done: %v", err)
		}
		sub.Backfill, sub.Until, sub.Filled = "", "", []jobs.Span{{Since: start}}
		if diff := cmp.Diff([]jobs.Subscription{sub}, must[jobs.Registered](t)(s.Webhooks(ctx)).Subscriptions); diff != "" {
			t.Errorf("subscription (-want +got):\n%s", diff)
		}
		if got := s.stream("Lead").Version; got != version {
			t.Errorf("the backfill moved the stream's version from %d to %d", version, got)
		}
		if got := s.status("acme").Pending; got != 2 {
			t.Errorf("%d pending, want 2", got)
		}
	})
}

// A page that was read before a backfill was begun again, of more rows, does not end that one, though both are at their
// beginnings.
func TestEnterBackfillBegunAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		put := func(sub jobs.Subscription) {
			t.Helper()
			c := s.changed()
			c.Subscriptions = []jobs.Subscription{sub}
			s.must(s.ChangeWebhooks(ctx, c))
		}
		read := jobs.Subscription{Webhook: "acme", Type: "Lead", Start: "s", Since: start, Until: "s"}
		put(read)
		for name, change := range map[string]func(*jobs.Subscription){
			"of earlier rows too": func(s *jobs.Subscription) { s.Since = time.Time{} },
			"of fewer rows":       func(s *jobs.Subscription) { s.Before = start.Add(time.Hour) },
		} {
			again := read
			change(&again)
			put(again)
			_, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Bookmark: "b", Backfill: &read, Done: true, Deliveries: []jobs.Delivery{s.record("acme", jobs.Pending)}})
			if !errors.Is(err, jobs.ErrBookmarkMoved) {
				t.Errorf("%s: the page of the one before: %v", name, err)
			}
			if diff := cmp.Diff([]jobs.Subscription{again}, must[jobs.Registered](t)(s.Webhooks(ctx)).Subscriptions); diff != "" {
				t.Errorf("%s: subscription (-want +got):\n%s", name, diff)
			}
		}
	})
}
