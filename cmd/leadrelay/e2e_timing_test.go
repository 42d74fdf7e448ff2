package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestTiming is what a busy machine would spoil: it runs before the tests that run side by side.
func TestTiming(t *testing.T) {
	t.Run("retries", testRetries)
	t.Run("schedules", testSchedules)
	for _, engine := range engines {
		t.Run("immediate, "+engine, func(t *testing.T) { testImmediate(t, engine) })
	}
}

// testRetries: with retry_at: [3s, 9s] each retry comes within a second of its offset from the first failure, measured
// at the CRM, which refuses records and is not down, so that nothing is held; by run-now from SQLite and by the daemon from PostgreSQL.
func testRetries(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm, url := startCRM(t, receiver.Each(receiver.Status(422), receiver.Status(409), receiver.Success))
			app := newApplication(t, engine)
			s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning, retry_at: [3s, 9s], immediate: %v}]
`, app.source, newLedger(t, engine), local, url, signKey, engine == "postgres"))
			rows := app.insertMany("a", 40)
			if engine == "sqlite" {
				if run := s.runNow(0); run.Delivered != len(rows) {
					t.Errorf("the run: %+v", run)
				}
			} else {
				p := s.serve()
				s.until(func() bool { return crm.Counts().Acked == len(rows) }, "all are acknowledged")
				p.stop()
			}
			came := map[string][]time.Time{}
			for _, r := range crm.Kept() {
				came[r.ID] = append(came[r.ID], r.At)
			}
			var late [3]time.Duration // the latest, by attempt
			for id, at := range came {
				if len(at) != 3 {
					t.Errorf("%s came %d times, want 3", id, len(at))
					continue
				}
				for i, offset := range []time.Duration{0, 3 * time.Second, 9 * time.Second} {
					off := at[i].Sub(at[0]) - offset
					if off < -10*time.Millisecond || off > time.Second { // the first failure is a moment after it came
						t.Errorf("attempt %d of %s came %v from its offset", i+1, id, off)
					}
					late[i] = max(late[i], off)
				}
			}
			t.Logf("%d records; at the latest %v and %v after their offsets", len(came), late[1], late[2])
			exactlyOnce(t, crm, "w", "Lead", rows)
		})
	}
}

// testImmediate: a row committed in immediate mode is at the CRM in under a second.
func testImmediate(t *testing.T, engine string) {
	t.Parallel()
	crm, url := startCRM(t, nil)
	app := newApplication(t, engine)
	s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q}]
`, app.source, newLedger(t, engine), local, url, signKey))
	app.installTrigger(s)
	p := s.serve()
	var rows []int64
	var took []time.Duration
	for i := range 15 {
		time.Sleep(time.Duration(i%5) * 70 * time.Millisecond) // not in step with any poll
		rows = append(rows, app.insert("a"))
		committed := time.Now()
		s.until(func() bool { return crm.Counts().Requests > i }, "row %d is at the CRM", i)
		kept := crm.Kept()
		took = append(took, kept[len(kept)-1].At.Sub(committed))
	}
	p.stop()
	exactlyOnce(t, crm, "w", "Lead", rows)
	slices.Sort(took)
	t.Logf("from commit to CRM: median %v, longest %v", took[len(took)/2], took[len(took)-1])
	if longest := took[len(took)-1]; longest >= time.Second {
		t.Errorf("a row took %v from its commit to the CRM", longest)
	}
}

// testSchedules: webhooks with schedules of their own on one stream each get every record once, at their own times.
func testSchedules(t *testing.T) {
	t.Parallel()
	crms := map[string]*receiver.Receiver{}
	every := map[string]time.Duration{"often": 2 * time.Second, "seldom": 5 * time.Second}
	app := newApplication(t, "sqlite")
	var config strings.Builder
	fmt.Fprintf(&config, "source: %q\n%swebhooks:\n", app.source, local)
	for id, interval := range every {
		var url string
		crms[id], url = startCRM(t, nil)
		fmt.Fprintf(&config, "  - {id: %s, chatbot: a, url: %q, sign_key: %q, schedule: \"@every %v\"}\n", id, url, signKey, interval)
	}
	s := newSite(t, 2*time.Minute, config.String())
	p := s.serve()
	var rows []int64
	for range 28 {
		rows = append(rows, app.insert("a"))
		time.Sleep(250 * time.Millisecond)
	}
	s.until(func() bool {
		return crms["often"].Counts().Acked == len(rows) && crms["seldom"].Counts().Acked == len(rows)
	}, "both have all %d records", len(rows))
	p.stop()
	for id, interval := range every {
		exactlyOnce(t, crms[id], id, "Lead", rows)
		for _, r := range crms[id].Kept() {
			if after := r.At.Sub(r.At.Truncate(interval)); after > time.Second { // @every fires at multiples since the epoch
				t.Errorf("a record came to %s %v after its schedule fired", id, after)
				break
			}
		}
	}
}
