package jobs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// TestLargeBodiesAreClaimedFewAtATime: where bodies are large, what is not handed to the workers at once is claimed as
// there are bytes for it, and little of what is claimed has to be put back.
func TestLargeBodiesAreClaimedFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other"))
		defer b.close()
		b.crm.blanks = 1 << 20
		b.crm.answer = func(attempt) error {
			time.Sleep(time.Second)
			return nil
		}
		rows := b.leads.add("bot", 100)
		if run := b.runNow(false); run.Delivered != 200 {
			t.Errorf("%d of 200 are delivered", run.Delivered)
		}
		for _, webhook := range []string{"acme", "other"} {
			if diff := cmp.Diff(once("Lead", rows...), b.crm.got(webhook)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", webhook, diff)
			}
		}
		all, _, err := b.ledger.Deliveries(t.Context(), ledger.Filter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		claims := 0
		for i := range all {
			claims += all[i].Claims
		}
		if claims < 150 || claims > 500 {
			t.Errorf("200 deliveries were claimed %d times", claims)
		}
	})
}

// TestRereadInPages: a source that gives few rows at once is asked until it has been asked for all.
func TestRereadInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other"))
		defer b.close()
		b.crm.answer = refuse
		rows := b.leads.add("bot", 50)
		b.runNow(true)
		b.leads.atOnce = 7
		b.leads.gone[rows[20]], b.leads.gone[rows[49]] = true, true
		b.crm.answer = nil
		b.serve(5 * time.Minute)
		if diff := cmp.Diff(map[string]int{"delivered": 96, "dead withdrawn": 4}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}
