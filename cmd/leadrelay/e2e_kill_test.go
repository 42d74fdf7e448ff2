package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestKilled: a process is killed in the middle of a run. The next one delivers everything; only what was in flight
// comes to the CRM again, and with the same id.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const perWebhook, takes = 8, 50 * time.Millisecond
			crm, url := startCRM(t, receiver.After(takes, receiver.Success))
			app := newApplication(t, engine)
			s := newSite(t, 3*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
push: {per_webhook: %d}
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, newLedger(t, engine), perWebhook, local, url, signKey))
			rows := app.insertMany("a", 400)
			p := s.start("run-now")
			s.until(func() bool { return crm.Counts().Acked >= 120 }, "the run is under way")
			p.signal(syscall.SIGKILL)
			<-p.ended
			killed := time.Now()
			atKill := crm.Counts()

			next := s.serve()
			s.until(func() bool { return crm.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))
			t.Logf("%d records were at the CRM when the process was killed, all %d %v later", atKill.Acked, len(rows), time.Since(killed).Round(time.Second))
			time.Sleep(300 * time.Millisecond)
			next.stop()

			// In flight was what the workers had begun, and what waited to be settled: at most 50 ms of it, in one batch
			// that was being filled and one that was being committed.
			first := map[string]time.Time{}
			again := 0
			for _, r := range crm.Kept() {
				at, known := first[r.ID]
				if !known {
					first[r.ID] = r.At
					continue
				}
				again++
				if settled := at.Add(takes + 3*time.Second); settled.Before(killed) {
					t.Errorf("a record came again that was acknowledged %v before the process was killed", killed.Sub(at.Add(takes)))
				}
			}
			if len(first) != len(rows) {
				t.Errorf("%d different ids came for %d rows", len(first), len(rows))
			}
			if again > 20*perWebhook {
				t.Errorf("%d records came again", again)
			}
			t.Logf("%d records came again", again)
			for _, d := range s.deliveries() {
				if d.State != "delivered" || d.Attempts != 1 {
					t.Errorf("a lease that ran out costs no attempt: %+v", d)
				}
			}
		})
	}
}

// TestKilledThenByHand: after a kill -9 the next run by hand does not say that all is done while records are leased by the
// process that died: it waits for their lease to run out and sends them, and with --no-wait it says so.
func TestKilledThenByHand(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm, url := startCRM(t, receiver.After(100*time.Millisecond, receiver.Success))
			app := newApplication(t, engine)
			s := newSite(t, 3*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, newLedger(t, engine), local, url, signKey))
			rows := app.insertMany("a", 100)
			p := s.start("run-now")
			s.until(func() bool { return crm.Counts().Acked >= 30 }, "the run is under way")
			p.signal(syscall.SIGKILL)
			<-p.ended
			killed := time.Now()
			out, _ := s.run(exitPending, "run-now", "--no-wait")
			if !strings.Contains(out, "that another process was sending") {
				t.Errorf("with --no-wait it says %s", out)
			}
			run := s.runNow(0)
			if run.Gathered == 0 || run.Delivered != run.Gathered {
				t.Errorf("the run after it: %+v", run)
			}
			if took := time.Since(killed); took > 75*time.Second {
				t.Errorf("all was delivered %v after the kill", took)
			}
			if all := s.deliveries("--state", "delivered"); len(all) != len(rows) {
				t.Errorf("%d of %d are delivered", len(all), len(rows))
			}
		})
	}
}
