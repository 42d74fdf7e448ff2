package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestRateOfTwoDaemons: a webhook's rate holds over two daemons and a run by hand, which together use it up.
func TestRateOfTwoDaemons(t *testing.T) {
	t.Parallel()
	const rate, records = 20, 80
	crm, url := startCRM(t, nil)
	app := newApplication(t, "postgres")
	config := fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%swebhooks: [{id: slow, chatbot: a, url: %q, sign_key: %q, from: beginning, rate: %d/s}]
`, app.source, newLedger(t, "postgres"), local, url, signKey, rate)
	s, beside := newSite(t, 2*time.Minute, config), newSite(t, 2*time.Minute, config)
	a, b := s.serve(), beside.serve()
	rows := app.insertMany("a", records)
	if run := s.runNow(0); run.Pending+run.Dead > 0 {
		t.Errorf("the run left something: %+v", run)
	}
	s.soon(func() bool { return crm.Counts().Acked == records }, "all records are at the CRM")
	a.stop()
	b.stop()
	exactlyOnce(t, crm, "slow", "Lead", rows)
	var at []time.Time
	for _, r := range crm.Kept() {
		at = append(at, r.At)
	}
	slices.SortFunc(at, time.Time.Compare)
	// Requests are evenly spaced when they are sent; when they come, the machine has its say, for a second at most. Were the
	// rate each process's own, they would come in half the time.
	took := at[records-1].Sub(at[0])
	if least := time.Second * (records - 1 - rate) / rate; took < least {
		t.Errorf("%d requests came within %v, which should take %v", records, took, least)
	}
	t.Logf("%d requests came in %v", records, took.Round(time.Millisecond))
}
