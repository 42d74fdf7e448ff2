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
			t.Errorf("reclaimed %d by a process whose own lease ran out", n)
		}
		if n := must[int](t)(s.Reclaim(ctx, s.lease())); n != 1 {
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
		if _, err := s.write.Exec(s.text("delete from leases")); err != nil {
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
	s := stageOn(t, "postgres")
	s.webhooks("acme")
	lease := s.lease()
	d := s.record("acme", jobs.Pending)
	s.enter("", d)
	err := s.Ledger.lease(context.Background(), "claim", func(ctx context.Context, tx *tx) error {
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

// A commit that was done and reported as failed: what it leased comes back before more is leased.
func TestCommitInDoubt(t *testing.T) {
	s := stageOn(t, "postgres")
	ctx := context.Background()
	s.webhooks("acme")
	lease := s.lease()
	d, kept := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
	s.enter(lease, d, kept)
	for range 3 { // however often it is tried again
		s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
	}
	if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
		t.Errorf("claimed %v", got)
	}
	if got := s.get(kept.ID).State; got != jobs.Sending {
		t.Errorf("one that was not in doubt is %s", got)
	}
	if len(s.doubts.open) != 0 {
		t.Errorf("doubts remain: %v", s.doubts.open)
	}

	// A manual run that its caller never heard of ends and lets its records go.
	s.settle(s.spent(jobs.Delivery{ID: kept.ID, Key: kept.Key, Lease: lease}, 0))
	lost, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
	s.must(err)
	s.doubts.put(doubt{lease: lease, run: lost.ID})
	next, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
	s.must(err)
	if next.Carried != 1 || s.run(lost.ID).EndedAt.IsZero() {
		t.Errorf("the next run took on %d; the lost one: %+v", next.Carried, s.run(lost.ID))
	}

	// A scheduled one is ours when we ask again, and nobody else's.
	fire := jobs.RunStart{Kind: jobs.Scheduled, Lease: lease, Schedule: "@daily", FireAt: s.Now()}
	run, _, err := s.StartRun(ctx, fire)
	s.must(err)
	for _, l := range []string{lease, s.lease(), lease} {
		fire.Lease = l
		if same, mine, err := s.StartRun(ctx, fire); err != nil || mine != (l == lease) || same.ID != run.ID {
			t.Errorf("asked again: %v mine %v, %v", same.ID, mine, err)
		}
	}
}

// A commit that is still under way when its caller hears that it failed: what it takes comes back when it has ended, and
// meanwhile everything else goes on.
func TestCommitStillUnderWay(t *testing.T) {
	s := stageOn(t, "postgres")
	ctx := context.Background()
	s.webhooks("acme", "other")
	lease := s.lease()
	d := s.record("acme", jobs.Pending)
	s.enter("", d)
	begun, err := s.write.BeginTx(ctx, nil)
	s.must(err)
	defer begun.Rollback()
	late := &tx{l: s.Ledger, sql: begun, now: s.Now()}
	if claimed, err := late.claim(ctx, jobs.Claim{Lease: lease, Each: 8, Limit: 8}); err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v: %v", claimed, err)
	}
	s.doubts.put(late.doubt)
	other := s.record("other", jobs.Pending)
	s.enter("", other)
	if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != other.ID {
		t.Errorf("claimed %v beside it", got)
	}
	if !s.doubts.some.Load() {
		t.Error("it is in doubt no more, though it may still be done")
	}
	s.must(begun.Commit())
	if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
		t.Errorf("claimed %v when it was done", got)
	}
}

// What is in doubt, came back by itself and was leased anew to a caller who knows of it, stays leased.
func TestDoubtLeasedAnew(t *testing.T) {
	s := stageOn(t, "postgres")
	ctx := context.Background()
	s.webhooks("acme")
	lease := s.lease()
	d := s.record("acme", jobs.Pending)
	s.enter("", d)
	s.must(s.doubts.leasing.Acquire(ctx, 1)) // as by a transaction that takes its time: doubts wait
	s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
	if got := s.claim(lease, 8, 8); len(got) != 1 || got[0].ID != d.ID {
		t.Errorf("claimed %v", got)
	}
	s.doubts.leasing.Release(1)
	if got := s.claim(lease, 8, 8); len(got) != 0 || s.doubts.some.Load() {
		t.Errorf("claimed again: %v", got)
	}
	if got := s.get(d.ID).State; got != jobs.Sending {
		t.Errorf("what was leased anew is %s", got)
	}
}

// Doubts outlast an answer to their clearing that is lost.
func TestDoubtsSurviveAFailure(t *testing.T) {
	s := stageOn(t, "postgres")
	s.webhooks("acme")
	lease := s.lease()
	d := s.record("acme", jobs.Sending)
	s.enter(lease, d)
	s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
	if _, err := s.Claim(context.Background(), jobs.Claim{Lease: "none", Each: 8, Limit: 8}); !errors.Is(err, jobs.ErrLeaseLost) {
		t.Fatal(err)
	}
	if got := s.get(d.ID).State; got != jobs.Pending {
		t.Errorf("in doubt, and still %s", got)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s.doubts.put(doubt{lease: lease, ids: idsOf(d)})
	if _, err := s.Claim(ended, jobs.Claim{Lease: lease, Each: 8, Limit: 8}); !errors.Is(err, context.Canceled) {
		t.Errorf("claimed after the end: %v", err)
	}
	if !s.doubts.some.Load() {
		t.Error("no doubt remains")
	}
}

// A SQLite file rolls back what it could not commit.
func TestNoDoubtOfAFile(t *testing.T) {
	s := stageOn(t, "sqlite")
	s.webhooks("acme")
	lease := s.lease()
	d := s.record("acme", jobs.Pending)
	s.enter("", d)
	ctx, cancel := context.WithCancel(context.Background())
	err := s.Ledger.lease(ctx, "claim", func(ctx context.Context, tx *tx) error {
		_, err := tx.claim(ctx, jobs.Claim{Lease: lease, Each: 8, Limit: 8})
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) || s.doubts.some.Load() {
		t.Errorf("%v; doubts: %v", err, s.doubts.open)
	}
	if got := s.get(d.ID).State; got != jobs.Pending {
		t.Errorf("it is %s", got)
	}
}
