package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestStates(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		pending, sending, delivered, dead := s.record("acme", jobs.Pending), s.record("acme", jobs.Sending), s.record("acme", jobs.Sending), s.record("acme", jobs.Dead)
		s.enter(lease, pending, sending, delivered, dead)
		delivered.Lease = lease
		s.settle(s.acked(delivered))
		ids := append(idsOf(dead, delivered), uuid.New(), pending.ID, delivered.ID, sending.ID, uuid.New())
		want := []jobs.State{jobs.Dead, jobs.Delivered, "", jobs.Pending, jobs.Delivered, jobs.Sending, ""}
		if diff := cmp.Diff(want, must[[]jobs.State](t)(s.States(ctx, ids))); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if got := must[[]jobs.State](t)(s.States(ctx, nil)); len(got) != 0 {
			t.Errorf("states of none are %v", got)
		}
	})
}

// What is missing is entered without a bookmark's move, once whoever does it, and not where the webhooks are others than
// it was looked for with.
func TestEnterMissing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "goes")
		before := s.stream("Lead")
		there := s.record("acme", jobs.Pending)
		s.enter("", there)
		version := s.stream("Lead").Version

		page := []jobs.Delivery{there}
		for range 30 {
			page = append(page, s.record("acme", jobs.Pending), s.record("goes", jobs.Pending))
		}
		missing := jobs.Entries{Type: "Lead", Missing: true, Generation: before.Generation, Deliveries: page}
		other := s.open()
		var entered atomic.Int64
		var both sync.WaitGroup
		for _, l := range []*Ledger{s.Ledger, other} {
			both.Go(func() {
				news, err := l.Enter(ctx, missing)
				if err != nil {
					t.Error(err)
				}
				for i, isNew := range news {
					if isNew {
						entered.Add(1)
					}
					if i == 0 && isNew {
						t.Error("what was there is new")
					}
				}
			})
		}
		both.Wait()
		if entered.Load() != 60 {
			t.Errorf("%d were entered, want 60", entered.Load())
		}
		if got := s.stream("Lead"); got.Version != version || got.Bookmark != before.Bookmark+"+" {
			t.Errorf("the stream moved: %+v", got)
		}
		if got := s.status("acme").Pending; got != 31 {
			t.Errorf("%d pending", got)
		}

		must[int](t)(s.RemoveWebhook(ctx, s.changed(), "goes"))
		late := missing
		late.Deliveries = []jobs.Delivery{s.record("goes", jobs.Pending)}
		if _, err := s.Enter(ctx, late); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("entering for a webhook that was removed: %v", err)
		}
		if got := must[[]jobs.State](t)(s.States(ctx, idsOf(late.Deliveries...))); got[0] != "" {
			t.Errorf("it is %s", got[0])
		}

		// Versions: one that is known is not entered again, another supersedes as a page's would.
		missing.Generation, missing.Versioned = s.stream("Lead").Generation, true
		changed := func(version string) jobs.Delivery {
			k := jobs.Key{Webhook: "acme", Type: "Lead", Row: "versioned", Version: version, Action: jobs.ActionCreate}
			return jobs.Delivery{ID: k.ID(), Key: k, Chatbot: "bot", State: jobs.Pending}
		}
		for _, step := range []struct {
			version string
			isNew   bool
		}{{"1", true}, {"1", false}, {"2", true}} {
			missing.Deliveries = []jobs.Delivery{changed(step.version)}
			if got := must[[]bool](t)(s.Enter(ctx, missing)); got[0] != step.isNew {
				t.Errorf("version %s is new: %v", step.version, got[0])
			}
		}
		if diff := cmp.Diff([]jobs.State{jobs.Dead, jobs.Pending}, must[[]jobs.State](t)(s.States(ctx, idsOf(changed("1"), changed("2"))))); diff != "" {
			t.Errorf("versions (-want +got):\n%s", diff)
		}
	})
}

// A fire is one process's, and another's where that one takes it back.
func TestFire(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		first := must[time.Time](t)(s.LastFire(ctx, "reconcile 0 0 * * *"))
		at := start.Add(time.Hour)
		var mine atomic.Int64
		var all sync.WaitGroup
		for _, l := range []*Ledger{s.Ledger, s.open(), s.open()} {
			all.Go(func() {
				is, err := l.Fire(ctx, "reconcile 0 0 * * *", at)
				if err != nil {
					t.Error(err)
				}
				if is {
					mine.Add(1)
				}
			})
		}
		all.Wait()
		if mine.Load() != 1 {
			t.Errorf("%d have the fire", mine.Load())
		}
		if must[bool](t)(s.Fire(ctx, "reconcile 0 0 * * *", at.Add(-time.Minute))) {
			t.Error("an earlier fire is somebody's")
		}
		s.must(s.Unfire(ctx, "reconcile 0 0 * * *", at.Add(time.Minute), first)) // another's since
		if got := must[time.Time](t)(s.LastFire(ctx, "reconcile 0 0 * * *")); !got.Equal(at) {
			t.Errorf("the last fire was %v", got)
		}
		s.must(s.Unfire(ctx, "reconcile 0 0 * * *", at, first))
		if !must[bool](t)(s.Fire(ctx, "reconcile 0 0 * * *", at)) {
			t.Error("a fire that was taken back is nobody's")
		}
	})
}
