package main

import (
	"database/sql"
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
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(p.admin() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// A watchedDaemon is one with a service manager, an application and a CRM of its own.
type watchedDaemon struct {
	*site
	app    *application
	crm    *receiver.Receiver
	system *manager
	p      *process
	rows   []int64
}

func startWatched(t *testing.T, ledger string, answer receiver.Behaviour) *watchedDaemon {
	t.Helper()
	crm, url := startCRM(t, answer)
	d := &watchedDaemon{app: newApplication(t, "sqlite"), crm: crm}
	d.site = newSite(t, 4*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
admin: {listen: 127.0.0.1:0}
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning, retry_at: [1s]}]
`, d.app.source, ledger, local, url, signKey))
	var socket string
	d.system, socket = startManager(t)
	d.env = []string{"NOTIFY_SOCKET=" + socket, fmt.Sprintf("WATCHDOG_USEC=%d", time.Minute.Microseconds())}
	d.p = d.serve()
	return d
}

func (d *watchedDaemon) insert(n int) { d.rows = append(d.rows, d.app.insertMany("a", n)...) }

// waited checks that the daemon was fed to the watchdog for more than a minute, and is well.
func (d *watchedDaemon) waited(waiting string) {
	d.t.Helper()
	if code, answer := health(d.t, d.p); code != http.StatusOK || fmt.Sprint(answer.Waiting) != waiting {
		d.t.Errorf("/healthz says %d %+v, want that it waits for %s", code, answer, waiting)
	}
	if fed := d.system.count("WATCHDOG=1"); fed < 12 { // every 5 s
		d.t.Errorf("in more than a minute the watchdog was fed %d times", fed)
	}
	if strings.Contains(d.p.errs.String(), "stands still") {
		d.t.Error("it says that it stands still")
	}
}

// TestStall: a daemon whose due records move no more though they could stands still: /healthz says so after a minute, and
// the watchdog starves. Ended as systemd then ends it, it leaves its stacks. Meanwhile a daemon whose ledger is locked by
// another session waits for it, and says so once; one whose connections to the ledger were forgotten on the way makes new
// ones; the watchdog is fed by both, and nothing is lost.
func TestStall(t *testing.T) {
	t.Parallel()
	soon := receiver.After(20*time.Millisecond, receiver.Success)

	place := pgtest.Database(t)
	locked := startWatched(t, place, soon)
	locked.insert(100)
	locked.until(func() bool { return locked.crm.Counts().Acked > 10 }, "the work has begun")
	lock, err := openApplication(t, place).db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec("lock table leadrelay.deliveries, leadrelay.due"); err != nil {
		t.Fatal(err)
	}
	locked.insert(100)

	way, by, err := pgtest.NewRoute(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close) // when the daemon has ended, and the connections with it
	forgotten := startWatched(t, by, soon)
	forgotten.insert(100)
	forgotten.until(func() bool { return forgotten.crm.Counts().Acked > 10 }, "the work has begun")
	way.Forget()
	forgotten.insert(100)

	// Somebody's trigger lets no record be leased, and reports no error.
	place = newLedger(t, "sqlite")
	stalled := startWatched(t, place, receiver.Each(receiver.Status(http.StatusBadRequest), receiver.Success))
	path, _ := cutSQLite(place)
	trigger, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer trigger.Close()
	if _, err := trigger.Exec(`create trigger meddles before update of state on deliveries when new.state = 'sending'
		begin select raise(ignore); end`); err != nil {
		t.Fatal(err)
	}
	stalled.insert(1)
	stalled.until(func() bool { return stalled.crm.Counts().Refused == 1 }, "a record is refused")
	began := time.Now()
	stalled.until(func() bool { code, _ := health(t, stalled.p); return code == http.StatusServiceUnavailable }, "/healthz says that it stands still")
	if took := time.Since(began); took < time.Minute {
		t.Errorf("it is said already after %v", took)
	}
	if _, answer := health(t, stalled.p); answer.Status != "stalled" || len(answer.Waiting) > 0 ||
		!regexp.MustCompile(`^the claiming of what is due has failed for 1m\d*s: records are due, there is room for them, and they stay where they are$`).MatchString(answer.Reason) {
		t.Errorf("/healthz says %+v", answer)
	}
	const stands = `level=ERROR msg="the daemon stands still; its watchdog, if there is one, will start it again" reason="the claiming of what is due `
	stalled.p.says(stands)
	fed := stalled.system.count("WATCHDOG=1")
	time.Sleep(11 * time.Second) // two times that it would be fed
	if n := stalled.system.count("WATCHDOG=1"); n != fed {
		t.Errorf("the watchdog was fed %d times while it stood still", n-fed)
	}
	if n := strings.Count(stalled.p.errs.String(), stands); n != 1 {
		t.Errorf("that it stands still was said %d times", n)
	}
	stalled.p.signal(syscall.SIGABRT)
	<-stalled.p.ended
	if log := stalled.p.errs.String(); !strings.Contains(log, "SIGABRT: abort") || !strings.Contains(log, "jobs.(*Runner).dispatch(") {
		t.Error("it ended without the stacks of its goroutines")
	}

	locked.waited("[the ledger]")
	if locked.system.count("STATUS=waiting for the ledger") == 0 {
		t.Error("systemd is not told that the ledger is waited for")
	}
	const slow = `level=WARN msg="the ledger is slow to answer, waiting for it" why="a statement has been at work for \d+ s, waiting for a lock of session \d+"`
	if n := len(regexp.MustCompile(slow).FindAllString(locked.p.errs.String(), -1)); n != 1 {
		t.Errorf("that the ledger is locked was said %d times", n)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	locked.p.says("the ledger has answered")
	locked.soon(func() bool { return locked.crm.Counts().Acked >= len(locked.rows) }, "all is at the CRM")
	locked.p.stop()
	exactlyOnce(t, locked.crm, "w", "Lead", locked.rows)

	forgotten.waited("[]")
	forgotten.until(func() bool {
		return len(forgotten.deliveries("--state", "delivered", "--limit", "1000")) == len(forgotten.rows)
	}, "all is delivered")
	forgotten.p.stop()
	if c := forgotten.crm.Counts(); c.Unverified > 0 || c.Unique != len(forgotten.rows) || c.Duplicates > 100 { // what was in flight
		t.Errorf("the CRM counts %+v", c)
	}
}
