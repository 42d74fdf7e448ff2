package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestLedgerSetBack: under a daemon the ledger is set back to an older copy, as by a failover that lost the last
// transactions or by a restore. The daemon logs that and works on, at rest while there is nothing to do; and a webhook that
// is entered after that gets its records, though the ledger comes to count as many changes as before.
func TestLedgerSetBack(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crms, urls := map[string]*receiver.Receiver{}, map[string]string{}
			for _, webhook := range []string{"kept", "lost", "found"} {
				crms[webhook], urls[webhook] = startCRM(t, nil)
			}
			app, ledger := newApplication(t, engine), newLedger(t, engine)
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%swebhooks: [{id: kept, chatbot: kept, url: %q, sign_key: %q, from: beginning}]
`, app.source, ledger, local, urls["kept"], signKey))
			app.installTrigger(s)
			if err := os.WriteFile(filepath.Join(s.dir, "key"), []byte(signKey), 0o600); err != nil {
				t.Fatal(err)
			}
			rows := map[string][]int64{}
			enter := func(webhook string) {
				t.Helper()
				s.run(0, "webhook", "add", "--id", webhook, "--chatbot", webhook, "--url", urls[webhook], "--sign-key", "@key")
			}
			arrives := func(webhook string) {
				t.Helper()
				rows[webhook] = append(rows[webhook], app.insertMany(webhook, 3)...)
				s.soon(func() bool { return crms[webhook].Counts().Unique == len(rows[webhook]) }, "webhook %s has its records", webhook)
			}
			rows["kept"] = app.insertMany("kept", 3)
			s.runNow(0)
			setBack := copyLedger(t, ledger)

			p := s.serve()
			enter("lost")
			arrives("lost")
			setBack(p, func() {})
			p.says("the ledger was set back to an older copy")
			arrives("kept")
			before := cpuTime(t, p)
			time.Sleep(4 * time.Second)
			if took := cpuTime(t, p) - before; took > 1500*time.Millisecond {
				t.Errorf("at rest it took %v of CPU in 4 seconds", took)
			}

			enter("lost")
			arrives("lost")
			setBack(p, func() { enter("found") })
			arrives("found")
			arrives("kept")
			if n := strings.Count(p.errs.String(), "the ledger was set back to an older copy"); n != 2 {
				t.Errorf("that the ledger was set back twice was said %d times", n)
			}
			p.stop()
			for webhook, crm := range crms {
				if c := crm.Counts(); c.Unique != len(rows[webhook]) || c.Unverified > 0 {
					t.Errorf("the CRM of %s got %+v of %d records", webhook, c, len(rows[webhook]))
				}
			}
		})
	}
}

// copyLedger copies a ledger that nobody has open. What it returns stops a process in its tracks, sets the ledger back to
// the copy, calls then, and lets the process go on.
func copyLedger(t *testing.T, ledger string) func(p *process, then func()) {
	t.Helper()
	var copied, restored func() error
	if path, ok := cutSQLite(ledger); ok {
		older := filepath.Join(t.TempDir(), "older.db")
		copied = func() error { return backup(path, "NewBackup", older) }
		restored = func() error { return backup(path, "NewRestore", older) }
	} else {
		at, err := url.Parse(ledger)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(at.Path, "/")
		at.Path = "/postgres"
		do := func(statements ...string) error {
			db, err := sql.Open("postgres", at.String())
			if err != nil {
				return err
			}
			defer db.Close()
			for _, statement := range statements {
				if _, err := db.Exec(statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
			return nil
		}
		copied = func() error { return do("create database older_" + name + " template " + name) }
		restored = func() error {
			return do("drop database "+name+" with (force)", "create database "+name+" template older_"+name)
		}
	}
	if err := copied(); err != nil {
		t.Fatal(err)
	}
	return func(p *process, then func()) {
		t.Helper()
		p.signal(syscall.SIGSTOP)
		defer p.signal(syscall.SIGCONT)
		if err := restored(); err != nil {
			t.Fatal(err)
		}
		then()
	}
}

// backup copies a SQLite database to another (NewBackup), or the other into it (NewRestore), in place, as the sqlite3
// shell's .backup and .restore do.
func backup(path, how, other string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		begin := map[string]func(string) (*sqlite.Backup, error){
			"NewBackup": c.(interface {
				NewBackup(to string) (*sqlite.Backup, error)
			}).NewBackup,
			"NewRestore": c.(interface {
				NewRestore(from string) (*sqlite.Backup, error)
			}).NewRestore,
		}[how]
		b, err := begin("file:" + other)
		if err != nil {
			return err
		}
		for more := true; more; {
			if more, err = b.Step(-1); err != nil {
				_ = b.Finish()
				return err
			}
		}
		return b.Finish()
	})
}

// cpuTime is what a process has used of the processors.
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from the third on
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a tick is 1/100 s to /proc on every Linux
}
