package main

import (
	"database/sql"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/lib/pq"
)

// A fault is something that befalls a PostgreSQL database, and passes.
type fault struct {
	name        string
	long, short time.Duration // for how long, in either form; 0: not in the short one
	on          []string      // source, ledger, both; nil: each of them
	milder      bool          // the program goes on meanwhile, if slowly
	unnoticed   time.Duration // it says nothing, and for so long nobody asks
	heals       time.Duration // how long it takes to find out that answers were lost
	hangs       bool          // nothing tells a command that it waits in vain
	begin       func(h *host) (end func())
}

var (
	restarts = []fault{
		{name: "stopped fast", long: 5 * time.Second, begin: stopped(syscall.SIGINT)},
		{name: "stopped at once", long: 5 * time.Second, short: time.Second, begin: stopped(syscall.SIGQUIT)},
		{name: "killed", long: 5 * time.Second, begin: stopped(syscall.SIGKILL)},
		{name: "a backend killed", long: time.Second, milder: true, begin: func(h *host) func() {
			if err := h.backend().Kill(); err != nil {
				h.t.Fatal(err)
			}
			return func() {}
		}},
		{name: "sessions terminated all the time", long: 10 * time.Second, short: 2 * time.Second, milder: true, begin: func(h *host) func() {
			return repeatedly(100*time.Millisecond, h.terminate)
		}},
		{name: "away for longer than a lease", on: []string{"ledger"}, long: 40 * time.Second, begin: stopped(syscall.SIGINT)},
	}
	refusals = []fault{
		{name: "read-only", long: 5 * time.Second, short: time.Second, milder: true, begin: func(h *host) func() {
			h.exec("alter system set default_transaction_read_only = on")
			h.exec("select pg_reload_conf()")
			return func() {
				h.exec("alter system reset default_transaction_read_only")
				h.exec("select pg_reload_conf()")
			}
		}},
		{name: "read-only for new sessions", long: 5 * time.Second, milder: true, begin: refusing(
			"alter database DATABASE set default_transaction_read_only = on", "alter database DATABASE reset default_transaction_read_only")},
		{name: "no connection left for the role", long: 5 * time.Second, short: time.Second, begin: refusing(
			"alter role relay connection limit 0", "alter role relay connection limit -1")},
		{name: "two connections for the role", long: 10 * time.Second, milder: true, begin: refusing(
			"alter role relay connection limit 2", "alter role relay connection limit -1")},
		// Of two databases the program may come by its connections again before the crowd does.
		{name: "all connections taken", long: 5 * time.Second, milder: true, begin: crowded},
		{name: "another password", long: 5 * time.Second, short: time.Second, begin: refusing(
			"alter role relay password 'another'", "alter role relay password '"+relayPassword+"'")},
		{name: "another password for long", on: []string{"both"}, long: 75 * time.Second, begin: refusing(
			"alter role relay password 'another'", "alter role relay password '"+relayPassword+"'")},
		{name: "no login", long: 5 * time.Second, begin: refusing("alter role relay nologin", "alter role relay login")},
		{name: "no statement may take a millisecond", long: 5 * time.Second, begin: refusing(
			"alter role relay set statement_timeout = 1", "alter role relay reset statement_timeout")},
		{name: "no transaction may rest a millisecond", long: 5 * time.Second, milder: true, begin: refusing(
			"alter role relay set idle_in_transaction_session_timeout = 1", "alter role relay reset idle_in_transaction_session_timeout")},
		{name: "renamed", long: 5 * time.Second, begin: func(h *host) func() {
			h.exec("alter database " + h.database + " with allow_connections false")
			h.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = '" + h.database + "'")
			h.exec("alter database " + h.database + " rename to elsewhere")
			return func() {
				h.exec("alter database elsewhere rename to " + h.database)
				h.exec("alter database " + h.database + " with allow_connections true")
			}
		}},
		{name: "dropped and restored", long: 5 * time.Second, begin: func(h *host) func() {
			h.exec("alter database " + h.database + " with allow_connections false")
			h.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = '" + h.database + "'")
			h.exec("create database backup template " + h.database)
			h.exec("drop database " + h.database + " with (force)")
			return func() {
				h.exec("create database " + h.database + " template backup owner relay")
				h.exec("drop database backup")
			}
		}},
		{name: "rights revoked", long: 5 * time.Second, begin: func(h *host) func() {
			of := map[string]string{"source": "leads, appointments", "ledger": "all tables in schema leadrelay"}[h.database]
			return h.inSession("revoke all on "+of+" from relay", "grant all on "+of+" to relay")
		}},
	}
	delays = []fault{
		{name: "slow by 200 ms a message", long: 5 * time.Second, milder: true, begin: bad(weather{delay: 100 * time.Millisecond})},
		{name: "slow by 2 s a message", long: 30 * time.Second, milder: true, hangs: true, begin: bad(weather{delay: time.Second})},
		{name: "slow by 5 s a message", on: []string{"ledger"}, long: 75 * time.Second, milder: true, hangs: true, begin: bad(weather{delay: 2500 * time.Millisecond})},
	}
	networks = []fault{
		{name: "stalled, then reset", long: 10 * time.Second, unnoticed: 30 * time.Second, begin: func(h *host) func() {
			h.link.turn(weather{stalled: true})
			return func() {
				h.link.reset()
				h.link.turn(weather{})
			}
		}},
		{name: "stalled for long", on: []string{"both"}, hangs: true, unnoticed: 30 * time.Second, long: 75 * time.Second, begin: bad(weather{stalled: true})},
		{name: "refused and reset", long: 5 * time.Second, begin: func(h *host) func() {
			h.link.turn(weather{refuses: true})
			h.link.reset()
			return func() { h.link.turn(weather{}) }
		}},
		{name: "swallowed", unnoticed: 30 * time.Second, heals: 40 * time.Second, long: 10 * time.Second, begin: bad(weather{hole: true})},
		{name: "swallowed for long", on: []string{"both"}, hangs: true, unnoticed: 30 * time.Second, heals: 40 * time.Second, long: 75 * time.Second, begin: bad(weather{hole: true})},
	}
	locks = []fault{
		{name: "tables locked", unnoticed: 30 * time.Second, long: 10 * time.Second, begin: locked},
		{name: "tables locked for long", on: []string{"both"}, hangs: true, unnoticed: 30 * time.Second, long: 75 * time.Second, begin: locked},
	}
	commits = []fault{
		{name: "cut at every commit", long: 10 * time.Second, short: 2 * time.Second, on: []string{"ledger"}, milder: true, begin: cutOff(1)},
		{name: "cut at every third commit", long: 20 * time.Second, on: []string{"ledger", "both"}, milder: true, begin: cutOff(3)},
	}
)

func stopped(sig syscall.Signal) func(h *host) func() {
	return func(h *host) func() {
		if err := h.server.Stop(sig); err != nil {
			h.t.Fatal(err)
		}
		return func() {
			if err := h.server.Run(); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// refusing executes a statement and terminates the program's sessions, so that it is felt; and in the end another.
func refusing(begin, end string) func(h *host) func() {
	return func(h *host) func() {
		h.exec(strings.ReplaceAll(begin, "DATABASE", h.database))
		h.terminate()
		return func() { h.exec(strings.ReplaceAll(end, "DATABASE", h.database)) }
	}
}

// bad lets the link have this weather for a time.
func bad(w weather) func(h *host) func() {
	return func(h *host) func() {
		h.link.turn(w)
		return func() { h.link.turn(weather{}) }
	}
}

// cutOff carries one of so many COMMITs and not its answer. The program commits to its ledger all the time; were none seen,
// the driver would have other words for it than the link looks for.
func cutOff(one int) func(h *host) func() {
	return func(h *host) func() {
		before := h.link.committed()
		h.link.turn(weather{commits: one})
		return func() {
			h.link.turn(weather{})
			if h.database == "ledger" && h.link.committed()-before < one {
				h.t.Error("no commit was cut off")
			}
		}
	}
}

// locked has another session hold locks on all tables.
func locked(h *host) func() {
	return h.inSession("begin; lock table "+h.tables()+" in access exclusive mode", "commit")
}

// inSession executes a statement in a session at the database itself, and in the end another.
func (h *host) inSession(begin, end string) func() {
	h.t.Helper()
	db, err := sql.Open("postgres", h.server.URL(h.database))
	if err != nil {
		h.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	do := func(statement string) {
		_, err := db.ExecContext(h.t.Context(), statement)
		for range 10 {
			if e, ok := errors.AsType[*pq.Error](err); !ok || e.Code != "40P01" { // a deadlock, with a lock of all tables
				break
			}
			_, err = db.ExecContext(h.t.Context(), "rollback; "+statement)
		}
		if err != nil {
			h.t.Errorf("%s: %v", statement, err)
		}
	}
	do(begin)
	return func() {
		do(end)
		_ = db.Close()
	}
}

// crowded lets another role take all connections that a server has room for.
func crowded(h *host) func() {
	h.exec("create role crowd login")
	dsn := strings.Replace(h.server.URL("postgres"), "postgres@", "crowd@", 1)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	push := func() {
		for {
			if _, err := db.Conn(h.t.Context()); err != nil {
				return
			}
		}
	}
	push()
	h.terminate()
	end := repeatedly(10*time.Millisecond, push)
	return func() {
		end()
		_ = db.Close()
		h.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'crowd'")
		h.exec("drop role crowd")
	}
}

// repeatedly calls f until the function returned is called.
func repeatedly(pause time.Duration, f func()) (end func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			f()
			select {
			case <-time.After(pause):
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
