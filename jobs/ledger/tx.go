package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/lib/pq"
	"github.com/sethvargo/go-retry"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/leadrelay/leadrelay/jobs"
)

// A tx is one transaction, or one reading outside of any. now is the ledger's time when it began.
type tx struct {
	l     *Ledger
	sql   *sql.Tx // nil: reading
	now   time.Time
	doubt doubt // what it took for the caller, who will not hear of it where the commit fails
}

// change runs f in a transaction and once more where the database asks for it (serialization, deadlock), a few times.
// what says what was attempted, for the error.
func (l *Ledger) change(ctx context.Context, what string, f func(ctx context.Context, t *tx) error) error {
	return l.persist(ctx, what, func(ctx context.Context) error { return l.once(ctx, f) })
}

// persist calls once, which runs a transaction, more than once where the database asks for it.
func (l *Ledger) persist(ctx context.Context, what string, once func(ctx context.Context) error) error {
	backoff := retry.WithMaxRetries(4, retry.WithJitter(5*time.Millisecond, retry.NewExponential(10*time.Millisecond)))
	var last error
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		last = once(ctx)
		l.pool.Renew(last)
		if again(last) {
			return retry.RetryableError(last)
		}
		return last
	})
	if err == nil {
		return nil
	}
	if last != nil && !errors.Is(err, last) { // ctx ended while waiting to try again
		err = fmt.Errorf("%w; before: %w", err, last)
	}
	if ctx.Err() != nil && calledOff(err) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return &callError{what, err}
}

// A callError is what came of a call to the ledger, which says what was attempted.
type callError struct {
	what string
	err  error
}

func (e *callError) Error() string { return e.what + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// calledOff reports whether err is how a database says that the caller's context has ended.
func calledOff(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_INTERRUPT
	}
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return e.Code == "57014"
	}
	return errors.Is(err, sql.ErrTxDone) // database/sql has rolled it back
}

func (l *Ledger) once(ctx context.Context, f func(ctx context.Context, t *tx) error) error {
	if err := l.there(); err != nil {
		return err
	}
	var begun *sql.Tx
	var alone *sql.Conn // SQLite
	err := l.fresh(func() (err error) {
		if !l.lite {
			begun, err = l.write.BeginTx(ctx, nil) // see session
			return err
		}
		if alone, err = l.write.Conn(ctx); err != nil {
			return err
		}
		defer l.work(ctx)() // `begin immediate` waits for other processes; that we wait for the one connection is our own affair
		begun, err = alone.BeginTx(ctx, nil)
		return err
	})
	if alone != nil {
		defer func() { _ = alone.Close() }()
	}
	if err != nil {
		return err
	}
	jobs.Heartbeat(ctx)
	t := &tx{l: l, sql: begun, now: l.Now()}
	if err := f(ctx, t); err != nil {
		if e := begun.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) {
			return fmt.Errorf("%w (and rolling back: %w)", err, e)
		}
		return err
	}
	defer l.work(ctx)()
	if err := begun.Commit(); err != nil {
		if !l.lite {
			l.doubts.put(t.doubt)
		}
		return err
	}
	l.doubts.give(t.doubt)
	return nil
}

// fresh calls f, which does nothing that must not be done twice, again while it finds connections in the pool that
// the server has closed: after a restart there may be one after another; or where the server has no room for one more.
func (l *Ledger) fresh(f func() error) error {
	err := f()
	for n := 0; n < 16 && (stale(err) || l.pool.Again(err)); n++ {
		err = f()
	}
	return err
}

func stale(err error) bool {
	for _, closed := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, closed) {
			return true
		}
	}
	e, ok := errors.AsType[*pq.Error](err)
	return ok && (e.Code == "57P01" || e.Code == "57P02" || e.Code == "25P03" || e.Code == "57P05")
}

// view runs f outside of any transaction, maybe more than once.
func (l *Ledger) view(what string, f func(t *tx) error) error {
	if err := l.fresh(func() error { return f(&tx{l: l, now: l.Now()}) }); err != nil {
		l.pool.Renew(err)
		return &callError{what, err}
	}
	return nil
}

// A query is a statement on one connection, or on any. *sql.Stmt is one.
type query interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, args ...any) *sql.Row
}

// An unprepared query is sent as text each time.
type unprepared struct {
	on interface {
		ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
	}
	text string
}

func (q unprepared) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return q.on.ExecContext(ctx, q.text, args...)
}

func (q unprepared) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return q.on.QueryContext(ctx, q.text, args...)
}

func (q unprepared) QueryRowContext(ctx context.Context, args ...any) *sql.Row {
	return q.on.QueryRowContext(ctx, q.text, args...)
}

// query gives the statement on this transaction's connection or, outside of one, on any.
func (t *tx) query(ctx context.Context, s *statement) query {
	switch {
	case !t.l.lite && t.sql != nil:
		return unprepared{t.sql, t.l.texts[s.number]}
	case !t.l.lite:
		return unprepared{t.l.read, t.l.texts[s.number]}
	case t.sql != nil:
		return t.sql.StmtContext(ctx, t.l.writing[s.number])
	}
	return t.l.reading[s.number]
}

func (t *tx) exec(ctx context.Context, s *statement, args ...any) (int64, error) {
	defer t.l.work(ctx)()
	res, err := t.query(ctx, s).ExecContext(ctx, t.convert(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// one scans one row; sql.ErrNoRows where there is none.
func (t *tx) one(ctx context.Context, s *statement, args []any, dest ...any) error {
	defer t.l.work(ctx)()
	return t.query(ctx, s).QueryRowContext(ctx, t.convert(args)...).Scan(dest...)
}

// each calls f, which scans, on every row.
func (t *tx) each(ctx context.Context, s *statement, args []any, f func(*sql.Rows) error) error {
	defer t.l.work(ctx)()
	rows, err := t.query(ctx, s).QueryContext(ctx, t.convert(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return rows.Close()
}

func (t *tx) convert(args []any) []any {
	converted := make([]any, len(args))
	for i, a := range args {
		converted[i] = t.l.arg(a)
	}
	return converted
}

// again says that the same transaction may well succeed at once.
func again(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// IsUnavailable says that err is a fault of the database that is worth waiting for: it is away, starting, stopping,
// full, out of connections, for now read-only, busy with others, or its file is gone.
func IsUnavailable(err error) bool {
	if errors.Is(err, errReplaced) || errors.Is(err, errInDoubt) {
		return true
	}
	if e, ok := errors.AsType[*pq.Error](err); ok {
		switch e.Code.Class() {
		case "08", "40", "53", "58": // connection, rollback, resources, system
			return true
		}
		switch e.Code {
		case "25006", // read-only transaction: a standby, or made so
			"25P03",                                     // idle in transaction for too long: we were paused
			"55P03",                                     // lock not available
			"57014",                                     // cancelled by a statement's time limit
			"57P01", "57P02", "57P03", "57P04", "57P05": // shutdown, crash, starting, dropped, idle for too long
			return true
		}
		return false
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // without the extension
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PROTOCOL:
			return true
		}
		return false
	}
	for _, away := range []error{
		driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	_, op := errors.AsType[*net.OpError](err) // refused, unreachable, timeout; not a context that ended, which is the caller's own
	_, dns := errors.AsType[*net.DNSError](err)
	return (op || dns) && !errors.Is(err, context.Canceled)
}

// IsBarred says that err is the database's refusal of this configuration: another password, another name, a right that is
// not there, tables that are not, a file that cannot be opened or written. For who worked with the ledger before it is
// worth waiting for; who comes for the first time has made a mistake. That a table is not there, or not for us, counts
// where a call to the ledger says so: a source has tables of its own.
func IsBarred(err error) bool {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		switch e.Code.Class() {
		case "28", "3D": // the role or its password, the database
			return true
		}
		switch _, ours := errors.AsType[*callError](err); e.Code {
		case "42501", "42P01", "3F000": // a right, a table, a schema: somebody restores them
			return ours
		case "55000": // a database that accepts no connections
			return e.Fatal()
		}
		return false
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
			return true
		}
	}
	return false
}
