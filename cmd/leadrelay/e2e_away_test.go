package main

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestDatabaseAway: PostgreSQL, with the source and the ledger in it, is away when the daemon starts, and crashes in the
// middle of its work. Each time it is waited for, that is said once, and nothing is lost or doubled.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	crm, url := startCRM(t, receiver.After(20*time.Millisecond, receiver.Success))
	app := openApplication(t, newDatabase(t, server))
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
admin: {listen: 127.0.0.1:0}
webhook_source: {query: "SELECT uri AS id, chatbot_id AS chatbot, uri AS url FROM leads WHERE id < 0", every: 1s}
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, newDatabase(t, server), local, url, signKey))
	app.installTrigger(s)
	rows := app.insertMany("a", 300)
	stop := func(sig syscall.Signal) {
		t.Helper()
		if err := server.Stop(sig); err != nil {
			t.Fatal(err)
		}
	}
	run := func() {
		t.Helper()
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
	const away = "is away, waiting for it"

	// Away at the start. SIGTERM ends the waiting, and that is no failure.
	stop(syscall.SIGINT)
	early := s.start("serve")
	early.says(away)
	early.stop()
	p := s.start("serve")
	p.says(away)
	time.Sleep(700 * time.Millisecond) // it tries again meanwhile
	run()
	p.says("msg=serving")
	if n := strings.Count(p.errs.String(), away); n != 1 {
		t.Errorf("that a database is away was said %d times", n)
	}

	// A crash in the middle of the work, with requests under way.
	s.until(func() bool { return crm.Counts().Acked > 60 }, "the work has begun")
	stop(syscall.SIGQUIT)
	p.says(away, 2)
	time.Sleep(1500 * time.Millisecond)
	askHealth(t, p)
	said := strings.Count(p.errs.String(), away)
	run()
	rows = append(rows, app.insertMany("a", 50)...)
	s.soon(func() bool { return crm.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))

	// And while there is nothing to do.
	stop(syscall.SIGQUIT)
	p.says(away, said+1)
	back := strings.Count(p.errs.String(), "is back")
	run()
	p.says("is back", back+1)
	rows = append(rows, app.insertMany("a", 10)...)
	s.soon(func() bool { return crm.Counts().Acked == len(rows) }, "what was committed afterwards is at the CRM")
	time.Sleep(300 * time.Millisecond) // what came twice would come now
	p.stop()
	exactlyOnce(t, crm, "w", "Lead", rows)
	if run := s.runNow(0); run.Gathered+run.Carried != 0 {
		t.Errorf("something was left: %+v", run)
	}
	if n := strings.Count(p.errs.String(), away); n > 11 { // source and ledger, three times, and who waits for either besides
		t.Errorf("that a database is away was said %d times", n)
	}
	if strings.Contains(p.errs.String(), "level=ERROR") {
		t.Error("it logged errors")
	}
}

// TestStoppedWhileAway: a daemon that is told to stop while its ledger is away does so in the service manager's time. It
// ends well where it had nothing to record, and where it had, it says that those records are sent again; they are.
func TestStoppedWhileAway(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	ledger := newDatabase(t, server)
	crm, url := startCRM(t, receiver.After(2*time.Second, receiver.Success))
	app := newApplication(t, "sqlite")
	s := newSite(t, 3*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, ledger, local, url, signKey))
	for _, rows := range []int{0, 5} {
		p := s.serve()
		app.insertMany("a", rows)
		s.until(func() bool { return crm.Counts().Requests == rows }, "requests are under way")
		if err := server.Stop(syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.signal(syscall.SIGTERM)
		<-p.ended
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("with %d requests under way it took %v to stop", rows, took)
		}
		want := map[int]int{0: exitDone, 5: exitFailed}[rows]
		if code := p.cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("with %d requests under way: exit code %d, want %d\n%s", rows, code, want, p.errs.String())
		}
		if said := strings.Contains(p.errs.String(), "stopped before 5 outcomes could be recorded; these records are sent again"); said != (rows > 0) {
			t.Errorf("with %d requests under way it says:\n%s", rows, p.errs.String())
		}
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if run := s.runNow(0); run.Delivered != 5 {
		t.Errorf("the run after it: %+v", run)
	}
	if c := crm.Counts(); c.Unique != 5 || c.Requests != 10 {
		t.Errorf("the CRM got %+v", c)
	}
}

// TestCommandsGiveUp: a command that finds a database away logs that at once and every ten seconds, and gives up after thirty,
// with exit code 1 and nothing on standard output; a run whose database goes away does so in its midst. The daemon waits on.
func TestCommandsGiveUp(t *testing.T) {
	t.Parallel()
	binary(t) // which takes a while, the first time
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("postgres://relay@%s/x?sslmode=disable", closed.Addr())
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	const away = "is away, waiting for it"
	for name, c := range map[string]struct {
		source, ledger string
		command        []string
	}{
		"run-now, the source":     {nobody, "", []string{"run-now", "--json"}},
		"run-now, the ledger":     {"", nobody, []string{"run-now"}},
		"--dry-run, the source":   {nobody, "", []string{"run-now", "--dry-run"}},
		"status, the ledger":      {"", nobody, []string{"status", "--json"}},
		"webhook add, the source": {nobody, "", []string{"webhook", "add", "--chatbot", "b", "--url", "https://crm.example.com/"}},
		"reconcile, the ledger":   {"", nobody, []string{"reconcile"}},
		"serve, the ledger":       {"", nobody, []string{"serve"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.source == "" {
				c.source = newApplication(t, "sqlite").source
			}
			if c.ledger == "" {
				c.ledger = newLedger(t, "sqlite")
			}
			s := newSite(t, 2*time.Minute, fmt.Sprintf("source: %q\nledger: %q\nwebhooks: [{id: w, chatbot: a, url: \"https://crm.example.com/\"}]\n", c.source, c.ledger))
			began := time.Now()
			p := s.start(c.command...)
			p.says(away)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("that it is away was said after %v", took)
			}
			if c.command[0] == "serve" {
				time.Sleep(40 * time.Second)
				p.stop()
				if n := strings.Count(p.errs.String(), away); n != 1 {
					t.Errorf("that it is away was said %d times", n)
				}
				return
			}
			select {
			case <-p.ended:
			case <-s.ctx.Done():
				t.Fatal("it does not end")
			}
			if took := time.Since(began); took < 29*time.Second || took > 40*time.Second {
				t.Errorf("it gave up after %v", took)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != exitFailed {
				t.Errorf("exit code %d, want %d", code, exitFailed)
			}
			log := p.errs.String()
			if n := strings.Count(log, away); n != 3 {
				t.Errorf("that it is away was said %d times\n%s", n, log)
			}
			if n := strings.Count(log, "\nleadrelay: open the "); n != 1 || !strings.Contains(log, "refused") {
				t.Errorf("it ends without a line that says why\n%s", log)
			}
		})
	}
	t.Run("run-now, the ledger in its midst", func(t *testing.T) {
		t.Parallel()
		server := newServer(t)
		ledger := newDatabase(t, server)
		crm, url := startCRM(t, receiver.After(20*time.Millisecond, receiver.Success))
		app := newApplication(t, "sqlite")
		s := newSite(t, 2*time.Minute, fmt.Sprintf("source: %q\nledger: %q\n%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]\n",
			app.source, ledger, local, url, signKey))
		app.insertMany("a", 3000)
		p := s.start("run-now")
		s.until(func() bool { return crm.Counts().Acked > 60 }, "the run has begun")
		if err := server.Stop(syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		select {
		case <-p.ended:
		case <-s.ctx.Done():
			t.Fatal("it does not end")
		}
		if took := time.Since(began); took < 29*time.Second || took > time.Minute { // ten seconds more for what was answered
			t.Errorf("it gave up after %v", took)
		}
		if code := p.cmd.ProcessState.ExitCode(); code != exitFailed {
			t.Errorf("exit code %d, want %d", code, exitFailed)
		}
		if n := strings.Count(p.errs.String(), away); n < 3 {
			t.Errorf("that it is away was said %d times", n)
		}
	})
}
