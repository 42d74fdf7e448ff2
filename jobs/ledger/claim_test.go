package ledger

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func countBy(deliveries []jobs.Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range deliveries {
		n[d.Webhook]++
	}
	return n
}

func TestClaimRooms(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("huge", "slow", "small", "tiny")
		var page []jobs.Delivery
		for webhook, n := range map[string]int{"huge": 100, "slow": 30, "small": 10, "tiny": 1} {
			for range n {
				page = append(page, s.record(webhook, jobs.Pending))
			}
		}
		s.enter("", page...)
		lease := s.lease()
		for _, c := range []struct {
			name  string
			claim jobs.Claim
			want  map[string]int
		}{
			{"nothing to give", jobs.Claim{Each: 8, Limit: 0}, map[string]int{}},
			{"no room", jobs.Claim{Each: 0, Limit: 100}, map[string]int{}},
			{"room of one alone", jobs.Claim{Room: map[string]int{"huge": 3}, Limit: 100}, map[string]int{"huge": 3}},
			{"one has none", jobs.Claim{Each: 2, Room: map[string]int{"slow": 0, "huge": 1}, Limit: 100}, map[string]int{"huge": 1, "small": 2, "tiny": 1}},
			{"only some", jobs.Claim{Webhooks: []string{"slow", "tiny"}, Each: 2, Limit: 100}, map[string]int{"slow": 2}},
			{"only none", jobs.Claim{Webhooks: []string{}, Each: 2, Limit: 100}, map[string]int{}},
			{"an unknown one", jobs.Claim{Webhooks: []string{"none"}, Each: 2, Limit: 100}, map[string]int{}},
			{"too little for all", jobs.Claim{Each: 50, Limit: 9}, map[string]int{"huge": 3, "slow": 3, "small": 3}},
			{"what a small one leaves goes to the others", jobs.Claim{Each: 50, Limit: 20}, map[string]int{"huge": 8, "slow": 7, "small": 5}},
			{"all that is left of a room", jobs.Claim{Each: 1000, Room: map[string]int{"huge": 20}, Limit: 1000}, map[string]int{"huge": 20, "slow": 18}},
			{"the rest", jobs.Claim{Each: 1000, Limit: 1000}, map[string]int{"huge": 65}},
		} {
			c.claim.Lease = lease
			if diff := cmp.Diff(c.want, countBy(must[[]jobs.Delivery](t)(s.Claim(ctx, c.claim)))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
		if got := s.status("huge"); got.Sending != 100 || got.Pending != 0 {
			t.Errorf("huge: %+v", got)
		}
	})
}

// Within a webhook the oldest due goes first; what is not due stays.
func TestClaimOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		var page []jobs.Delivery
		for i, offset := range []int{30, 10, 50, 20, 40} {
			d := record("acme", fmt.Sprint(i), jobs.Pending)
			d.NextAt = start.Add(time.Duration(offset) * time.Second)
			page = append(page, d)
		}
		s.enter("", page...)
		lease := s.lease()
		next := func() time.Time { return must[time.Time](t)(s.NextDue(context.Background(), nil)) }
		if got := next(); !got.Equal(start.Add(10 * time.Second)) {
			t.Errorf("next due %v", got)
		}
		s.pass(40 * time.Second)
		var rows []string
		for _, d := range append(s.claim(lease, 3, 10), s.claim(lease, 3, 10)...) {
			rows = append(rows, d.Row)
		}
		if diff := cmp.Diff([]string{"1", "3", "0", "4"}, rows); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		if got := next(); !got.Equal(start.Add(50 * time.Second)) {
			t.Errorf("next due %v", got)
		}
		s.pass(10 * time.Second)
		s.claim(lease, 8, 8)
		if got := next(); !got.IsZero() {
			t.Errorf("nothing is pending, next due %v", got)
		}
	})
}

// However much some have due for ever, one that has a single record waits no longer than its turn.
func TestClaimTakesTurns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ids := []string{"late"}
		for i := range 20 {
			ids = append(ids, fmt.Sprintf("huge%02d", i))
		}
		s.webhooks(ids...)
		var page []jobs.Delivery
		for _, w := range ids[1:] {
			for range 100 {
				page = append(page, s.record(w, jobs.Pending))
			}
		}
		s.enter("", page...)
		s.pass(time.Second)
		s.enter("", s.record("late", jobs.Pending))
		lease := s.lease()
		for round := range 8 {
			s.pass(time.Second)
			if countBy(s.claim(lease, 8, 4))["late"] > 0 {
				t.Logf("its turn came in round %d", round)
				return
			}
		}
		t.Error("a webhook whose record fell due last never got its turn")
	})
}

// TestClaimable: what is due can be claimed, unless somebody else holds its webhook, whom a claim does not wait for.
func TestClaimable(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("first", "second", "later")
		page := []jobs.Delivery{s.record("first", jobs.Pending), s.record("second", jobs.Pending), s.record("later", jobs.Pending)}
		for i, after := range []time.Duration{0, time.Minute, time.Hour} {
			page[i].NextAt = start.Add(after)
		}
		s.enter("", page...)
		s.pass(2 * time.Minute)
		want := func(when string, want time.Time, webhooks ...string) {
			t.Helper()
			if got := must[time.Time](t)(s.Claimable(ctx, webhooks)); !got.Equal(want) {
				t.Errorf("%s, of %v: %v, want %v", when, webhooks, got, want)
			}
		}
		want("free", start)
		want("free", start.Add(time.Minute), "second", "later")
		want("free", time.Time{}, "later")
		if s.lite { // nobody else can hold one
			return
		}
		s.must(s.open().change(ctx, "hold", func(ctx context.Context, tx *tx) error {
			s.must(tx.lockDue(ctx, []string{"first"}))
			want("one is held", start.Add(time.Minute))
			want("one is held", time.Time{}, "first")
			if got := countBy(s.claim(s.lease(), 8, 8)); got["first"] != 0 || got["second"] != 1 {
				t.Errorf("claimed %v", got)
			}
			want("all is claimed but what is held", time.Time{})
			return nil
		}))
		want("let go", start)
	})
}

func TestClaimOnlyActive(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		first := s.record("acme", jobs.Pending)
		s.enter("", first, s.record("other", jobs.Pending))
		s.put(jobs.Webhook{ID: "acme", State: jobs.Disabled})
		s.enter("", s.record("acme", jobs.Pending), s.record("acme", jobs.Pending)) // it still gathers
		if got := must[[]jobs.Delivery](t)(s.Claim(ctx, jobs.Claim{Lease: lease, Webhooks: []string{"acme"}, Each: 8, Limit: 8})); len(got) != 0 {
			t.Errorf("claimed %v", got)
		}
		if got := must[time.Time](t)(s.NextDue(ctx, []string{"acme"})); !got.IsZero() {
			t.Errorf("next due %v", got)
		}
		if got := must[time.Time](t)(s.NextDue(ctx, nil)); !got.Equal(start) {
			t.Errorf("next due of all: %v", got)
		}
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active})
		if got := countBy(s.claim(lease, 8, 8)); got["acme"] != 3 || got["other"] != 1 {
			t.Errorf("active again, claimed %v", got)
		}
	})
}

// While a claim that saw nothing more due has not committed, another process puts something pending: it must wait, or
// the claim would hide it.
func TestClaimHidesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease, other := s.lease(), s.open()
		first, second := s.record("acme", jobs.Pending), s.record("acme", jobs.Pending)
		s.enter("", first)
		entered := make(chan error, 1)
		s.must(s.change(context.Background(), "claim", func(ctx context.Context, t *tx) error {
			if claimed, err := t.claim(ctx, jobs.Claim{Lease: lease, Each: 8, Limit: 8}); err != nil || len(claimed) != 1 {
				return fmt.Errorf("claimed %d: %w", len(claimed), err)
			}
			go func() {
				_, err := other.Enter(context.Background(), jobs.Entries{Type: "Lead", Version: 3, Deliveries: []jobs.Delivery{second}})
				entered <- err
			}()
			select {
			case err := <-entered:
				entered <- err
			case <-time.After(300 * time.Millisecond):
			}
			return nil
		}))
		s.must(<-entered)
		if got := must[time.Time](t)(s.NextDue(context.Background(), nil)); !got.Equal(start) {
			t.Errorf("next due %v, want %v", got, start)
		}
		if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != second.ID {
			t.Errorf("claimed %v", got)
		}
	})
}

// Claims race with those who put something pending: nothing that is due may be lost from sight.
func TestClaimRace(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("a", "b", "c")
		const pages, perPage, claimers = 15, 12, 3
		entered := make(chan error, 1)
		go func() {
			l := s.Ledger
			for p := range pages {
				var page []jobs.Delivery
				for i := range perPage {
					page = append(page, record([]string{"a", "b", "c"}[i%3], fmt.Sprintf("%d.%d", p, i), jobs.Pending))
				}
				stream, err := l.Stream(ctx, "Lead")
				if err == nil {
					_, err = l.Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Deliveries: page})
				}
				if err != nil {
					entered <- err
					return
				}
			}
			entered <- nil
		}()
		type result struct {
			acked map[string]int
			err   error
		}
		results := make(chan result, claimers)
		stop := make(chan struct{})
		for range claimers {
			l := s.open()
			go func() {
				r := result{acked: map[string]int{}}
				defer func() { results <- r }()
				var lease string
				if lease, r.err = l.TakeLease(ctx, "test", time.Hour); r.err != nil {
					return
				}
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					claimed, err := l.Claim(ctx, jobs.Claim{Lease: lease, Each: 2, Limit: 5})
					if r.err = err; err != nil {
						return
					}
					var outcomes []jobs.Outcome
					for i, d := range claimed {
						if (n+i)%3 == 0 && d.Attempts < 2 {
							outcomes = append(outcomes, s.failed(d, 0))
							continue
						}
						r.acked[d.Row]++
						outcomes = append(outcomes, s.acked(d))
					}
					recorded, err := l.Settle(ctx, outcomes)
					if r.err = err; err != nil {
						return
					}
					for i, ok := range recorded {
						if !ok {
							r.err = fmt.Errorf("outcome of row %s was not recorded", outcomes[i].Delivery.Row)
							return
						}
					}
				}
			}()
		}
		s.must(<-entered)
		deadline := time.Now().Add(30 * time.Second)
		for total := 0; total < pages*perPage; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%d of %d were delivered, and nothing more is found due", total, pages*perPage)
				break
			}
			total = 0
			for _, w := range must[[]WebhookStatus](t)(s.Status(ctx)) {
				total += w.Delivered
			}
		}
		close(stop)
		acked := map[string]int{}
		for range claimers {
			r := <-results
			s.must(r.err)
			for row, n := range r.acked {
				acked[row] += n
			}
		}
		if len(acked) != pages*perPage {
			t.Errorf("%d rows acknowledged, want %d", len(acked), pages*perPage)
		}
		for row, n := range acked {
			if n != 1 {
				t.Errorf("row %s was claimed and acknowledged %d times", row, n)
			}
		}
	})
}
