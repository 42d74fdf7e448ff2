package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func (b *bench) registrar() jobs.Registrar {
	made := 0
	return jobs.Registrar{
		Ledger: b.ledger, Sources: []jobs.Source{b.leads},
		NewKey: func(string) jobs.Secret { made++; return jobs.Secret(fmt.Sprint("made ", made)) },
		Signs:  func(string) bool { return true },
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestRegistrar: a webhook is entered beside a running daemon, gets what comes from then on, is disabled, enabled and
// removed.
func TestRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- b.runner().Serve(ctx, func() {}) }()
		time.Sleep(time.Hour)
		b.leads.add("bot", 1) // before it
		r := b.registrar()
		w := must[jobs.Webhook](t)(r.Add(ctx, hook("acme", func(w *jobs.Webhook) { w.Immediate = true })))
		if w.SignKey != "made 1" || w.State != jobs.Active {
			t.Errorf("added: %+v", w)
		}
		if _, err := r.Add(ctx, hook("acme", func(w *jobs.Webhook) { w.URL = "https://elsewhere.example.com" })); !errors.Is(err, jobs.ErrExists) {
			t.Errorf("the same id again: %v", err)
		}
		if _, err := r.Add(ctx, hook("twin")); !errors.Is(err, jobs.ErrExists) {
			t.Errorf("the same chatbot, URL, dialect and types again: %v", err)
		}
		time.Sleep(time.Hour)
		b.leads.add("bot", 1)
		time.Sleep(time.Hour)
		if diff := cmp.Diff(once("Lead", "2"), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}

		must[jobs.Webhook](t)(r.SetState(ctx, "acme", jobs.Disabled))
		time.Sleep(time.Hour)
		b.leads.add("bot", 2)
		time.Sleep(26 * time.Hour)
		if diff := cmp.Diff(map[string]int{"delivered": 1, "pending": 2}, b.states()); diff != "" {
			t.Errorf("while disabled (-want +got):\n%s", diff)
		}
		must[jobs.Webhook](t)(r.SetState(ctx, "acme", jobs.Active))
		time.Sleep(25 * time.Hour)
		if diff := cmp.Diff(once("Lead", "2", "3", "4"), b.crm.got("acme")); diff != "" {
			t.Errorf("enabled again (-want +got):\n%s", diff)
		}

		b.crm.mu.Lock()
		b.crm.answer = refuse
		b.crm.mu.Unlock()
		b.leads.add("bot", 3)
		time.Sleep(time.Hour)
		if n := must[int](t)(r.Remove(ctx, "acme")); n != 3 {
			t.Errorf("removing it left %d records undelivered, want 3", n)
		}
		b.leads.add("bot", 1)
		time.Sleep(48 * time.Hour)
		if diff := cmp.Diff(map[string]int{"delivered": 3, "dead removed": 3}, b.states()); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		if _, err := r.SetState(ctx, "acme", jobs.Active); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("a removed webhook was enabled: %v", err)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestRegistrarChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("ours"))
		defer b.close()
		ctx, r := context.Background(), b.registrar()
		if _, err := r.Change(ctx, "ours", func(*jobs.Webhook) error { return nil }); !errors.Is(err, jobs.ErrProvisioned) {
			t.Errorf("a webhook of a file was changed by hand: %v", err)
		}
		if _, err := r.Remove(ctx, "ours"); !errors.Is(err, jobs.ErrProvisioned) {
			t.Errorf("a webhook of a file was removed by hand: %v", err)
		}
		must[jobs.Webhook](t)(r.Add(ctx, hook("acme", func(w *jobs.Webhook) { w.URL = "https://acme.example.com" })))
		w := must[jobs.Webhook](t)(r.Change(ctx, "acme", func(w *jobs.Webhook) error {
			w.ID, w.Schedule, w.From, w.State = "other", "@hourly", jobs.FromBeginning, jobs.Held
			return nil
		}))
		if w.ID != "acme" || w.Schedule != "@hourly" || w.From != jobs.FromNow || w.State != jobs.Active {
			t.Errorf("changed to %+v", w)
		}
		must[jobs.Webhook](t)(r.SetState(ctx, "ours", jobs.Disabled))
		b.provision(b.hooks...)
		for _, w := range must[jobs.Registered](t)(b.ledger.Webhooks(ctx)).Webhooks {
			if w.ID == "ours" && (w.State != jobs.Disabled || w.StateReason != jobs.ReasonByHand) {
				t.Errorf("the file's next provisioning enabled what was disabled by hand: %+v", w)
			}
		}
	})
}

func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("given", func(w *jobs.Webhook) { w.SignKey = "from the file" }), hook("made"))
		defer b.close()
		ctx, r := context.Background(), b.registrar()
		if _, err := r.Rotate(ctx, "given", jobs.Rotation{Overlap: time.Hour}); err == nil {
			t.Error("a key that a file gives was rotated")
		}
		w := must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{Overlap: time.Hour}))
		if w.SignKey != "made 1" || w.OldKey != "made" || !w.OldKeyUntil.Equal(b.ledger.Now().Add(time.Hour)) {
			t.Errorf("rotated to %q, old %q until %v", w.SignKey.Reveal(), w.OldKey.Reveal(), w.OldKeyUntil)
		}
		// Another in the overlap would drop the key that the CRM has.
		until := w.OldKeyUntil.Format(time.RFC3339)
		if _, err := r.Rotate(ctx, "made", jobs.Rotation{Overlap: 24 * time.Hour}); !errors.Is(err, jobs.ErrNotRotated) || !strings.Contains(err.Error(), until) {
			t.Errorf("rotated again in the overlap: %v", err)
		}
		if is := must[jobs.Registered](t)(b.ledger.Webhooks(ctx)).Webhooks[1]; is.SignKey != w.SignKey || is.OldKey != w.OldKey {
			t.Errorf("the keys are %q and %q", is.SignKey.Reveal(), is.OldKey.Reveal())
		}
		if did := b.provision(b.hooks...); !cmp.Equal(did, jobs.Provisioned{}) {
			t.Errorf("the same file again did %+v", did)
		}
		if w = must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{Finish: true})); w.OldKey != "" || w.SignKey != "made 1" {
			t.Errorf("finished: key %q, old %q", w.SignKey.Reveal(), w.OldKey.Reveal())
		}
		if w = must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{})); w.OldKey != "" || w.SignKey != "made 2" {
			t.Errorf("rotated at once: key %q, old %q", w.SignKey.Reveal(), w.OldKey.Reveal())
		}
		// A key that leaked goes at once, in an overlap too; one that is over is in nobody's way.
		must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{Overlap: time.Hour}))
		if w = must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{})); w.OldKey != "" || w.SignKey != "made 4" {
			t.Errorf("rotated at once in an overlap: key %q, old %q", w.SignKey.Reveal(), w.OldKey.Reveal())
		}
		must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{Overlap: time.Hour}))
		time.Sleep(time.Hour)
		if w = must[jobs.Webhook](t)(r.Rotate(ctx, "made", jobs.Rotation{Overlap: time.Hour})); w.OldKey != "made 5" || w.SignKey != "made 6" {
			t.Errorf("rotated when the overlap was over: key %q, old %q", w.SignKey.Reveal(), w.OldKey.Reveal())
		}
	})
}
