package main

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestSideBySide: a daemon and runs by hand on one ledger push no record twice, while rows are committed all the time;
// to a webhook that is immediate, to one that has a schedule, and to one that is down for each record's first attempt:
// it is held again and again, and probed with what was tried.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crms := map[string]*receiver.Receiver{}
			urls := map[string]string{}
			for webhook, answer := range map[string]receiver.Behaviour{
				"atonce": nil, "scheduled": nil, "failing": receiver.Each(receiver.Status(503), receiver.Success),
			} {
				crms[webhook], urls[webhook] = startCRM(t, answer)
			}
			app := newApplication(t, engine)
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: atonce, chatbot: a, url: %q, sign_key: %[5]q, from: beginning, immediate: true}
  - {id: scheduled, chatbot: a, url: %[6]q, sign_key: %[5]q, from: beginning, schedule: "@every 1s"}
  - {id: failing, chatbot: b, url: %[7]q, sign_key: %[5]q, from: beginning, schedule: "@every 2s", retry_at: [1s]}
`, app.source, newLedger(t, engine), local, urls["atonce"], signKey, urls["scheduled"], urls["failing"]))
			app.installTrigger(s)
			rows, failing := app.insertMany("a", 600), app.insertMany("b", 40)
			p := s.serve()
			var work sync.WaitGroup
			for range 2 {
				work.Go(func() {
					for range 3 {
						if stdout, stderr, code := s.try("run-now"); code != 0 && code != exitPending {
							t.Errorf("run-now: exit code %d\n%s%s", code, stdout, stderr)
						}
					}
				})
			}
			var added []int64
			work.Go(func() {
				for range 40 {
					added = append(added, app.insertMany("a", 15)...)
					time.Sleep(20 * time.Millisecond)
				}
			})
			work.Wait()
			rows = append(rows, added...)
			s.soon(func() bool {
				return crms["atonce"].Counts().Acked == len(rows) && crms["scheduled"].Counts().Acked == len(rows) && crms["failing"].Counts().Acked == len(failing)
			}, "all %d rows are at the CRMs", len(rows))
			time.Sleep(300 * time.Millisecond) // what came twice would come now
			p.stop()
			exactlyOnce(t, crms["atonce"], "atonce", "Lead", rows)
			exactlyOnce(t, crms["scheduled"], "scheduled", "Lead", rows)
			exactlyOnce(t, crms["failing"], "failing", "Lead", failing)
			if c := crms["failing"].Counts(); c.Requests != 2*len(failing) {
				t.Errorf("each record was to be tried twice: %+v", c)
			}
			if run := s.runNow(0); run.Gathered+run.Carried != 0 {
				t.Errorf("something was left: %+v", run)
			}
		})
	}
}

// startProxy starts a proxy that counts the requests that go through it.
func startProxy(t *testing.T) (requests *atomic.Int64, url string) {
	t.Helper()
	requests = new(atomic.Int64)
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) { requests.Add(1) }, Transport: transport}
	return requests, startServer(t, proxy, transport.CloseIdleConnections)
}

// TestTwoDaemons: two daemons on one ledger in PostgreSQL share the work, and one goes on alone where the other is
// stopped in the middle of it; no record is pushed twice. Each sends through a proxy of its own, which tells them apart.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.After(15*time.Millisecond, receiver.Success))
	app := newApplication(t, "postgres")
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
http: {allow_http: true, allow_private: true, proxy: "${PROXY}"}
webhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, newLedger(t, "postgres"), url, signKey))
	app.installTrigger(s)
	var daemons [2]*process
	var sent [2]*atomic.Int64
	for i := range daemons {
		var proxy string
		sent[i], proxy = startProxy(t)
		s.env = []string{"PROXY=" + proxy}
		daemons[i] = s.serve()
	}

	var rows []int64
	for range 60 {
		rows = append(rows, app.insertMany("a", 20)...)
		time.Sleep(10 * time.Millisecond)
	}
	s.until(func() bool { return crm.Counts().Acked >= len(rows)/2 }, "half of %d rows are at the CRM", len(rows))
	daemons[0].stop()
	rows = append(rows, app.insertMany("a", 50)...)
	s.soon(func() bool { return crm.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))
	daemons[1].stop()
	exactlyOnce(t, crm, "w", "Lead", rows)
	for i := range sent {
		if n := sent[i].Load(); n < int64(len(rows)/20) {
			t.Errorf("the work was not shared: daemon %d sent %d of %d records", i, n, len(rows))
		}
	}
	t.Logf("of %d records one daemon sent %d until it was stopped, the other %d", len(rows), sent[0].Load(), sent[1].Load())
}
