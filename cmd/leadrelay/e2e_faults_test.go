package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
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
