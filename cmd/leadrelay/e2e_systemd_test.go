package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// A manager is the service manager's end of NOTIFY_SOCKET.
type manager struct {
	mu   sync.Mutex
	told []string
}

func startManager(t *testing.T) (m *manager, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify-") // a socket's path is short, and t.TempDir's is not
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m = &manager{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
		_ = os.RemoveAll(dir)
	})
	return m, socket
}

// since returns what was told after the first n messages, without what is told all the time.
func (m *manager) since(n int) (told []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range m.told[n:] {
		if message != "WATCHDOG=1" && !strings.HasPrefix(message, "STATUS=") && !strings.HasPrefix(message, "EXTEND_TIMEOUT_USEC=") {
			told = append(told, message)
		}
	}
	return told
}

func (m *manager) count(message string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, told := range m.told {
		if told == message {
			n++
		}
	}
	return n
}

func (m *manager) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.told)
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// TestServiceManager plays the service manager of a daemon: it hears of its start, its life, its reloads and its end,
// and signals it. A bad configuration is refused and the old one goes on; a new webhook is served; a request that is
// under way at SIGTERM is recorded.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.ByChatbot(map[string]receiver.Behaviour{"slow": receiver.After(1500*time.Millisecond, receiver.Success)}, receiver.Success))
	app := newApplication(t, "postgres")
	webhook := func(chatbot string) string {
		return fmt.Sprintf("  - {id: %s, chatbot: %[1]s, url: %q, sign_key: %q}\n", chatbot, url+"/"+chatbot, signKey)
	}
	ledger := newLedger(t, "sqlite")
	config := func(webhooks ...string) string {
		return fmt.Sprintf("source: %q\nledger: %q\nimmediate: true\nadmin: {listen: 127.0.0.1:0}\n%swebhooks:\n%s", app.source, ledger, local, strings.Join(webhooks, ""))
	}
	s := newSite(t, 2*time.Minute, config(webhook("a")))
	app.installTrigger(s)
	system, socket := startManager(t)
	const watchdog = 600 * time.Millisecond
	s.env = []string{"NOTIFY_SOCKET=" + socket, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds())}

	// READY is said when the loops run: what is committed from then on is pushed.
	p := s.start("serve")
	s.until(func() bool { return system.count("READY=1") == 1 }, "READY=1")
	app.insert("a")
	s.until(func() bool { return crm.Counts().Acked == 1 }, "the first record")

	// The watchdog is fed, in time.
	fed, began := system.count("WATCHDOG=1"), time.Now()
	time.Sleep(3 * watchdog)
	if n, fewest := system.count("WATCHDOG=1")-fed, int(time.Since(began)/watchdog); n < fewest {
		t.Errorf("the watchdog was fed %d times in %v", n, time.Since(began))
	}
	if system.count("STATUS=running") == 0 {
		t.Error("there was no STATUS=running")
	}
	askHealth(t, p)

	// A bad configuration is refused, and the old one goes on.
	reload := func(config, says string) {
		t.Helper()
		s.configure(config)
		n, before := system.len(), monotonic(t)
		p.signal(syscall.SIGHUP)
		s.until(func() bool { return len(system.since(n)) >= 2 }, "a reload")
		told := system.since(n)
		found := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)$`).FindStringSubmatch(told[0])
		if found == nil || told[1] != "READY=1" || len(told) > 2 {
			t.Fatalf("at a reload it told %q", told)
		}
		if at, err := strconv.ParseInt(found[1], 10, 64); err != nil || at < before || at > monotonic(t) {
			t.Errorf("MONOTONIC_USEC=%s is not between %d and %d", found[1], before, monotonic(t))
		}
		p.says(says)
	}
	reload(config(webhook("a"), "  - {id: b, chatbott: b}\n"), "the new configuration was refused, the old one goes on")
	p.says("webhooks[1].chatbott: unknown key")
	app.insert("a")
	s.until(func() bool { return crm.Counts().Acked == 2 }, "the old configuration goes on")

	// A changed one takes effect; the watchdog is fed by the new runner.
	reload(config(webhook("a"), webhook("b"), webhook("slow")), "the configuration was read again")
	app.insert("a")
	app.insert("b")
	s.until(func() bool { return crm.ByChatbot()["b"].Acked == 1 && crm.ByChatbot()["a"].Acked == 3 }, "the new webhook's record")
	fed = system.count("WATCHDOG=1")
	s.until(func() bool { return system.count("WATCHDOG=1") > fed+2 }, "the watchdog is fed after a reload")
	askHealth(t, p)

	// So it goes many times; no record is lost or doubled meanwhile.
	for i := range 3 {
		app.insert("a")
		reload(config(webhook("a"), webhook("b"), webhook("slow")), "the configuration was read again")
		app.insert("a")
		s.until(func() bool { return crm.ByChatbot()["a"].Acked == 3+2*(i+1) }, "records around a reload")
	}

	// A request under way at SIGTERM is let to end, and is recorded.
	row := app.insert("slow")
	s.until(func() bool { return crm.ByChatbot()["slow"].Requests == 1 }, "the slow request has begun")
	n := system.len()
	p.stop()
	if told := system.since(n); len(told) != 1 || told[0] != "STOPPING=1" {
		t.Errorf("at its end it told %q", told)
	}
	if c := crm.Counts(); c.Duplicates > 0 || c.Unverified > 0 || c.Acked != c.Requests {
		t.Errorf("the CRM counts %+v", c)
	}
	found := s.deliveries("--webhook", "slow")
	if len(found) != 1 || found[0].Row != fmt.Sprint(row) || found[0].State != "delivered" || found[0].Attempts != 1 {
		t.Errorf("the slow request is recorded as %+v", found)
	}
	if strings.Contains(p.errs.String(), "level=ERROR") && strings.Count(p.errs.String(), "level=ERROR") != 1 {
		t.Errorf("it logged errors beside the refused configuration:\n%s", p.errs)
	}
}

// askHealth asks /healthz, whose address the daemon has logged.
func askHealth(t *testing.T, p *process) {
	t.Helper()
	get := func(header string) (code int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set(header, "192.0.2.1")
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var answer struct{ Status string }
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil && header == "" {
			t.Fatal(err)
		}
		return res.StatusCode, answer.Status
	}
	if code, status := get(""); code != http.StatusOK || status != "ok" {
		t.Errorf("/healthz: %d %q", code, status)
	}
	if code, _ := get("X-Forwarded-For"); code != http.StatusForbidden {
		t.Errorf("/healthz through a proxy: %d", code)
	}
}
