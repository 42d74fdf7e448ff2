package jobs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// leased enters rows of the table as sending under a lease of another process, and returns the lease.
func (b *bench) leased(webhook string, rows ...string) string {
	b.t.Helper()
	ctx := context.Background()
	lease, err := b.ledger.TakeLease(ctx, "another process", 30*time.Second)
	if err != nil {
		b.t.Fatal(err)
	}
	stream, err := b.ledger.Stream(ctx, "Lead")
	if err != nil {
		b.t.Fatal(err)
	}
	e := jobs.Entries{Type: "Lead", Version: stream.Version, Bookmark: bookmark(len(rows)), Lease: lease}
	for _, row := range rows {
		key := jobs.Key{Webhook: webhook, Type: "Lead", Row: row, Action: jobs.ActionCreate}
		e.Deliveries = append(e.Deliveries, jobs.Delivery{
			ID: key.ID(), Key: key, Chatbot: "bot", State: jobs.Sending, Lease: lease, SeenAt: time.Now().UTC(), NextAt: time.Now().UTC(),
		})
	}
	if _, err := b.ledger.Enter(ctx, e); err != nil {
		b.t.Fatal(err)
	}
	return lease
}

// TestRunNowTakesOver: what a process that died was sending is taken on into a run by hand when its lease has run out.
func TestRunNowTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other"))
		defer b.close()
		rows := b.leads.add("bot", 3)
		b.leased("acme", rows...)
		began := time.Now()
		b.crm.answer = func(a attempt) error {
			if a.body == "Lead 3" && a.number == 1 {
				return refuse(a) // a retry of it is waited for, as of any other
			}
			return nil
		}
		run := b.runNow(false, shortLease)
		if run.Gathered != 3 || run.Delivered != 3 || run.Carried != 0 || run.Elsewhere != 0 {
			t.Errorf("run: %+v", run)
		}
		if diff := cmp.Diff(map[string]int{"delivered": 3}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if took := time.Since(began).Round(time.Second); took < 90*time.Second || took > 92*time.Second {
			t.Errorf("it took %v: want 30 s until the lease has run out, and a minute until the retry", took)
		}
	})
}

// TestRunNowOutOfScope: what is being sent to other webhooks keeps no run waiting.
func TestRunNowOutOfScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other"))
		defer b.close()
		b.leased("acme", b.leads.add("bot", 3)...)
		for _, scope := range []jobs.Scope{{Webhooks: []string{"other"}}, {Chatbots: []string{"bot 2"}}, {Types: []string{"Appointment"}}} {
			began := time.Now()
			if _, err := b.runner().RunNow(context.Background(), scope, false, nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%+v: it took %v", scope, took)
			}
		}
		run := b.runNow(true)
		if run.Gathered != 0 || run.Elsewhere != 3 {
			t.Errorf("with noWait: %+v", run)
		}
	})
}

// TestRunNowBesideTheLiving: what a process that lives is sending is its own, and is waited for.
func TestRunNowBesideTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		rows := b.leads.add("bot", 2)
		lease := b.leased("acme", rows...)
		const takes = 70 * time.Second // longer than a lease that is not kept
		done := make(chan struct{})
		go func() {
			defer close(done)
			ctx := context.Background()
			for range int(takes / (10 * time.Second)) {
				time.Sleep(10 * time.Second)
				if err := b.ledger.KeepLease(ctx, lease, 30*time.Second); err != nil {
					t.Error(err)
				}
			}
			var outcomes []jobs.Outcome
			for _, row := range rows {
				key := jobs.Key{Webhook: "acme", Type: "Lead", Row: row, Action: jobs.ActionCreate}
				outcomes = append(outcomes, jobs.Outcome{Lease: lease, Delivery: jobs.Delivery{
					ID: key.ID(), Key: key, Chatbot: "bot", State: jobs.Delivered, Attempts: 1, SettledAt: b.ledger.Now(),
				}, Attempt: &jobs.Attempt{At: b.ledger.Now(), Status: 200}})
			}
			if held, err := b.ledger.Settle(ctx, outcomes); err != nil || !held[0] || !held[1] {
				t.Error(held, err)
			}
		}()
		began := time.Now()
		run := b.runNow(false)
		if took := time.Since(began); took < takes || took > takes+5*time.Second {
			t.Errorf("it took %v", took)
		}
		<-done
		if run.Gathered != 0 || len(b.crm.got("acme")) != 0 {
			t.Errorf("it sent what was another's: %+v", run)
		}
	})
}
