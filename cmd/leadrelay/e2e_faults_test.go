package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestBadCRMs: CRMs that hang, reset, flood or answer a byte a second have hundreds of records before those of the good
// ones in the table. The good ones' arrive meanwhile, at the first attempt and as quickly as without the bad ones.
func TestBadCRMs(t *testing.T) {
	t.Parallel()
	bad := []string{"hang", "hang-headers", "hang-body", "slow", "reset", "flood", "flood-headers", "gzip-bomb", "not-http"}
	presets := newPresetCRM()
	url := startServer(t, presets, presets.close)
	crm, good := startCRM(t, nil)
	app := newApplication(t, "postgres")
	var config strings.Builder
	fmt.Fprintf(&config, "source: %q\nledger: %q\nhttp: {timeout: 3s, allow_http: true, allow_private: true}\nimmediate: true\nwebhooks:\n",
		app.source, newLedger(t, "postgres"))
	for _, name := range bad {
		fmt.Fprintf(&config, "  - {id: %s, chatbot: %[1]s, url: %q, retry_at: [1h]}\n", name, url+"/"+name)
	}
	fmt.Fprintf(&config, "  - {id: w, chatbot: a, url: %q, sign_key: %q}\n", good, signKey)
	s := newSite(t, 2*time.Minute, config.String())
	app.installTrigger(s)
	p := s.serve()
	for _, name := range bad {
		app.insertMany(name, 100)
	}
	var rows []int64
	var longest time.Duration
	for range 10 {
		rows = append(rows, app.insertMany("a", 20)...)
		committed := time.Now()
		s.until(func() bool { return crm.Counts().Acked == len(rows) }, "the good CRM has its %d records", len(rows))
		longest = max(longest, time.Since(committed))
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("beside %d bad CRMs 20 records took %v at the longest", len(bad), longest)
	if longest > 2500*time.Millisecond {
		t.Errorf("20 records of the good CRM took %v", longest)
	}
	p.stop()
	exactlyOnce(t, crm, "w", "Lead", rows)
	for _, d := range s.deliveries() {
		switch {
		case d.Webhook == "w" && d.State == "delivered" && d.Attempts == 1:
		case slices.Contains(bad, d.Webhook) && d.State == "pending" && d.Attempts <= 1:
		default:
			t.Errorf("%+v", d)
		}
	}
}

// TestFailingSchedule: while the ledger refuses the runs of one schedule, retries go and other schedules fire, without haste
// in trying again; that is said once. When the ledger takes them, that schedule fires too.
func TestFailingSchedule(t *testing.T) {
	t.Parallel()
	crms, urls := map[string]*receiver.Receiver{}, map[string]string{}
	for webhook, answer := range map[string]receiver.Behaviour{
		"refused": nil, "scheduled": nil, "retried": receiver.Each(receiver.Status(http.StatusBadRequest), receiver.Success),
	} {
		crms[webhook], urls[webhook] = startCRM(t, answer)
	}
	app, ledger := newApplication(t, "sqlite"), newLedger(t, "sqlite")
	s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: refused, chatbot: a, url: %q, sign_key: %[5]q, from: beginning, schedule: "@every 1s"}
  - {id: scheduled, chatbot: a, url: %[6]q, sign_key: %[5]q, from: beginning, schedule: "@every 2s"}
  - {id: retried, chatbot: a, url: %[7]q, sign_key: %[5]q, from: beginning, immediate: true, retry_at: [1s]}
`, app.source, ledger, local, urls["refused"], signKey, urls["scheduled"], urls["retried"]))
	s.runNow(0)
	path, _ := cutSQLite(ledger)
	meddler, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer meddler.Close()
	if _, err := meddler.Exec(`create trigger meddles before insert on runs when new.schedule like '@every 1s%' begin select raise(abort, 'not today'); end`); err != nil {
		t.Fatal(err)
	}
	p := s.serve()
	rows := app.insertMany("a", 20)
	for _, webhook := range []string{"retried", "scheduled"} {
		s.soon(func() bool { return crms[webhook].Counts().Acked == len(rows) }, "webhook %s has its records", webhook)
	}
	before := cpuTime(t, p)
	time.Sleep(4 * time.Second)
	if took := cpuTime(t, p) - before; took > 1500*time.Millisecond {
		t.Errorf("while a run cannot be started it took %v of CPU in 4 seconds", took)
	}
	if n := strings.Count(p.errs.String(), "not today"); n != 1 {
		t.Errorf("that a run could not be started was said %d times", n)
	}
	if _, err := meddler.Exec(`drop trigger meddles`); err != nil {
		t.Fatal(err)
	}
	p.says(`schedule="@every 1s" fire=`)
	s.soon(func() bool { return crms["refused"].Counts().Acked == len(rows) }, "that schedule's webhook has its records")
	p.stop()
	for webhook, crm := range crms {
		exactlyOnce(t, crm, webhook, "Lead", rows)
	}
}
