package jobs_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func isDown(attempt) error {
	time.Sleep(100 * time.Millisecond)
	return &jobs.RefusedError{Reason: "connect", Fault: jobs.FaultDown}
}

// TestDownCRM: a CRM that is down takes attempts from few of five hundred records; when it is back they all come.
func TestDownCRM(t *testing.T) {
	for name, how := range map[string]func(*jobs.Webhook){"immediate": immediate, "hourly": func(w *jobs.Webhook) { w.Schedule = "@hourly" }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme", how))
				defer b.close()
				var down atomic.Bool
				down.Store(true)
				b.crm.answer = func(a attempt) error {
					if down.Load() {
						return isDown(a)
					}
					return nil
				}
				ctx, stop := context.WithCancel(context.Background())
				done := make(chan error)
				go func() { done <- b.runner().Serve(ctx, func() {}) }()
				synctest.Wait()
				b.leads.add("bot", 500)
				time.Sleep(2 * time.Hour)
				attempts := len(b.crm.bodies("acme"))
				// Ten to see it, what was under way meanwhile, and a probe in three minutes.
				if most := 10 + 3*8 + 2 + 2*60/3; attempts > most {
					t.Errorf("%d attempts in two hours, want at most %d", attempts, most)
				}
				if w := b.webhook("acme"); w.State != jobs.Held {
					t.Errorf("the webhook is %s (%s)", w.State, w.StateReason)
				}
				down.Store(false)
				time.Sleep(time.Hour)
				if n := b.states()["delivered"]; n != 500 {
					t.Errorf("states: %v", b.states())
				}
				for row, n := range b.crm.got("acme") {
					if n > 45 {
						t.Errorf("%s was tried %d times", row, n)
					}
				}
				if w := b.webhook("acme"); w.State != jobs.Active {
					t.Errorf("the webhook is %s (%s)", w.State, w.StateReason)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestFastFailures: a CRM that refuses at once is held after ten attempts, or twenty that acknowledge nothing, and those
// that were under way, however many records there are and however fast they fail.
func TestFastFailures(t *testing.T) {
	for fault, least := range map[jobs.Fault]int{jobs.FaultDown: 10, jobs.FaultUnmatched: 20} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme", immediate), hook("well", immediate))
				defer b.close()
				b.crm.answer = func(a attempt) error {
					if a.webhook == "well" {
						return nil
					}
					return &jobs.RefusedError{Reason: "refused", Fault: fault}
				}
				b.leads.add("bot", 1500)
				const perWebhook = 4
				b.serve(30*time.Second, func(o *jobs.Options) { o.PerWebhook = perWebhook })
				if n := len(b.crm.bodies("acme")); n < least || n > least+perWebhook {
					t.Errorf("%d attempts", n)
				}
				if w := b.webhook("acme"); w.State != jobs.Held {
					t.Errorf("the webhook is %s", w.State)
				}
				if n := len(b.crm.bodies("well")); n != 1500 {
					t.Errorf("the other webhook got %d", n)
				}
			})
		})
	}
}

// TestRunByHandProbes: a run by hand tries one record of a held webhook, and where it is acknowledged pushes the rest.
func TestRunByHandProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.From = jobs.FromBeginning }), hook("well"))
		defer b.close()
		var down atomic.Bool
		down.Store(true)
		b.crm.answer = func(a attempt) error {
			if a.webhook == "acme" && down.Load() {
				return isDown(a)
			}
			return nil
		}
		b.leads.add("bot", 100)
		b.runNow(false)
		for range 3 {
			before := len(b.crm.bodies("acme"))
			if run := b.runNow(false); run.Pending() != 0 {
				t.Errorf("a run beside a held webhook: %+v", run)
			}
			if n := len(b.crm.bodies("acme")) - before; n != 1 {
				t.Errorf("%d records were tried", n)
			}
		}
		down.Store(false)
		run := b.runNow(true)
		if run.Delivered != 99 || run.Pending() != 0 { // all but the one that was tried first
			t.Errorf("when it is well: %+v", run)
		}
		if n := b.states()["delivered"]; n != 200 {
			t.Errorf("states: %v", b.states())
		}
	})
}

func (b *bench) webhook(id string) jobs.Webhook {
	b.t.Helper()
	set, err := b.ledger.Webhooks(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, w := range set.Webhooks {
		if w.ID == id {
			return w
		}
	}
	b.t.Fatalf("no webhook %s", id)
	return jobs.Webhook{}
}

// TestGone: an endpoint that asks for no more gets no more, until the webhook is enabled by hand.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", immediate))
		defer b.close()
		var gone atomic.Bool
		gone.Store(true)
		b.crm.answer = func(attempt) error {
			time.Sleep(100 * time.Millisecond)
			if gone.Load() {
				return &jobs.RefusedError{Status: 410, Reason: "http_410", Fault: jobs.FaultGone}
			}
			return nil
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- b.runner().Serve(ctx, func() {}) }()
		synctest.Wait()
		b.leads.add("bot", 100)
		time.Sleep(48 * time.Hour)
		if n := len(b.crm.bodies("acme")); n == 0 || n > 20 {
			t.Errorf("%d attempts", n)
		}
		if w := b.webhook("acme"); w.State != jobs.Disabled || w.StateReason != jobs.ReasonGone {
			t.Errorf("the webhook is %s (%s)", w.State, w.StateReason)
		}
		gone.Store(false)
		if _, err := (jobs.Registrar{Ledger: b.ledger}).SetState(ctx, "acme", jobs.Active); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := b.states()["delivered"]; n != 100 {
			t.Errorf("states: %v", b.states())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRetryAfter: an endpoint that asks for more time than the next retry offset gives gets it, up to an hour.
func TestRetryAfter(t *testing.T) {
	for name, tt := range map[string]struct{ asks, want time.Duration }{
		"less than the offset": {10 * time.Second, time.Minute},
		"more":                 {10 * time.Minute, 10 * time.Minute},
		"far more":             {24 * time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme", immediate))
				defer b.close()
				start := time.Now()
				b.crm.answer = func(a attempt) error {
					if a.number == 1 {
						return &jobs.RefusedError{Status: 503, Reason: "http_503", Fault: jobs.FaultDown, RetryAfter: tt.asks}
					}
					return nil
				}
				b.leads.add("bot", 1)
				b.serve(3 * time.Hour)
				if at := b.crm.times("acme", start); len(at) != 2 || at[1] != tt.want {
					t.Errorf("attempts after %v", at)
				}
			})
		})
	}
}

// TestStatesCannotBeRead: a CRM that is down gets no more than it takes to see that while its webhook's state cannot be
// read, for how ever many records wait; when it can be read again they go on.
func TestStatesCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", immediate))
		defer b.close()
		var down, unread atomic.Bool
		down.Store(true)
		b.crm.answer = func(a attempt) error {
			if !down.Load() {
				return nil
			}
			unread.Store(true)
			return isDown(a)
		}
		l := &flawed{Ledger: b.ledger, webhooks: func() error {
			if unread.Load() {
				return errors.New("permission denied for table webhooks")
			}
			return nil
		}}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- b.runner(l.use).Serve(ctx, func() {}) }()
		synctest.Wait()
		b.leads.add("bot", 500)
		time.Sleep(20 * time.Minute)
		if n, most := len(b.crm.bodies("acme")), 10+2*4; n > most {
			t.Errorf("%d attempts, want at most %d", n, most)
		}
		down.Store(false)
		unread.Store(false)
		time.Sleep(20 * time.Minute)
		if diff := cmp.Diff(map[string]int{"delivered": 500}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
