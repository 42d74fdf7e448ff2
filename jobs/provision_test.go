package jobs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// TestProvisioning: what changes in the file changes in the ledger, and nothing else.
func TestProvisioning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("kept"), hook("goes"))
		defer b.close()
		webhook := func(id string) jobs.Webhook {
			set, err := b.ledger.Webhooks(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range set.Webhooks {
				if w.ID == id {
					return w
				}
			}
			t.Fatalf("no webhook %s", id)
			return jobs.Webhook{}
		}
		if w := webhook("kept"); w.SignKey != "made" || !w.KeyMade {
			t.Errorf("no key was made: %+v", w)
		}
		if did := b.provision(b.hooks...); !cmp.Equal(did, jobs.Provisioned{}) {
			t.Errorf("the same file again did %+v", did)
		}
		did := b.provision(hook("kept", func(w *jobs.Webhook) { w.From, w.URL = jobs.FromBeginning, "https://other.example.com" }), hook("new"))
		want := jobs.Provisioned{Entered: []string{"new"}, Changed: []string{"kept"}, Disabled: []string{"goes"}, FromKept: []string{"kept"}}
		if diff := cmp.Diff(want, did); diff != "" {
			t.Errorf("did (-want +got):\n%s", diff)
		}
		if w := webhook("kept"); w.From != jobs.FromNow || w.URL != "https://other.example.com" || w.SignKey != "made" {
			t.Errorf("kept: %+v", w)
		}
		if w := webhook("goes"); w.State != jobs.Disabled || w.StateReason != jobs.ReasonNotYAML {
			t.Errorf("goes: %+v", w)
		}
		b.leads.add("bot", 1)
		b.runNow(false)
		n, _, err := b.ledger.Deliveries(context.Background(), ledger.Filter{Webhooks: []string{"goes"}})
		if err != nil || len(n) != 1 || n[0].State != jobs.Pending {
			t.Errorf("a disabled webhook still gathers; got %+v, %v", n, err)
		}
	})
}

// TestScheduleChange: records that wait for a daily fire go with the next hourly one once the schedule is hourly.
func TestScheduleChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("hourly", func(w *jobs.Webhook) { w.Schedule = "@hourly" }))
		defer b.close()
		b.leads.add("bot", 1)
		b.serve(90 * time.Minute) // the hourly run entered it for both
		b.provision(hook("acme", func(w *jobs.Webhook) { w.Schedule = "30 * * * *" }), b.hooks[1])
		start := time.Now()
		b.serve(2 * time.Hour)
		if diff := cmp.Diff([]time.Duration{time.Hour}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

// TestSettle: a record is not pushed before it has settled, whatever the run.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Immediate = true }))
		defer b.close()
		b.leads.settle = 20 * time.Minute
		start := time.Now()
		go func() {
			time.Sleep(time.Minute)
			b.leads.add("bot", 1)
		}()
		b.serve(time.Hour)
		if diff := cmp.Diff([]time.Duration{21 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

func TestBackfillByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		rows := b.leads.add("bot", 3)
		time.Sleep(time.Hour)
		since := time.Now()
		rows = append(rows, b.leads.add("bot", 2)...)
		b.provision(hook("acme"))
		backfill := func(since time.Time, dryRun bool) int {
			n, err := jobs.BackfillByHand(context.Background(), b.ledger, []jobs.Source{b.leads}, "acme", since, time.Time{}, dryRun)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := backfill(time.Time{}, true); n != 5 {
			t.Errorf("counted %d older rows", n)
		}
		if run := b.runNow(false); run.Gathered != 0 {
			t.Errorf("a dry run entered %d rows", run.Gathered)
		}
		if n := backfill(since, false); n != 2 {
			t.Errorf("%d rows since the hour", n)
		}
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", rows[3:]...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		backfill(time.Time{}, false)
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestChangesAreNoticed: a daemon notices webhooks that another process enters, be it that the first of its streams is not
// in the ledger.
func TestChangesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		var rows []string
		go func() {
			time.Sleep(10 * time.Minute)
			b.provision(hook("acme"), hook("later", func(w *jobs.Webhook) { w.Schedule = "@every 5m" }))
			rows = b.leads.add("bot", 1)
		}()
		b.serve(30*time.Minute, func(o *jobs.Options) {
			o.Sources, o.Poll = []jobs.Source{newTable("Appointment"), b.leads}, time.Second
		})
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("later")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}
