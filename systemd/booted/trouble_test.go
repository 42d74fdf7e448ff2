//go:build booted

package booted_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// paused: a daemon that is stopped by SIGSTOP tells the watchdog nothing. systemd ends it, its stacks are in the journal,
// and it is started again.
func (h *host) paused() {
	h.configure(config("", webhook("paused", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	since, pid := time.Now(), h.pid()
	end := h.inserting("paused")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		h.t.Fatal(err)
	}
	h.again(2*time.Minute, pid)
	h.seconds("SIGSTOP, until it serves again", time.Since(since))
	end()
	h.arrived("paused")
	h.settled("paused", "delivered", h.inserted("paused"))
	h.aborted(since)
}

// aborted checks that systemd ended the daemon for its watchdog, and that it says where it stood.
func (h *host) aborted(since time.Time) {
	h.t.Helper()
	h.says(since, "Watchdog timeout (limit 1min)!")
	h.says(since, "SIGABRT: abort")
	h.says(since, "jobs.(*Runner).dispatch(")
	h.says(since, "Failed with result 'watchdog'.")
	for _, e := range h.entries(since) {
		if strings.Contains(e.Message, "Zdeňka") || strings.Contains(e.Message, password) || strings.Contains(e.Message, signKey) {
			h.t.Errorf("it holds a name or a secret: %s", e.Message)
		}
	}
}

// stalled: somebody's trigger in the ledger lets no record be leased, and reports no error, so retries stay due. /healthz
// says so after a minute, and systemd starts the daemon again a minute after that. Without the trigger all goes.
func (h *host) stalled() {
	h.configure(config("", webhook("stalled", "immediate: true, retry_at: [1s]")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	meddle := func(statement string) {
		output(h.t, "runuser", "--user", "leadrelay", "--", "sqlite3", "-cmd", ".timeout 10000", "/var/lib/leadrelay/ledger.db", statement)
	}
	meddle("create trigger meddles before update of state on deliveries when new.state = 'sending' begin select raise(ignore); end")
	pid, since := h.pid(), time.Now()
	end := h.inserting("stalled")
	h.until(2*time.Minute, func() bool { code, _ := h.health(); return code == http.StatusServiceUnavailable }, "/healthz says that it stands still")
	h.seconds("stall, until /healthz says so", time.Since(since))
	if _, reason := h.health(); !strings.HasPrefix(reason, "the claiming of what is due has failed for 1m") {
		h.t.Errorf("/healthz says %q", reason)
	}
	h.says(since, "the daemon stands still; its watchdog, if there is one, will start it again")
	h.until(10*time.Second, func() bool { return strings.HasPrefix(h.show("StatusText"), "stalled: ") }, "systemctl status says so")
	h.again(3*time.Minute, pid)
	h.seconds("stall, until it serves again", time.Since(since))
	meddle("drop trigger meddles")
	end()
	h.settled("stalled", "delivered", h.inserted("stalled"))
	h.figure("rows during the stall, and those that came again", fmt.Sprintf("%d, %d", h.inserted("stalled"), h.arrived("stalled")))
	h.aborted(since)
}

func (h *host) health() (code int, reason string) {
	h.t.Helper()
	res, err := http.Get("http://127.0.0.1:8787/healthz")
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	var answer struct{ Reason string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, answer.Reason
}
