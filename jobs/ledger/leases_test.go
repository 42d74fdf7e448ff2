package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestLeases(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")

		a := s.lease()
		d := s.record("acme", jobs.Sending)
		s.enter(a, d)
		d.Lease = a

		if n := must[int](t)(s.Reclaim(ctx)); n != 0 {
			t.Errorf("reclaimed %d of a lease that holds", n)
		}
		s.pass(50 * time.Second)
		s.must(s.KeepLease(ctx, a, time.Minute))
		s.pass(50 * time.Second)
		if n := must[int](t)(s.Reclaim(ctx)); n != 0 {
			t.Errorf("reclaimed %d of a lease that was kept", n)
		}

		// Expired, and nobody has noticed: it may be kept, and what was sent under it is recorded.
		s.pass(time.Hour)
		s.must(s.KeepLease(ctx, a, time.Minute))
		s.pass(time.Hour)
		late := s.record("acme", jobs.Sending)
		s.enter(a, late)
		late.Lease = a
		s.settle(s.acked(late))

		// Reclaimed: due at once, without an attempt spent, and the old outcome is fenced off.
		old := s.acked(d)
		if n := must[int](t)(s.Reclaim(ctx, "another", a)); n != 0 {
			t.Errorf("reclaimed %d of the lease that was excepted", n)
		}
		if n := must[int](t)(s.Reclaim(ctx)); n != 1 {
			t.Errorf("reclaimed %d, want 1", n)
		}
		if got := s.get(d.ID); got.State != jobs.Pending || got.Attempts != 0 || !got.NextAt.Equal(s.Now()) || got.Lease != "" {
			t.Errorf("reclaimed: %+v", got)
		}
		if err := s.KeepLease(ctx, a, time.Minute); !errors.Is(err, jobs.ErrLeaseLost) {
			t.Errorf("keep a reclaimed lease: %v", err)
		}
		if got := must[[]bool](t)(s.Settle(ctx, []jobs.Outcome{old})); got[0] {
			t.Error("an outcome of a reclaimed lease was recorded")
		}
		if _, err := s.Claim(ctx, jobs.Claim{Lease: a, Each: 8, Limit: 8}); !errors.Is(err, jobs.ErrLeaseLost) {
			t.Errorf("claim under a lost lease: %v", err)
		}
		stream := s.stream("Lead")
		if _, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Lease: a, Deliveries: []jobs.Delivery{s.record("acme", jobs.Sending)}}); !errors.Is(err, jobs.ErrLeaseLost) {
			t.Errorf("enter under a lost lease: %v", err)
		}
		if s.stream("Lead").Version != stream.Version {
			t.Error("the refused page moved the bookmark")
		}

		// The next owner's outcome counts; the old one is still fenced off, whatever the delivery's state.
		b := s.lease()
		again := s.claim(b, 8, 8)
		if len(again) != 1 || again[0].ID != d.ID {
			t.Fatalf("claimed %v", again)
		}
		if got := must[[]bool](t)(s.Settle(ctx, []jobs.Outcome{old})); got[0] {
			t.Error("an outcome was recorded while another has the delivery")
		}
		s.settle(s.acked(again[0]))
		if got := must[[]bool](t)(s.Settle(ctx, []jobs.Outcome{old})); got[0] {
			t.Error("an outcome was recorded twice")
		}
		if got := s.status("acme"); got.Delivered != 2 {
			t.Errorf("delivered %d, want 2", got.Delivered)
		}

		// Dropped: put back at once.
		c := s.record("acme", jobs.Sending)
		s.enter(b, c)
		s.must(s.DropLease(ctx, b))
		if got := s.claim(s.lease(), 8, 8); len(got) != 1 || got[0].ID != c.ID {
			t.Errorf("after the lease was dropped, claimed %v", got)
		}
		if n := must[int](t)(s.Reclaim(ctx)); n != 0 {
			t.Errorf("reclaimed %d", n)
		}
	})
}

// A lease row that is gone without a trace (a restored ledger) holds nothing.
// TestLateAndAgain: a process that lost its lease may settle what it sent under that one together with what it claimed
// again, and what it does not hold counts for nothing.
func TestLateAndAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		for _, lateFirst := range []bool{true, false} {
			webhook := fmt.Sprint("late first ", lateFirst)
			s.webhooks(webhook)
			s.enter("", s.record(webhook, jobs.Pending))
			late := s.claimOne(s.lease())
			s.pass(2 * time.Minute)
			must[int](t)(s.Reclaim(context.Background()))
			again := s.claimOne(s.lease())
			outcomes := []jobs.Outcome{s.acked(late), s.failed(again, fire)}
			if !lateFirst {
				slices.Reverse(outcomes)
			}
			got := must[[]bool](t)(s.Settle(context.Background(), outcomes))
			if diff := cmp.Diff([]bool{!lateFirst, lateFirst}, got); diff != "" {
				t.Errorf("%s: recorded (-want +got):\n%s", webhook, diff)
			}
			if diff := cmp.Diff(WebhookStatus{Webhook: webhook, Pending: 1, Failing: 1, OldestPending: late.SeenAt, LastError: "http_500"}, s.status(webhook)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		}
	})
}

func TestReclaimWithoutLeaseRow(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.enter(lease, s.record("acme", jobs.Sending))
		if _, err := s.write.Exec("delete from leases"); err != nil {
			t.Fatal(err)
		}
		if n := must[int](t)(s.Reclaim(context.Background())); n != 1 {
			t.Errorf("reclaimed %d, want 1", n)
		}
	})
}

// A heartbeat that is under way keeps its lease from a reclaim that already saw it expired.
func TestReclaimAndHeartbeat(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease, other := s.lease(), s.open()
		s.enter(lease, s.record("acme", jobs.Sending))
		s.pass(time.Hour)
		reclaimed := make(chan int, 1)
		s.must(s.change(ctx, "keep", func(ctx context.Context, tx *tx) error {
			if _, err := tx.exec(ctx, sqlKeepLease, lease, tx.now.Add(time.Minute)); err != nil {
				return err
			}
			go func() {
				n, err := other.Reclaim(context.Background())
				if err != nil {
					t.Error(err)
				}
				reclaimed <- n
			}()
			time.Sleep(200 * time.Millisecond)
			return nil
		}))
		if n := <-reclaimed; n != 0 {
			t.Errorf("reclaimed %d of a lease that was kept", n)
		}
		s.must(s.KeepLease(ctx, lease, time.Minute))
	})
}

// A transaction whose connection is cut before it could commit leaves a doubt, and the next one clears it.
func TestCommitCut(t *testing.T) {
	s := &stage{t: t, dsn: address(t, "postgres"), clock: &clock{now: start}}
	s.Ledger = s.open()
	s.webhooks("acme")
	lease := s.lease()
	d := s.record("acme", jobs.Pending)
	s.enter("", d)
	err := s.change(context.Background(), "claim", func(ctx context.Context, tx *tx) error {
		if claimed, err := tx.claim(ctx, jobs.Claim{Lease: lease, Each: 8, Limit: 8}); err != nil || len(claimed) != 1 {
			t.Fatalf("claimed %v: %v", claimed, err)
		}
		var pid int
		s.must(tx.sql.QueryRow("select pg_backend_pid()").Scan(&pid))
		_, err := s.write.Exec("select pg_terminate_backend($1, 10000)", pid)
		return err
	})
	if !IsUnavailable(err) {
		t.Errorf("commit: %v", err)
	}
	if !s.doubts.some.Load() {
		t.Error("no doubt was kept")
	}
	if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
		t.Errorf("claimed %v", got)
	}
	if s.doubts.some.Load() {
		t.Error("the doubt was not cleared")
	}
}

// A commit that was done and reported as failed: what it leased comes back by the next transaction.
func TestCommitInDoubt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		d, kept := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
		s.enter(lease, d, kept)
		s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
		if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
			t.Errorf("claimed %v", got)
		}
		if got := s.get(kept.ID).State; got != jobs.Sending {
			t.Errorf("one that was not in doubt is %s", got)
		}
		if open := s.doubts.take(); len(open) != 0 {
			t.Errorf("doubts remain: %v", open)
		}

		// A manual run that its caller never heard of ends and lets its records go.
		s.settle(s.spent(jobs.Delivery{ID: kept.ID, Key: kept.Key, Lease: lease}, 0))
		lost, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.must(err)
		s.doubts.put(doubt{run: lost.ID})
		next, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.must(err)
		if next.Carried != 1 || s.run(lost.ID).EndedAt.IsZero() {
			t.Errorf("the next run took on %d; the lost one: %+v", next.Carried, s.run(lost.ID))
		}

		// A scheduled one is ours when we ask again, once.
		fire := jobs.RunStart{Kind: jobs.Scheduled, Lease: lease, Schedule: "@daily", FireAt: s.Now()}
		run, _, err := s.StartRun(ctx, fire)
		s.must(err)
		s.doubts.put(doubt{run: run.ID, fire: true})
		for i, want := range []bool{true, false} {
			if same, mine, err := s.StartRun(ctx, fire); err != nil || mine != want || same.ID != run.ID {
				t.Errorf("asked again (%d): %v mine %v, %v", i, same.ID, mine, err)
			}
		}
	})
}

// A transaction that fails leaves the doubts for the next.
func TestDoubtsSurviveAFailure(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		d := s.record("acme", jobs.Sending)
		s.enter(lease, d)
		s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
		if err := s.KeepLease(context.Background(), "none", time.Minute); !errors.Is(err, jobs.ErrLeaseLost) {
			t.Fatal(err)
		}
		if got := s.get(d.ID).State; got != jobs.Sending {
			t.Errorf("put back by a transaction that was rolled back: %s", got)
		}
		s.must(s.KeepLease(context.Background(), lease, time.Minute))
		if got := s.get(d.ID).State; got != jobs.Pending {
			t.Errorf("in doubt, and still %s", got)
		}
	})
}

// A commit that clears a doubt, and whose answer is lost as well: what was leased anew before that is known stays leased, or
// it would be sent by two.
func TestDoubtCommitCut(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		d, lost := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
		s.enter(lease, d)
		s.doubts.put(doubt{lease: lease, ids: idsOf(d, lost)})
		open := s.doubts.take() // by a transaction
		s.must(s.change(ctx, "clear", func(ctx context.Context, tx *tx) error { return tx.resolve(ctx, open[0]) }))
		if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
			t.Errorf("claimed %v", got)
		}
		s.enter(lease, lost) // as if by a commit that nobody heard of
		s.doubts.back(open)  // its caller hears that it failed
		s.must(s.KeepLease(ctx, lease, time.Minute))
		if got := s.get(d.ID).State; got != jobs.Sending {
			t.Errorf("what was leased anew is %s", got)
		}
		if s.doubts.some.Load() || s.doubts.given != nil {
			t.Errorf("doubts remain: %+v", s.doubts.open)
		}
	})
}
