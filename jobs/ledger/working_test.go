package ledger

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// TestWorking: a ledger that is at work at a statement of ours, or keeps it waiting for a lock, says so; one that has
// nothing of ours to do, though we wait for it, does not.
func TestWorking(t *testing.T) {
	for _, name := range []string{"postgres", "sqlite"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := &stage{t: t, dsn: address(t, name), clock: &clock{now: start}}
			s.Ledger = s.open()
			s.webhooks("acme")
			lease := must[string](t)(s.TakeLease(ctx, "here", time.Hour))
			works := func() string {
				t.Helper()
				return must[string](t)(s.Working(ctx))
			}
			if work := works(); work != "" {
				t.Errorf("at rest it is at work: %s", work)
			}

			// Ours is the fault: all connections are in use, and nobody gives them back.
			for range s.write.Stats().MaxOpenConnections {
				tx := must[*sql.Tx](t)(s.write.BeginTx(ctx, nil))
				defer func() { _ = tx.Rollback() }()
			}
			waiting, stop := context.WithCancel(ctx)
			claimed := make(chan error, 1)
			go func() {
				_, err := s.Ledger.Claim(waiting, jobs.Claim{Lease: lease, Each: 1, Limit: 1})
				claimed <- err
			}()
			time.Sleep(6 * time.Second) // what is quicker does not count as work
			if work := works(); work != "" {
				t.Errorf("while we wait for a connection of our own it is at work: %s", work)
			}
			stop()
			if err := <-claimed; err == nil {
				t.Error("a claim without a connection succeeded")
			}
		})
	}
}

// TestWorkingAtALock: another session's lock on the ledger's tables is waited for, and said.
func TestWorkingAtALock(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &stage{t: t, dsn: pgtest.Database(t), clock: &clock{now: start}}
	s.Ledger = s.open()
	other := must[*sql.DB](t)(sql.Open("postgres", s.dsn))
	defer other.Close()
	tx := must[*sql.Tx](t)(other.BeginTx(ctx, nil))
	if _, err := tx.ExecContext(ctx, "lock table leadrelay.leases"); err != nil {
		t.Fatal(err)
	}
	var session string
	s.must(tx.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&session))
	taken := make(chan error, 1)
	go func() {
		_, err := s.TakeLease(ctx, "here", time.Hour)
		taken <- err
	}()
	for work := ""; !strings.HasSuffix(work, "waiting for a lock of session "+session); {
		time.Sleep(time.Second)
		if work = must[string](t)(s.Working(ctx)); work != "" {
			t.Log(work)
		}
	}
	s.must(tx.Rollback())
	s.must(<-taken)
}

// TestWorkingAtALockedFile: so is that of another process on a ledger's file.
func TestWorkingAtALockedFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := stageOn(t, "sqlite")
	other := must[*sql.DB](t)(sql.Open("sqlite", "file:"+s.path))
	defer other.Close()
	lock := must[*sql.Conn](t)(other.Conn(ctx))
	defer lock.Close()
	if _, err := lock.ExecContext(ctx, "begin immediate"); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() {
		_, err := s.TakeLease(ctx, "here", time.Hour)
		taken <- err
	}()
	for work := ""; !strings.HasPrefix(work, "a statement has been at work for "); time.Sleep(time.Second) {
		work = must[string](t)(s.Working(ctx))
	}
	if _, err := lock.ExecContext(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	s.must(<-taken)
}

// TestWorkingAway: a ledger that is away does not answer.
func TestWorkingAway(t *testing.T) {
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
	server.Remove()
	if work, err := s.Working(t.Context()); !IsUnavailable(err) {
		t.Errorf("it answers %q, %v", work, err)
	}
}
