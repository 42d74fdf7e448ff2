package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestWebhooksAsGiven(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.must(s.EnterStream(ctx, "Lead", "d", "b"))
		full := jobs.Webhook{
			ID: "acme", Chatbots: []string{"0123", "b\""}, URL: "https://crm.example/secret?x=1", SignKey: "k\x00\xff", Types: []string{"Lead"},
			Dialect: "smarterbot", Schedule: "@every 90s", Timezone: "Europe/Prague", Immediate: true,
			RetryAt: []time.Duration{time.Minute, 3 * time.Minute}, Ack: []string{"success"},
			Headers: map[string]jobs.Secret{"Authorization": "Bearer x", "X-A": ""}, From: "beginning", Description: "Die Größe",
			KeyMade: true, Origin: "/etc/leadrelay/config.yaml", State: jobs.Held, StateReason: "failing", EnteredAt: start,
		}
		bare := jobs.Webhook{ID: "bare", State: jobs.Active, RetryAt: []time.Duration{}}
		sub := jobs.Subscription{
			Webhook: "acme", Type: "Lead", Start: "s", Since: start.Add(-time.Hour), Before: start, Backfill: "b", Until: "u", Steady: "st",
			Filled: []jobs.Span{{Since: start}, {Before: start.Add(-time.Microsecond)}, {}},
		}
		c := s.changed(full, bare)
		c.Subscriptions = []jobs.Subscription{sub, {Webhook: "bare", Type: "Lead"}}
		s.must(s.ChangeWebhooks(ctx, c))

		bare.EnteredAt = start
		want := jobs.Registered{Generation: must[jobs.Generation](t)(s.Generation(ctx)), Webhooks: []jobs.Webhook{full, bare}, Subscriptions: c.Subscriptions}
		if diff := cmp.Diff(want, must[jobs.Registered](t)(s.Webhooks(ctx))); diff != "" {
			t.Errorf("entered (-want +got):\n%s", diff)
		}
		full.Headers, full.SignKey, full.State, full.StateReason = nil, "", jobs.Active, ""
		s.put(full)
		want.Webhooks[0] = full
		if want.Generation = must[jobs.Generation](t)(s.Generation(ctx)); want.Generation == c.Generation {
			t.Error("two changes later the generation is the same")
		}
		if diff := cmp.Diff(want, must[jobs.Registered](t)(s.open().Webhooks(ctx))); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
	})
}

// A webhook that signs with another's key has that one's keys as they are, and none of its own is stored.
func TestSignKeyOf(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.must(s.EnterStream(ctx, "Lead", "d", ""))
		until := start.Add(24 * time.Hour)
		s.put(
			jobs.Webhook{ID: "b-owner", SignKey: "new", OldKey: "old", OldKeyUntil: until, State: jobs.Active},
			jobs.Webhook{ID: "a", SignKeyOf: "b-owner", SignKey: "stale", OldKey: "stale", State: jobs.Active},
			jobs.Webhook{ID: "c", SignKeyOf: "b-owner", State: jobs.Disabled},
		)
		check := func(step string, key, old jobs.Secret, until time.Time) {
			t.Helper()
			for _, w := range must[jobs.Registered](t)(s.Webhooks(ctx)).Webhooks {
				if w.SignKey != key || w.OldKey != old || !w.OldKeyUntil.Equal(until) {
					t.Errorf("%s: webhook %s signs with %s, %s until %v", step, w.ID, w.SignKey.Reveal(), w.OldKey.Reveal(), w.OldKeyUntil)
				}
			}
		}
		check("entered", "new", "old", until)
		for _, w := range must[jobs.Registered](t)(s.Webhooks(ctx)).Webhooks { // as Registrar does: what was read is put back
			s.put(w)
		}
		check("put back", "new", "old", until)
		s.put(jobs.Webhook{ID: "b-owner", SignKey: "newer", State: jobs.Disabled})
		check("rotated, and the owner disabled", "newer", "", time.Time{})
		var own int
		s.must(s.write.QueryRow(s.text("select count(*) from webhooks where sign_key_of <> '' and (length(sign_key) > 0 or length(old_key) > 0 or old_key_until is not null)")).Scan(&own))
		if own != 0 {
			t.Errorf("%d webhooks have another's key stored as their own", own)
		}
	})
}

func TestChangeWebhooksIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		current := func() jobs.Change { return s.changed(jobs.Webhook{ID: "new", State: jobs.Active}) }
		for name, spoil := range map[string]func(*jobs.Change){
			"an older generation": func(c *jobs.Change) { c.Generation.Number-- },
			"an older version":    func(c *jobs.Change) { c.Versions["Lead"]-- },
			"an unknown stream":   func(c *jobs.Change) { c.Versions["None"] = 1 },
		} {
			c := current()
			spoil(&c)
			if err := s.ChangeWebhooks(ctx, c); !errors.Is(err, jobs.ErrBookmarkMoved) {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(current(), s.changed(c.Put...)); diff != "" {
				t.Errorf("%s changed something:\n%s", name, diff)
			}
		}
		if got := len(must[jobs.Registered](t)(s.Webhooks(ctx)).Webhooks); got != 1 {
			t.Errorf("%d webhooks, want 1", got)
		}
	})
}

// TestSetBack: a ledger that was set back to an older copy comes to a number that it had before with other webhooks. Whoever
// knows the generation that was lost sees that this is another, and what they made from that one is refused.
func TestSetBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		copied := must[jobs.Generation](t)(s.Generation(ctx))
		s.put(jobs.Webhook{ID: "lost", State: jobs.Active})
		lost := must[jobs.Registered](t)(s.Webhooks(ctx)).Generation
		_, err := s.write.Exec(s.text(fmt.Sprintf("update registry set generation = %d, token = '%s'", copied.Number, copied.Token)))
		s.must(err)
		if got := s.stream("Lead").Generation; got != copied {
			t.Errorf("set back it is %+v, want %+v", got, copied)
		}
		s.put(jobs.Webhook{ID: "found", State: jobs.Active})
		found := must[jobs.Registered](t)(s.Webhooks(ctx)).Generation
		if found.Number != lost.Number || found == lost {
			t.Errorf("the generation is %+v after one change, and was %+v after another", found, lost)
		}
		if got := s.stream("Lead").Generation; got != found {
			t.Errorf("the stream's generation is %+v, the webhooks' %+v", got, found)
		}
		stale := s.changed(jobs.Webhook{ID: "stale", State: jobs.Active})
		stale.Generation = lost
		_, removing := s.RemoveWebhook(ctx, stale, "acme")
		_, entering := s.Enter(ctx, jobs.Entries{Type: "Lead", Missing: true, Generation: lost, Deliveries: []jobs.Delivery{s.record("acme", jobs.Pending)}})
		for name, err := range map[string]error{
			"a change": s.ChangeWebhooks(ctx, stale), "a removal": removing, "a reconciliation's page": entering,
		} {
			if !errors.Is(err, jobs.ErrBookmarkMoved) {
				t.Errorf("%s made from the generation that was lost: %v", name, err)
			}
		}
	})
}

// A page that was read with the webhooks as they were is not entered with them as they are, and the other way round.
func TestChangeWebhooksAndEnter(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		before := s.stream("Lead")
		stale := s.changed(jobs.Webhook{ID: "stale", State: jobs.Active})
		s.put(jobs.Webhook{ID: "later", State: jobs.Active})
		if got := s.stream("Lead"); got.Version <= before.Version || got.Generation == before.Generation || got.Bookmark != before.Bookmark {
			t.Errorf("stream %+v, before %+v", got, before)
		}
		d := s.record("acme", jobs.Pending)
		if _, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Version: before.Version, Deliveries: []jobs.Delivery{d}}); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("enter a page read before the change: %v", err)
		}
		if err := s.ChangeWebhooks(ctx, stale); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("a change made from older webhooks: %v", err)
		}
		stale = s.changed(jobs.Webhook{ID: "stale", State: jobs.Active})
		s.enter("", d)
		if err := s.ChangeWebhooks(ctx, stale); !errors.Is(err, jobs.ErrBookmarkMoved) {
			t.Errorf("a change made before a page was entered: %v", err)
		}

		// All at once: exactly one comes first.
		for range 10 {
			version, change := s.stream("Lead").Version, s.changed(jobs.Webhook{ID: "race", State: jobs.Active})
			other := s.open()
			var entered, changed error
			var both sync.WaitGroup
			both.Go(func() {
				_, entered = s.Enter(ctx, jobs.Entries{Type: "Lead", Version: version})
			})
			both.Go(func() { changed = other.ChangeWebhooks(ctx, change) })
			both.Wait()
			if (entered == nil) == (changed == nil) {
				t.Fatalf("both or neither came first: %v, %v", entered, changed)
			}
		}
	})
}

// While a webhook stands still, its records do not age towards give_up_after.
func TestStandingStill(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme", "other")
		lease := s.lease()
		old, fresh, elsewhere := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending), s.record("other", jobs.Sending)
		s.enter(lease, old, fresh, elsewhere)
		old.Lease, fresh.Lease, elsewhere.Lease = lease, lease, lease
		s.settle(s.failed(old, time.Minute), s.failed(elsewhere, time.Minute))
		s.pass(time.Hour)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Held})
		s.pass(time.Hour)
		s.settle(s.failed(fresh, time.Minute)) // it was in flight
		s.pass(time.Hour)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Disabled, StateReason: jobs.ReasonByHand})
		s.pass(time.Hour)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active})
		for name, c := range map[string]struct {
			got  jobs.Delivery
			want time.Time
		}{
			"failed before":      {s.get(old.ID), start.Add(3 * time.Hour)},
			"failed meanwhile":   {s.get(fresh.ID), start.Add(4 * time.Hour)},
			"of another webhook": {s.get(elsewhere.ID), start},
		} {
			if !c.got.FirstFailedAt.Equal(c.want) {
				t.Errorf("%s: first failed at %v, want %v", name, c.got.FirstFailedAt, c.want)
			}
		}
		// Active again and put once more: nothing is added.
		s.pass(time.Hour)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active})
		if got, want := s.get(old.ID).FirstFailedAt, start.Add(3*time.Hour); !got.Equal(want) {
			t.Errorf("first failed at %v, want %v", got, want)
		}
	})
}

func TestPull(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		waiting, early, settling, elsewhere := s.record("acme", jobs.Pending), s.record("acme", jobs.Pending), s.record("acme", jobs.Pending), s.record("other", jobs.Pending)
		waiting.NextAt, elsewhere.NextAt = start.Add(fire), start.Add(fire)
		early.NextAt = start.Add(time.Minute)
		settling.NextAt, settling.NotBefore = start.Add(fire), start.Add(2*time.Hour)
		retrying := s.record("acme", jobs.Sending)
		s.enter(lease, waiting, early, settling, elsewhere, retrying)
		retrying.Lease = lease
		s.settle(s.failed(retrying, 3*time.Hour))
		c := s.changed()
		c.Pull = map[string]time.Time{"acme": start.Add(time.Hour)}
		s.must(s.ChangeWebhooks(ctx, c))
		for name, want := range map[string]struct {
			jobs.Delivery
			after time.Duration
		}{
			"waiting": {waiting, time.Hour}, "earlier": {early, time.Minute}, "settling": {settling, 2 * time.Hour},
			"another webhook's": {elsewhere, fire}, "retrying": {retrying, 3 * time.Hour},
		} {
			if got := s.get(want.ID).NextAt.Sub(start); got != want.after {
				t.Errorf("%s is due after %v, want %v", name, got, want.after)
			}
		}
		s.pass(time.Hour)
		if got := idsOf(s.claim(lease, 1, 1)...); len(got) != 1 || got[0] != early.ID {
			t.Errorf("claimed %v", got)
		}
		if got := must[time.Time](t)(s.NextDue(ctx, []string{"acme"})); !got.Equal(s.Now()) {
			t.Errorf("next due %v, want now", got)
		}
	})
}
