package sources

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"

	"github.com/lib/pq"
	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsUnavailable reports whether err says that the database is away, overloaded or busy: that the same call may succeed
// after a while, with nothing changed.
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if pqErr, ok := errors.AsType[*pq.Error](err); ok {
		switch code := string(pqErr.Code); code[:min(2, len(code))] {
		case "08", // connection exceptions; pgbouncer's errors, too
			"53", // too many connections, out of memory or disk
			"40": // a deadlock; on a standby: the query stood in the way of recovery
			return true
		default:
			switch code {
			case "57P01", "57P02", "57P03", "57P04", "57P05", // shutting down, crashed, starting up, dropped, idle for too long
				"25P03", // idle in a transaction for too long
				"55P03", // a lock was not to be had in time
				"57014": // cancelled by a statement's time limit
				return true
			}
		}
		return false
	}
	if liteErr, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		switch liteErr.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL:
			return true
		}
		return false
	}
	for _, away := range []error{
		driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	// Dialling, reading, names; not net.Error, which every system call's error is.
	_, network := errors.AsType[*net.OpError](err)
	_, name := errors.AsType[*net.DNSError](err)
	return network || name
}

// IsBarred reports whether err says that the database lets nobody in as this configuration asks: its password is another,
// it has another name, its file is elsewhere. For who was let in before it is worth waiting for; who comes for the first
// time has made a mistake. What bars one table, and not the others, does not count.
func IsBarred(err error) bool {
	if pqErr, ok := errors.AsType[*pq.Error](err); ok {
		if class := pqErr.Code.Class(); class == "28" || class == "3D" { // the role or its password, the database
			return true
		}
		// The right to connect, or a database that accepts no connections.
		return pqErr.Fatal() && (pqErr.Code == "42501" || pqErr.Code == "55000")
	}
	if liteErr, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		switch liteErr.Code() & 0xff {
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
			return true
		}
		return false
	}
	_, file := errors.AsType[*fs.PathError](err)
	return file
}

// A maskedError prints no text that may hold a row's values: PostgreSQL quotes them when a cast fails.
type maskedError struct{ err *pq.Error }

func (e maskedError) Error() string {
	return fmt.Sprintf("pq: %s (SQLSTATE %s)", e.err.Code.Name(), e.err.Code)
}

func (e maskedError) Unwrap() error { return e.err }

// masked hides the message of data exceptions; others name tables and columns only.
func masked(err error) error {
	if pqErr, ok := errors.AsType[*pq.Error](err); ok && len(pqErr.Code) == 5 && pqErr.Code[:2] == "22" {
		return maskedError{pqErr}
	}
	return err
}

// calledOff reports whether err is how a database says that the caller's context has ended.
func calledOff(err error) bool {
	if e, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_INTERRUPT
	}
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return e.Code == "57014"
	}
	return errors.Is(err, sql.ErrTxDone) // database/sql has rolled it back
}
