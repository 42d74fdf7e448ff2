package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// health asks /healthz of a daemon.
func health(t *testing.T, p *process) (code int, answer struct {
	Status, Reason string
	Waiting        []string `json:"waiting_for"`
},
) {
	t.Helper()
	found := regexp.MustCompile(`msg="admin listens" address=(\S+)`).FindStringSubmatch(p.errs.String())
	if found == nil {
		t.Fatal("it says no address of admin.listen")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + found[1] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// TestStall: a daemon whose ledger is locked by another session waits for it, says so once and is fed to the service
// manager's watchdog, however long. A daemon whose connections to the ledger were forgotten on the way, while the ledger
// answers others, stands still: /healthz says so after a minute, and the watchdog starves. Ended as systemd then ends it,
// it leaves its stacks.
func TestStall(t *testing.T) {
	t.Parallel()
	type daemon struct {
		*site
		app    *application
		crm    *receiver.Receiver
		system *manager
		p      *process
		rows   []int64
	}
	begin := func(ledger string) *daemon {
		crm, url := startCRM(t, receiver.After(20*time.Millisecond, receiver.Success))
		d := &daemon{app: newApplication(t, "sqlite"), crm: crm}
		d.site = newSite(t, 4*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
admin: {listen: 127.0.0.1:0}
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, d.app.source, ledger, local, url, signKey))
		var socket string
		d.system, socket = startManager(t)
		d.env = []string{"NOTIFY_SOCKET=" + socket, fmt.Sprintf("WATCHDOG_USEC=%d", time.Minute.Microseconds())}
		d.p = d.serve()
		d.rows = d.app.insertMany("a", 100)
		d.until(func() bool { return d.crm.Counts().Acked > 10 }, "the work has begun")
		return d
	}
	ledger := pgtest.Database(t)
	locked := begin(ledger)
	other := openApplication(t, ledger)
	lock, err := other.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec("lock table leadrelay.deliveries, leadrelay.due"); err != nil {
		t.Fatal(err)
	}
	locked.rows = append(locked.rows, locked.app.insertMany("a", 100)...)

	way, by, err := pgtest.NewRoute(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close) // when the daemon has ended, and the connections with it
	forgotten := begin(by)
	way.Forget()
	forgotten.rows = append(forgotten.rows, forgotten.app.insertMany("a", 100)...)

	began := time.Now()
	forgotten.until(func() bool { code, _ := health(t, forgotten.p); return code == http.StatusServiceUnavailable }, "/healthz says that it stands still")
	if took := time.Since(began); took < 50*time.Second {
		t.Errorf("it is said already after %v", took)
	}
	if _, answer := health(t, forgotten.p); answer.Status != "stalled" || len(answer.Waiting) > 0 ||
		!regexp.MustCompile(`has had no answer from the ledger for 1m\d*s, though it answers others and is at work at nothing$`).MatchString(answer.Reason) {
		t.Errorf("/healthz says %+v", answer)
	}
	const stands = `level=ERROR msg="the daemon stands still; its watchdog, if there is one, will start it again" reason="the `
	forgotten.p.says(stands)
	fed := forgotten.system.count("WATCHDOG=1")
	time.Sleep(11 * time.Second) // two times that it would be fed
	if n := forgotten.system.count("WATCHDOG=1"); n != fed {
		t.Errorf("the watchdog was fed %d times while it stood still", n-fed)
	}
	if n := strings.Count(forgotten.p.errs.String(), stands); n != 1 {
		t.Errorf("that it stands still was said %d times", n)
	}

	if code, answer := health(t, locked.p); code != http.StatusOK || fmt.Sprint(answer.Waiting) != "[the ledger]" {
		t.Errorf("while the ledger is locked /healthz says %d %+v", code, answer)
	}
	if locked.system.count("STATUS=waiting for the ledger") == 0 {
		t.Error("while the ledger is locked systemd is not told that it is waited for")
	}
	if fed := locked.system.count("WATCHDOG=1"); fed < 12 { // every 5 s
		t.Errorf("while the ledger was locked, for more than a minute, the watchdog was fed %d times", fed)
	}
	log := locked.p.errs.String()
	if n := len(regexp.MustCompile(`level=WARN msg="the ledger is slow to answer, waiting for it" why="a statement has been at work for \d+ s, waiting for a lock of session \d+"`).FindAllString(log, -1)); n != 1 {
		t.Errorf("that the ledger is locked was said %d times", n)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	locked.p.says("the ledger has answered")
	locked.soon(func() bool { return locked.crm.Counts().Acked >= len(locked.rows) }, "all is at the CRM")
	locked.p.stop()
	exactlyOnce(t, locked.crm, "w", "Lead", locked.rows)

	// As systemd ends what it hears nothing of.
	forgotten.p.signal(syscall.SIGABRT)
	<-forgotten.p.ended
	if log := forgotten.p.errs.String(); !strings.Contains(log, "SIGABRT: abort") || !strings.Contains(log, "jobs.(*Runner).dispatch(") {
		t.Error("it ended without the stacks of its goroutines")
	}
}
