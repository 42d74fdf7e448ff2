package pgtest_test

import (
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestDatabase(t *testing.T) {
	db, err := sql.Open("postgres", pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tables int
	if err := db.QueryRow("select count(*) from pg_tables where schemaname = 'public'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 0 {
		t.Errorf("a new database has %d tables", tables)
	}
}

// Behind the pooler no session is a client's own: two clients, one after the other, have the same.
func TestPooled(t *testing.T) {
	pooled, direct := pgtest.Pooled(t)
	sessions := func(dsn string) (pids [2]int, database string) {
		for i := range pids {
			db, err := sql.Open("postgres", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.QueryRow("select pg_backend_pid(), current_database()").Scan(&pids[i], &database); err != nil {
				t.Fatal(err)
			}
		}
		return pids, database
	}
	by, name := sessions(pooled)
	if by[0] != by[1] {
		t.Errorf("two clients of the pooler have the sessions %v", by)
	}
	if by, same := sessions(direct); by[0] == by[1] || same != name {
		t.Errorf("two clients of the server have the sessions %v of %s, and the pooler's of %s", by, same, name)
	}
}

// The pooler lets in users that it is told of, and nobody else.
func TestPoolerUsers(t *testing.T) {
	s, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	admin, err := sql.Open("postgres", s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(`create role relay login password 'a "b" c'`); err != nil {
		t.Fatal(err)
	}
	p, err := s.Pooler(1, url.UserPassword("relay", `a "b" c`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	for user, in := range map[string]bool{"postgres": true, "relay": true, "nobody": false} {
		db, err := sql.Open("postgres", strings.Replace(p.URL("postgres"), "postgres@", user+"@", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Ping(); (err == nil) != in {
			t.Errorf("%s: %v", user, err)
		}
	}
}
