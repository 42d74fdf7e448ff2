package pgpool_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/leadrelay/leadrelay/jobs/pgpool"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// forgetful leads connections to a server, and forgets those that are open when it is told to: what is sent on them is
// lost, and neither end hears of it.
func forgetful(t *testing.T, dsn string) (by string, forget func()) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	to := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	var age atomic.Int64
	var conns sync.WaitGroup
	lead := func(from, onto net.Conn, born int64) {
		defer onto.Close()
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if age.Load() == born {
				_, _ = onto.Write(buf[:n])
			}
		}
	}
	conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			born := age.Load()
			conns.Go(func() { lead(server, client, born) })
			conns.Go(func() { lead(client, server, born) })
		}
	})
	t.Cleanup(func() { // when the pools are closed
		_ = listener.Close()
		conns.Wait()
	})
	return u.String(), func() { age.Add(1) }
}

func newPool(t *testing.T, dsn string, open, idle int) *pgpool.Pool {
	t.Helper()
	cfg, err := pq.NewConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgpool.New(cfg, open, idle, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func open(t *testing.T, dsn string, size int) *pgpool.Pool {
	t.Helper()
	pool := newPool(t, dsn, size, size)
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

// Connections that were forgotten on the way are given up, by those who wait for answers on them, and those at rest are not
// used again. What was asked of late is left alone.
func TestForgotten(t *testing.T) {
	by, forget := forgetful(t, pgtest.Database(t))
	pool := open(t, by, 4)
	var all [3]*sql.Conn // that are at rest then
	for i := range all {
		conn, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all[i] = conn
	}
	for _, conn := range all {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	asked := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(ctx, "select 1")
		asked <- err
	}()
	<-ctx.Done()
	select {
	case err := <-asked:
		t.Fatalf("it ended with its context, by itself: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if n := pool.Drop(time.Now().Add(-time.Hour)); n != 0 {
		t.Errorf("%d connections were given up after an hour", n)
	}
	if n := pool.Drop(time.Now()); n != 1 {
		t.Errorf("%d connections were given up, one has no answer", n)
	}
	if err := <-asked; err == nil {
		t.Error("there was an answer")
	}
	execute(t, pool, "select 1")
	if n := pool.Drop(time.Now()); n != 0 {
		t.Errorf("%d connections were given up, and none waits", n)
	}
}

// Connections at rest that were forgotten as well, with statements prepared on them, do not keep who gives up others.
func TestForgottenAtRest(t *testing.T) {
	by, forget := forgetful(t, pgtest.Database(t))
	pool := open(t, by, 4)
	stmt, err := pool.Prepare("select 1")
	if err != nil {
		t.Fatal(err)
	}
	var all [3]*sql.Tx
	for i := range all {
		if all[i], err = pool.Begin(); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := all[i].Stmt(stmt).QueryRow().Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	for _, tx := range all {
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	asked := make(chan error, 1)
	go func() {
		_, err := pool.Exec("select 1")
		asked <- err
	}()
	time.Sleep(100 * time.Millisecond)
	dropped := make(chan int, 1)
	go func() { dropped <- pool.Drop(time.Now()) }()
	select {
	case n := <-dropped:
		if n != 1 {
			t.Errorf("%d connections were given up, one has no answer", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("connections that wait are given up, and those at rest keep who does so")
	}
	if err := <-asked; err == nil {
		t.Error("there was an answer")
	}
	execute(t, pool, "select 1")
}

// One question apart is over when its context is, though the server does not answer.
func TestApart(t *testing.T) {
	by, forget := forgetful(t, pgtest.Database(t))
	pool := open(t, by, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	db := pool.Apart(ctx)
	defer db.Close()
	var n int
	if err := db.QueryRowContext(ctx, "select 1").Scan(&n); err != nil {
		t.Fatal(err)
	}
	forget()
	if err := db.QueryRowContext(ctx, "select 1").Scan(&n); err == nil {
		t.Error("there was an answer")
	}
}

// A connection that listens is given up where a ping has no answer, and not for having nothing to hear.
func TestListener(t *testing.T) {
	by, forget := forgetful(t, pgtest.Database(t))
	pool := open(t, by, 4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := pq.NewDialListener(pool.Listener(ctx), by, time.Millisecond, time.Millisecond, nil)
	defer l.Close()
	if err := l.Listen("news"); err != nil {
		t.Fatal(err)
	}
	if n := pool.Drop(time.Now()); n != 0 {
		t.Errorf("%d connections were given up while nothing was asked", n)
	}
	forget()
	go func() { _ = l.Ping() }()
	for pool.Drop(time.Now()) == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case n := <-l.Notify: // nil: it has begun anew
		if n != nil {
			t.Errorf("notified of %+v", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not listen again")
	}
}

// TestPreferTLS: of connections to a server that is asked for TLS and has none, none is left open.
func TestPreferTLS(t *testing.T) {
	dsn, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	q := dsn.Query()
	q.Set("sslmode", "prefer")
	dsn.RawQuery = q.Encode()
	pool := newPool(t, dsn.String(), 4, 0)
	defer pool.Close()
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	before := open()
	for range 20 {
		if err := pool.Ping(); err != nil {
			t.Fatal(err)
		}
	}
	if n := open() - before; n > 5 {
		t.Errorf("%d files are open that were not", n)
	}
}

// TestShared: sessions are shared behind a pooler, and nowhere else. While others keep a pooler busy it may be overlooked,
// but hardly twice.
func TestShared(t *testing.T) {
	pooled, direct := pgtest.Pooled(t)
	for dsn, want := range map[string]bool{pooled: true, direct: false} {
		pool := open(t, dsn, 4)
		look := func(wrong int) {
			t.Helper()
			for range 20 {
				got, err := pool.Shared(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got != want {
					wrong--
				}
			}
			if wrong < 0 {
				t.Errorf("%d times more often than it may, shared is not %v", -wrong, want)
			}
		}
		look(0)
		busy, stop := context.WithCancel(t.Context())
		var others errgroup.Group
		for range 2 {
			others.Go(func() error {
				for busy.Err() == nil {
					if _, err := pool.Exec("select pg_sleep($1)", 0.001); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if want {
			look(1)
		} else {
			look(0)
		}
		stop()
		if err := others.Wait(); err != nil {
			t.Error(err)
		}
	}
}
