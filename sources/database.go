package sources

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/leadrelay/leadrelay/jobs"
)

// Options of a Database. The zero value is what programs want.
type Options struct {
	Now func() time.Time // nil: time.Now; what gaps are aged by
}

// A Database is where streams' tables stand. Its methods are safe for concurrent use.
type Database struct {
	eng  engine
	now  func() time.Time
	wake *wake
}

// An engine is what PostgreSQL and SQLite do differently, below a stream.
type engine interface {
	name() string
	// read runs fn in a read-only transaction. Each statement of it sees what was committed before that statement.
	read(ctx context.Context, fn func(q querier) error) error
	ping(ctx context.Context) error
	// working is Database.Working.
	working(ctx context.Context) (string, error)
	// drop is Database.Drop.
	drop(then time.Time) int
	close() error
	// listen calls w.bump whenever rows may have come, until the context ends.
	listen(ctx context.Context, w *wake)

	// inspect says what the stream's table or query is.
	inspect(ctx context.Context, q querier, cfg *Config) (*shape, error)
	// param is the n-th parameter, from 1; output is an expression as a SELECT gives it out; text is one as text.
	param(n int) string
	output(expr string) string
	text(expr string) string
	// json is a column of a type as a JSON text; one that is text already is taken to be one.
	json(column, typ string) string
	// size is how many bytes the text of a field takes, "" where that is always little. unlessLarge is what a field
	// gives out, expr made of column, where it may leave out a value that takes more than most.
	size(expr, typ string) string
	unlessLarge(expr, column string, most int) string
	// bounded makes a statement that a converter reads by end with the page: see pageBytes.
	bounded(query string, c *converter) string
	// oneOf says that expr, as text, is one of a list, which is parameter n and what arg gives.
	oneOf(expr string, n int, list []string) (condition string, args []any)
	// issued is the last id that the stream's sequence gave out, and its increment; ok is false where there is none
	// that can be read.
	issued(ctx context.Context, q querier, sh *shape) (seq issued, ok bool, err error)
	// lowWater is the time before which no row will be created any more; floor is an earlier such time, or zero.
	lowWater(ctx context.Context, q querier, s *Stream, floor time.Time) (time.Time, error)
	// byKey is the condition that the id is one of these keys.
	byKey(sh *shape, cfg *Config, keys []string) (condition string, args []any)
	// changed is when a row of a stream with versions last changed.
	changed(sh *shape, cfg *Config) (instant, error)
	// dating is how rows are found by a time.
	dating(cfg *Config, at instant) dating
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// A shape is what a database says of a stream's table or query.
type shape struct {
	from    string            // what stands behind FROM
	types   map[string]string // column → type, as the engine names it
	notNull map[string]bool   // columns that are never NULL, named as in types
	folds   bool              // column names are compared without case
	isTable bool              // and not a view or a query
	key     string            // id as the engine compares and orders it
	keyType string            // type that key is compared as

	integerKey bool // the engine gives out the ids, from a sequence or as SQLite does
	sequence   *sequence

	oid           int64 // PostgreSQL
	autoincrement bool  // SQLite
}

// A sequence feeds an id column.
type sequence struct {
	name      string // quoted
	oid       int64
	increment int64
	cache     int64
	start     int64
	cycles    bool
	readable  bool
}

type issued struct{ last, increment int64 }

// keyCast stands behind a parameter that holds a key.
func (sh *shape) keyCast() string {
	if sh.keyType == "" {
		return ""
	}
	return "::" + sh.keyType
}

func (sh *shape) columnType(name string) (string, bool) {
	if sh.folds {
		name = strings.ToLower(name)
	}
	t, ok := sh.types[name]
	return t, ok
}

// Open opens a database for reading: postgres://… or sqlite:PATH. It does not need to be reachable yet where it is
// PostgreSQL: Ping says. Errors never hold the password.
func Open(ctx context.Context, dsn string, opts Options) (*Database, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	var eng engine
	var err error
	switch scheme, path, _ := strings.Cut(dsn, ":"); scheme {
	case "postgres", "postgresql":
		eng, err = openPostgres(dsn)
	case "sqlite":
		eng, err = openSQLite(ctx, path, opts.Now)
	default:
		err = errors.New("a source is postgres://… or sqlite:PATH")
	}
	if err != nil {
		return nil, err
	}
	return &Database{eng: eng, now: opts.Now, wake: newWake(eng)}, nil
}

// Engine is "postgres" or "sqlite".
func (d *Database) Engine() string { return d.eng.name() }

// Ping says whether the database can be reached.
func (d *Database) Ping(ctx context.Context) error {
	if err := d.eng.ping(ctx); err != nil {
		return fmt.Errorf("reach the source: %w", masked(err))
	}
	return nil
}

// Working asks the database over a connection of its own what it is at work at for this process for longer than is usual;
// "" is nothing. An error says that the database does not answer. A query of a large table may take its time.
func (d *Database) Working(ctx context.Context) (string, error) {
	work, err := d.eng.working(ctx)
	if err != nil {
		return "", masked(err)
	}
	return work, nil
}

// Drop gives up the connections that have waited for an answer since before then, and counts them. It is for when the
// database has answered others since.
func (d *Database) Drop(then time.Time) int { return d.eng.drop(then) }

// Close ends the connections, and the waiting of all streams.
func (d *Database) Close() error {
	d.wake.close()
	if err := d.eng.close(); !IsUnavailable(err) { // else of a connection that the server has closed already
		return err
	}
	return nil
}

// readTx is engine.read over a pool.
func readTx(ctx context.Context, db *sqlx.DB, isolation sql.IsolationLevel, fn func(q querier) error) error {
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: isolation})
	if err != nil {
		return err
	}
	jobs.Heartbeat(ctx)
	err = fn(lively{tx})
	if err != nil {
		_ = tx.Rollback() // where this fails too, the connection is gone, and err says why
	} else {
		err = tx.Commit()
	}
	if ctx.Err() != nil && calledOff(err) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// A lively querier says of each answer that the database is slow, and does not hang.
type lively struct{ *sqlx.Tx }

func (q lively) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	defer jobs.Heartbeat(ctx)
	return q.Tx.QueryContext(ctx, query, args...)
}

func (q lively) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	defer jobs.Heartbeat(ctx)
	return q.Tx.QueryRowContext(ctx, query, args...)
}
