package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// A host is a PostgreSQL server with one database, which the program reaches over a link, as a role with a password. Or it
// is a file, of SQLite.
type host struct {
	t        *testing.T
	file     string // where this test finds it
	path     string // where the program does
	server   *pgtest.Server
	link     *link
	database string
	admin    *sql.DB // of the superuser, at another database and by no link
}

const (
	relay         = "relay"              // the program's role
	relayPassword = "HIDDEN: p@ss/w%rd?" // which is not to be seen anywhere
)

// newHost starts a server whose database is named so.
func newHost(t *testing.T, database string) *host {
	t.Helper()
	h := &host{t: t, server: newServer(t), database: database}
	var err error
	if h.admin, err = sql.Open("postgres", h.server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.admin.Close() })
	h.admin.SetMaxIdleConns(0) // a server that was restarted is met anew
	h.exec("create database " + database)
	h.exec("create role relay login password '" + relayPassword + "'")
	h.exec("alter database " + database + " owner to relay")
	var rules string
	if err := h.admin.QueryRow("show hba_file").Scan(&rules); err != nil {
		t.Fatal(err)
	}
	h.exec(fmt.Sprintf(`copy (values ('host all relay 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust')) to '%s'`, rules))
	h.exec("select pg_reload_conf()")
	at, err := url.Parse(h.server.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	h.link = newLink(t, at.Host)
	return h
}

// url is the program's address of the database.
func (h *host) url() string {
	if h.path != "" {
		return "sqlite:" + h.path
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(relay, relayPassword), Host: h.link.address(), Path: h.database, RawQuery: "sslmode=disable"}
	return u.String()
}

// direct is an address of the database that nothing befalls.
func (h *host) direct() string {
	if h.file != "" {
		return "sqlite:" + h.file
	}
	return h.server.URL(h.database)
}

// exec runs a statement as the superuser, however often it takes while the server comes and goes.
func (h *host) exec(statement string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := h.admin.ExecContext(ctx, statement)
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			h.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// terminate ends the program's sessions.
func (h *host) terminate() {
	h.t.Helper()
	h.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'relay'")
}

// backend is the process id of one of the program's sessions.
func (h *host) backend() *os.Process {
	h.t.Helper()
	var pid int
	err := h.admin.QueryRow("select pid from pg_stat_activity where usename = 'relay' order by backend_start limit 1").Scan(&pid)
	if err != nil {
		h.t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// tables are what the database holds of ours, for a lock statement.
func (h *host) tables() string {
	if h.database == "source" {
		return "leads, appointments"
	}
	names := strings.Fields("deliveries due leases streams webhooks subscriptions runs tallies attempts")
	for i := range names {
		names[i] = "leadrelay." + names[i]
	}
	return strings.Join(names, ", ")
}
