// Package ledger keeps what is owed and what became of it in PostgreSQL or SQLite, behind one type and with one set
// of statements.
//
// # Who holds what
//
// A process has one row in leases; what it sends refers to that row, and every outcome is fenced by it. A webhook's
// pending deliveries are changed only by who holds the webhook's row in due, so a claim, a run that begins and a
// release never see each other half done. Rows are locked in one order everywhere: registry, lease, stream,
// subscription, row_versions, deliveries that are entered or sending, tallies, due, deliveries that are pending, runs; within a
// table by key. Two leave that order, seldom: an outcome that stops a webhook or lets it go takes the webhook's row and
// the registry last, and a version that is entered looks at one that is being sent under due. What deadlocks is tried
// again.
//
// # Promises to those who read the source
//
// No statement names a column with a record's content, since there is none. Errors name ids, never values.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgpool"
)

var (
	// ErrNoLedger says that there is no ledger at the address and that Options.Create was not given.
	ErrNoLedger = errors.New("no ledger there yet; `leadrelay serve`, `run-now` and `webhook add` make one")
	// ErrNewer says that a newer leadrelay has changed the ledger's tables.
	ErrNewer = errors.New("the ledger was made by a newer leadrelay: install that version or a later one")
	// ErrNotLedger says that the SQLite file holds other tables.
	ErrNotLedger = errors.New("the file is a database of something else: give the ledger a file of its own")
	// errReplaced is worth waiting for: the file may be put back.
	errReplaced = errors.New("the ledger's file was deleted or replaced while it was open: put it back, or restart leadrelay to use the one that is there now")
)

// An OwnerError says that a ledger's file belongs to another user: opening it would leave files there that its owner
// cannot use. Run the command as Owner.
type OwnerError struct {
	Path  string
	Owner string // the user's name, or number where it has none
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("the ledger %s belongs to the user %s: run this as %[2]s", e.Path, e.Owner)
}

// Options of Open.
type Options struct {
	// Clock is the ledger's clock; nil: the real one, on PostgreSQL the server's.
	Clock func() time.Time
	// Create makes a SQLite file or PostgreSQL tables that are not there yet. Without it they are ErrNoLedger.
	Create bool
	// SecretsKeys seal the webhooks' secrets; see ParseSecretsKeys. What stands in clear, or under a later key, is
	// sealed with the first when the ledger is opened with Create.
	SecretsKeys SecretsKeys
	// Connections to PostgreSQL at most; 0: 8.
	Connections int
}

// A Ledger is a jobs.Ledger over PostgreSQL or SQLite. Its methods may be called from several goroutines.
type Ledger struct {
	lite  bool
	write *sql.DB     // SQLite: one connection
	read  *sql.DB     // PostgreSQL: the same as write
	at    string      // SQLite: the address of a connection that reads
	path  string      // SQLite
	file  fs.FileInfo // SQLite: what path led to
	clock func() time.Time
	keys  SecretsKeys
	stop  func()

	created bool         // by Open
	pool    *pgpool.Pool // PostgreSQL
	schema  string       // PostgreSQL, quoted

	texts            []string                  // PostgreSQL: by statement.number
	writing, reading []*sql.Stmt               // SQLite: likewise
	working          ongoing                   // SQLite: those at work
	doubts           *doubts                   // PostgreSQL
	swept            atomic.Pointer[time.Time] // when Reclaim last looked for what is sending under no lease
}

var _ jobs.Ledger = (*Ledger)(nil)

// Open opens the ledger at dsn, `sqlite:PATH` or `postgres://…`, and brings its tables up to date. On PostgreSQL they
// are in the schema leadrelay, or in the one that the address names with search_path. Errors are ErrNoLedger,
// ErrNewer, ErrNotLedger, *OwnerError, or the database's: see IsUnavailable.
func Open(ctx context.Context, dsn string, opts Options) (*Ledger, error) {
	l := &Ledger{clock: opts.Clock, keys: opts.SecretsKeys, stop: func() {}, doubts: newDoubts()}
	var err error
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		l.lite = true
		err = l.openSQLite(ctx, path, opts)
	} else if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		err = l.openPostgres(ctx, dsn, opts)
	} else {
		return nil, errors.New("the ledger's address must begin with sqlite: or postgres://")
	}
	if err == nil && opts.Create {
		err = l.reseal(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Created reports whether Open found no ledger and made one: it knows nothing of what was sent before.
func (l *Ledger) Created() bool { return l.created }

// Close ends the ledger's connections. Leases stay: drop them first.
func (l *Ledger) Close() error {
	l.stop()
	var errs []error
	for _, db := range []*sql.DB{l.read, l.write} {
		if db == nil || db == l.write && db == l.read && len(errs) > 0 {
			continue // on PostgreSQL they are one
		}
		err := db.Close()
		if IsUnavailable(err) { // a connection that the server has closed already
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Now is the ledger's clock, in UTC, to the microsecond, which is what both databases keep.
func (l *Ledger) Now() time.Time { return l.clock().UTC().Truncate(time.Microsecond) }

// newID is short, unique and sorts by time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
