package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestPooler: source and ledger are reached through a pgbouncer in transaction mode that has two connections to each. A
// daemon and runs by hand beside it deliver everything once: to a webhook that is immediate, whose new rows are found by
// polling, and to one that has a schedule and is down for each record's first attempt. `check` says what of it is slower.
func TestPooler(t *testing.T) {
	t.Parallel()
	source, direct := pgtest.Pooled(t)
	ledger, _ := pgtest.Pooled(t)
	app := openApplication(t, direct)
	atonce, atonceURL := startCRM(t, nil)
	failing, failingURL := startCRM(t, receiver.Each(receiver.Status(503), receiver.Success))
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
admin: {listen: 127.0.0.1:0}
%swebhooks:
  - {id: atonce, chatbot: a, url: %q, sign_key: %[5]q, from: beginning, immediate: true}
  - {id: failing, chatbot: b, url: %[6]q, sign_key: %[5]q, from: beginning, schedule: "@every 2s", retry_at: [1s]}
`, source, ledger, local, atonceURL, signKey, failingURL))
	app.installTrigger(s)
	rows, others := app.insertMany("a", 700), app.insertMany("b", 40)
	p := s.serve()
	s.soon(func() bool { return atonce.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))
	rows = append(rows, app.insertMany("a", 300)...)
	s.soon(func() bool { return atonce.Counts().Acked == len(rows) }, "what came since was found by polling")
	for range 3 {
		rows, others = append(rows, app.insertMany("a", 100)...), append(others, app.insertMany("b", 10)...)
		if stdout, stderr, code := s.try("run-now"); code != 0 && code != exitPending {
			t.Errorf("run-now: exit code %d\n%s%s", code, stdout, stderr)
		}
	}
	s.soon(func() bool { return atonce.Counts().Acked == len(rows) && failing.Counts().Acked == len(others) }, "all rows are at the CRMs")
	askHealth(t, p)
	time.Sleep(300 * time.Millisecond) // what came twice would come now
	p.stop()
	exactlyOnce(t, atonce, "atonce", "Lead", rows)
	exactlyOnce(t, failing, "failing", "Lead", others)
	if run := s.runNow(0); run.Gathered+run.Carried != 0 {
		t.Errorf("something was left: %+v", run)
	}
	for _, level := range []string{"level=ERROR", "is away"} {
		if strings.Contains(p.errs.String(), level) {
			t.Errorf("it logged %s", level)
		}
	}
	checked := func() string {
		stdout, _ := s.run(0, "check")
		return stdout
	}
	const polls = "warn   source: immediate: true, and a pooler in transaction mode is between, which lets nobody be woken: new rows are found by polling, within about 10 s; "
	if said := checked(); !strings.Contains(said, polls) || !strings.Contains(said, "ok     ledger: opened\n") || strings.Contains(said, "no trigger wakes") {
		t.Errorf("behind a pooler check says:\n%s", said)
	}
	s.configure(fmt.Sprintf("source: %q\nledger: %q\n%swebhooks: [{id: atonce, chatbot: a, url: %q, sign_key: %q, immediate: true}]\n",
		direct, ledger, local, atonceURL, signKey))
	if said := checked(); strings.Contains(said, "pooler") {
		t.Errorf("without one check says:\n%s", said)
	}
}
