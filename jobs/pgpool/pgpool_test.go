package pgpool_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"testing"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/leadrelay/leadrelay/jobs/pgpool"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func open(t *testing.T, dsn string, size int) *pgpool.Pool {
	t.Helper()
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgpool.New(connector, size, size, nil)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func execute(t *testing.T, pool *pgpool.Pool, statement string) {
	t.Helper()
	if _, err := pool.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// A server that has room for two connections of a pool of eight: whoever wants one gets one of these. Where it has room
// for none, it is an error.
func TestFewConnections(t *testing.T) {
	dsn := pgtest.Database(t)
	admin := open(t, dsn, 1)
	execute(t, admin, "create role few login connection limit 2")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("few")
	pool := open(t, u.String(), 8)
	ask := func() error {
		_, err := pool.Exec("select pg_sleep(0.01)")
		for pool.Again(err) {
			_, err = pool.Exec("select pg_sleep(0.01)")
		}
		return err
	}
	var g errgroup.Group
	for range 16 {
		g.Go(func() error {
			for range 10 {
				if err := ask(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	execute(t, admin, "alter role few connection limit 0")
	pool.SetMaxIdleConns(0)
	e, refused := errors.AsType[*pq.Error](ask())
	if !refused || e.Code != "53300" {
		t.Errorf("without room for any: %v", e)
	}
}

// What was forbidden to a session by the settings that it began with is not to the next, once they are others.
func TestRenew(t *testing.T) {
	dsn := pgtest.Database(t)
	admin, pool := open(t, dsn, 1), open(t, dsn, 2)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database := u.Path[1:]
	for _, c := range []struct{ setting, forbidden string }{
		{"default_transaction_read_only = on", "create table renewed (n int)"},
		{"statement_timeout = 20", "select pg_sleep(0.05)"},
	} {
		execute(t, admin, "alter database "+database+" set "+c.setting)
		pool.SetMaxIdleConns(0)
		pool.SetMaxIdleConns(2)
		if _, err := pool.ExecContext(context.Background(), c.forbidden); err == nil {
			t.Fatalf("%s: nothing was forbidden", c.setting)
		} else {
			execute(t, admin, "alter database "+database+" reset all")
			pool.Renew(err)
		}
		execute(t, pool, c.forbidden)
	}
}
