package sources

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
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
			case "57P01", "57P02", "57P03", // shutting down, crashed, starting up
				"55P03": // a lock was not to be had in time
				return true
			}
		}
		return false
	}
	if liteErr, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		switch liteErr.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
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
