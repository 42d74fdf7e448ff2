package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestInterrupted: ctrl-C in the middle of a run by hand takes no more, lets requests under way end and records them;
// the next run sends the rest, and nothing twice.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.After(100*time.Millisecond, receiver.Success))
	app := newApplication(t, "sqlite")
	s := newSite(t, time.Minute, fmt.Sprintf("source: %q\n%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]\n", app.source, local, url, signKey))
	rows := app.insertMany("a", 200)
	cmd := s.command("run-now", "--json")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.until(func() bool { return crm.Counts().Requests >= 20 }, "the run is under way")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitPending {
		t.Errorf("exit code %d, want %d: something is not delivered", code, exitPending)
	}
	var run runResult
	if err := json.Unmarshal(stdout.Bytes(), &run); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if c := crm.Counts(); run.Delivered != c.Requests || run.Delivered+run.Pending != run.Gathered || run.Delivered == len(rows) {
		t.Errorf("%d requests were made, and the interrupted run says %+v", c.Requests, run)
	}
	rest := s.runNow(0)
	if rest.Delivered != len(rows)-run.Delivered {
		t.Errorf("the next run: %+v", rest)
	}
	exactlyOnce(t, crm, "w", "Lead", rows)
	if c := crm.Counts(); c.Requests != len(rows) {
		t.Errorf("%d requests for %d rows", c.Requests, len(rows))
	}
}

// TestReloadUnderLoad: a daemon that is reloaded while it pushes hands its work over; no record is lost or doubled.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.After(20*time.Millisecond, receiver.Success))
	app := newApplication(t, "sqlite")
	config := func(description string) string {
		return fmt.Sprintf(`source: %q
immediate: true
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning, description: %q}]
`, app.source, local, url, signKey, description)
	}
	s := newSite(t, 2*time.Minute, config("as it began"))
	rows := app.insertMany("a", 600)
	p := s.serve()
	for i := range 4 {
		s.until(func() bool { return crm.Counts().Acked >= 50*(i+1) }, "the work has begun")
		if i%2 == 0 {
			s.configure(config(fmt.Sprint("reload ", i)))
		}
		rows = append(rows, app.insertMany("a", 20)...)
		p.signal(syscall.SIGHUP)
		p.says("the configuration was read again", i+1)
	}
	s.soon(func() bool { return crm.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))
	time.Sleep(300 * time.Millisecond) // what came twice would come now
	p.stop()
	exactlyOnce(t, crm, "w", "Lead", rows)
	if strings.Contains(p.errs.String(), "level=ERROR") {
		t.Error("it logged errors")
	}
}

// TestNothingIsLeft: a daemon that has ended leaves no goroutine. It runs in this process, and alone.
func TestNothingIsLeft(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			crm, url := startCRM(t, nil)
			app := newApplication(t, engine)
			s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
admin: {listen: 127.0.0.1:0}
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q}]
`, app.source, newLedger(t, engine), local, url, signKey))
			app.installTrigger(s)
			before := goleak.IgnoreCurrent()
			ctx, stop := context.WithCancel(s.ctx)
			defer stop()
			var errs journal
			ended := make(chan int, 1)
			go func() { ended <- run(ctx, []string{"serve", "--config", s.dir + "/config.yaml"}, nil, &errs, &errs) }()
			s.until(func() bool { return strings.Contains(errs.String(), "msg=serving") }, "it serves")
			app.insert("a")
			s.until(func() bool { return crm.Counts().Acked == 1 }, "the record is at the CRM")
			stop()
			if code := <-ended; code != exitDone {
				t.Errorf("exit code %d\n%s", code, errs.String())
			}
			_ = app.db.Close() // its pool's goroutine may be younger than before
			if err := goleak.Find(before); err != nil {
				t.Error(err)
			}
		})
	}
}
