package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestIsUnavailable(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"none", nil, false},
		{"refused", refused, true},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{"pipe", syscall.EPIPE, true},
		{"end", io.EOF, true},
		{"bad connection", driver.ErrBadConn, true},
		{"unknown host", &net.DNSError{Err: "no such host"}, true},
		{"no file", &fs.PathError{Op: "stat", Err: syscall.ENOENT}, false},
		{"cancelled", context.Canceled, false},
		{"out of time", context.DeadlineExceeded, false},
		{"no rows", sql.ErrNoRows, false},
		{"lease lost", jobs.ErrLeaseLost, false},
		{"bookmark moved", jobs.ErrBookmarkMoved, false},
		{"serialization", &pq.Error{Code: "40001"}, true},
		{"deadlock", &pq.Error{Code: "40P01"}, true},
		{"too many connections", &pq.Error{Code: "53300"}, true},
		{"disk full", &pq.Error{Code: "53100"}, true},
		{"shutdown", &pq.Error{Code: "57P01"}, true},
		{"dropped", &pq.Error{Code: "57P04"}, true},
		{"dialled for too long", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true},
		{"starting", &pq.Error{Code: "57P03"}, true},
		{"read-only", &pq.Error{Code: "25006"}, true},
		{"paused in a transaction", &pq.Error{Code: "25P03"}, true},
		{"wrong password", &pq.Error{Code: "28P01"}, false},
		{"no such database", &pq.Error{Code: "3D000"}, false},
		{"no such column", &pq.Error{Code: "42703"}, false},
		{"duplicate", &pq.Error{Code: "23505"}, false},
	} {
		if got := IsUnavailable(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if wrapped := fmt.Errorf("settle: %w", c.err); c.err != nil && IsUnavailable(wrapped) != c.want {
			t.Errorf("%s, wrapped: want %v", c.name, c.want)
		}
	}
}

// A server that is stopped and started again: each fault on the way is one to wait for, nothing is half done, and the
// same Ledger goes on.
func TestServerGoneAndBack(t *testing.T) {
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Remove()
	dsn, err := server.Create()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, dsn: dsn, clock: &clock{now: start}}
	s.Ledger = s.open()
	s.webhooks("acme")
	lease := s.lease()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		d := s.record("acme", jobs.Sending)
		s.enter(lease, d)
		d.Lease = lease
		s.must(server.Stop(sig))
		for range 3 {
			if _, err := s.Settle(context.Background(), []jobs.Outcome{s.acked(d)}); !IsUnavailable(err) {
				t.Errorf("settle while the server is away: %v", err)
			}
		}
		s.must(server.Run())
		deadline := time.Now().Add(20 * time.Second)
		for {
			recorded, err := s.Settle(context.Background(), []jobs.Outcome{s.acked(d)})
			if err == nil {
				if !recorded[0] {
					t.Error("the outcome was fenced off")
				}
				break
			}
			if !IsUnavailable(err) || time.Now().After(deadline) {
				t.Fatalf("settle after the server is back: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if got := s.status("acme").Delivered; got != 2 {
		t.Errorf("delivered %d, want 2", got)
	}
}

// Another program that holds SQLite's write lock for long is waited for by the caller, not for ever within a method.
func TestSQLiteLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(context.Background(), "sqlite:"+path, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.write.Exec("pragma busy_timeout = 50"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnterStream(context.Background(), "Lead", "d", "b"); !IsUnavailable(err) {
		t.Errorf("while locked: %v", err)
	}
	if _, err := l.AllStreams(context.Background()); err != nil {
		t.Errorf("reading while another writes: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := l.EnterStream(context.Background(), "Lead", "d", "b"); err != nil {
		t.Errorf("after: %v", err)
	}
}

// A context that ends is the caller's own affair, and the ledger is as good as before.
func TestCancelled(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.TakeLease(ctx, "x", time.Minute); !errors.Is(err, context.Canceled) || IsUnavailable(err) {
			t.Errorf("take a lease: %v", err)
		}
		s.enter("", s.record("acme", jobs.Pending))
		if got := len(s.claim(s.lease(), 8, 8)); got != 1 {
			t.Errorf("claimed %d, want 1", got)
		}
	})
}

// A ledger file that is moved away, or another one in its place: nothing more is written to the one that nobody will
// find again. Put back, it is gone on with.
func TestSQLiteFileReplaced(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(ctx, "sqlite:"+path, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TakeLease(ctx, "x", time.Minute); !errors.Is(err, errReplaced) || !IsUnavailable(err) {
		t.Errorf("deleted: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TakeLease(ctx, "x", time.Minute); !errors.Is(err, errReplaced) {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TakeLease(ctx, "x", time.Minute); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// A database that was made read-only is not written to, whatever a transaction could ask for; and when it is no more, the
// same Ledger goes on.
func TestReadOnly(t *testing.T) {
	ctx, dsn := context.Background(), pgtest.Database(t)
	l, err := Open(ctx, dsn, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	admin, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	execute := func(statement string) {
		t.Helper()
		if _, err := admin.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database := u.Path[1:]
	execute("alter database " + database + " set default_transaction_read_only = on")
	execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	if _, err := l.TakeLease(ctx, "x", time.Minute); !IsUnavailable(err) {
		t.Errorf("while it is read-only: %v", err)
	}
	if _, err := l.AllStreams(ctx); err != nil {
		t.Errorf("reading while it is read-only: %v", err)
	}
	execute("begin read write; alter database " + database + " reset default_transaction_read_only; commit")
	// A session that began meanwhile does not know of it yet, and is ended for that.
	_, err = l.TakeLease(ctx, "x", time.Minute)
	if IsUnavailable(err) {
		_, err = l.TakeLease(ctx, "x", time.Minute)
	}
	if err != nil {
		t.Errorf("when it is no more: %v", err)
	}
}

func TestIsBarred(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"none", nil, false},
		{"wrong password", &pq.Error{Code: "28P01"}, true},
		{"no login", &pq.Error{Code: "28000"}, true},
		{"no such database", &pq.Error{Code: "3D000"}, true},
		{"no such schema", &callError{"enter", &pq.Error{Code: "3F000"}}, true},
		{"no such table", &callError{"enter", &pq.Error{Code: "42P01"}}, true},
		{"no right", &callError{"enter", &pq.Error{Code: "42501"}}, true},
		{"no such table in a source", &pq.Error{Code: "42P01"}, false},
		{"no right in a source", &pq.Error{Code: "42501"}, false},
		{"accepts no connections", &pq.Error{Code: "55000", Severity: "FATAL"}, true},
		{"a view in a source that is not filled", &pq.Error{Code: "55000", Severity: "ERROR"}, false},
		{"no such column", &pq.Error{Code: "42703"}, false},
		{"away", syscall.ECONNREFUSED, false},
		{"lease lost", jobs.ErrLeaseLost, false},
	} {
		if got := IsBarred(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
