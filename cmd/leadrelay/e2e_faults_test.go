package main

import (
	"fmt"
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
	bad := []string{"hang", "hang-body", "slow", "reset", "flood", "gzip-bomb", "not-http"}
	presets := newPresetCRM()
	url := startServer(t, presets, presets.close)
	crm, good := startCRM(t, nil)
	app := newApplication(t, "postgres")
	var config strings.Builder
	fmt.Fprintf(&config, "source: %q\nledger: %q\nhttp: {timeout: 4s, allow_http: true, allow_private: true}\nimmediate: true\nwebhooks:\n",
		app.source, newLedger(t, "postgres"))
	for _, name := range bad {
		fmt.Fprintf(&config, "  - {id: %s, chatbot: %[1]s, url: %q, retry_at: [1h]}\n", name, url+"/"+name)
	}
	fmt.Fprintf(&config, "  - {id: w, chatbot: a, url: %q, sign_key: %q}\n", good, signKey)
	s := newSite(t, time.Minute, config.String())
	app.installTrigger(s)
	p := s.serve()
	for _, name := range bad {
		app.insertMany(name, 150)
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
	if longest > 3*time.Second {
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

// TestSchedules: webhooks with schedules of their own on one stream each get every record once, at their own times.
func TestSchedules(t *testing.T) {
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
	s := newSite(t, time.Minute, config.String())
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
