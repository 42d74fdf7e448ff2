package main

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestSilentLedger: a ledger whose server neither answers nor goes away keeps nobody for longer than one that is away: a
// daemon stops and says how many records are sent again, and so does ctrl-C in a run by hand.
func TestSilentLedger(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "run-now"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			crm, at := startCRM(t, receiver.After(100*time.Millisecond, receiver.Success))
			app := newApplication(t, "sqlite")
			ledger, err := url.Parse(newLedger(t, "postgres"))
			if err != nil {
				t.Fatal(err)
			}
			way := newLink(t, ledger.Host)
			ledger.Host = way.address()
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
http: {allow_http: true, allow_private: true, timeout: 1s}
webhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, ledger, at, signKey))
			app.insertMany("a", 3000)
			p := s.start(command)
			s.until(func() bool { return crm.Counts().Requests > 100 }, "it is at work")
			way.turn(weather{stalled: true})
			time.Sleep(2 * time.Second) // what was claimed is sent, and waits to be recorded
			began := time.Now()
			p.signal(syscall.SIGINT)
			select {
			case <-p.ended:
			case <-s.ctx.Done():
				t.Fatal("it does not end")
			}
			if took := time.Since(began); took > 30*time.Second { // 6 for requests, 10 to record what was answered
				t.Errorf("it took %v to stop", took)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != exitFailed {
				t.Errorf("exit code %d, want %d", code, exitFailed)
			}
			if text := "outcomes could be recorded; these records are sent again"; !strings.Contains(p.errs.String(), text) {
				t.Errorf("it does not say that %s", text)
			}
		})
	}
}
