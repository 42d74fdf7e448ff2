//go:build booted

package booted_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
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

// stalled: the connections to the ledger are forgotten on the way, while the ledger answers others. /healthz says so after
// a minute, and systemd starts the daemon again a minute after that.
func (h *host) stalled() {
	output(h.t, "runuser", "--user", "postgres", "--", "createdb", "--owner", "leadrelay_reader", "ledger")
	route, address, err := pgtest.NewRoute("postgres://127.0.0.1:5432/ledger")
	if err != nil {
		h.t.Fatal(err)
	}
	defer route.Close()
	by, err := url.Parse(address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.configure(config("ledger: postgres://leadrelay_reader:${file:/etc/leadrelay/source.pw}@"+by.Host+"/ledger\n", webhook("stalled", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	defer func() { // its connections end with it
		if _, code := h.tries("sudo systemctl stop leadrelay"); code != 0 {
			h.t.Error("it does not stop")
		}
	}()
	end := h.inserting("stalled")
	h.until(time.Minute, func() bool { return h.crm.ByChatbot()["stalled"].Acked > 50 }, "it serves")

	pid, since := h.pid(), time.Now()
	route.Forget()
	h.until(2*time.Minute, func() bool { code, _ := h.health(); return code == http.StatusServiceUnavailable }, "/healthz says that it stands still")
	h.seconds("stall, until /healthz says so", time.Since(since))
	_, reason := h.health()
	if !strings.Contains(reason, "has had no answer from the ledger for 1m") {
		h.t.Errorf("/healthz says %q", reason)
	}
	h.says(since, "the daemon stands still; its watchdog, if there is one, will start it again")
	h.until(10*time.Second, func() bool { return strings.HasPrefix(h.show("StatusText"), "stalled: ") }, "systemctl status says so")
	h.again(3*time.Minute, pid)
	h.seconds("stall, until it serves again", time.Since(since))
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
