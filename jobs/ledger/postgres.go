package ledger

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs/pgpool"
)

const (
	defaultSchema = "leadrelay" // where the address names none
	// migrationLock is the advisory lock of who brings the tables up to date: "leadrelay" as a number.
	migrationLock = 0x6c656164_72656c61
	clockRefresh  = time.Minute
)

func (l *Ledger) openPostgres(ctx context.Context, dsn string, opts Options) error {
	if _, err := url.Parse(dsn); err != nil { // whose text would show the password
		return errors.New("the ledger's postgres:// address cannot be read: in a password write % / ? # @ : as %25, %2F, %3F, %23, %40, %3A")
	}
	cfg, err := pq.NewConfig(dsn)
	if err != nil {
		return fmt.Errorf("the ledger's address: %w", err)
	}
	schema := defaultSchema
	if named := cfg.Runtime["search_path"]; named != "" {
		schema, _, _ = strings.Cut(named, ",")
		schema = strings.Trim(strings.TrimSpace(schema), `"`)
	}
	l.schema = pq.QuoteIdentifier(schema)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "leadrelay"
	}
	delete(cfg.Runtime, "search_path") // poolers refuse start-up options that they do not know
	n := cmp.Or(opts.Connections, 8)
	l.pool, err = pgpool.New(cfg, n, n, func(conn driver.Conn) driver.Conn { return session{conn.(pgConn)} })
	if err != nil {
		return fmt.Errorf("the ledger's address: %w", err)
	}
	l.write, l.read = l.pool.DB, l.pool.DB
	l.write.SetConnMaxIdleTime(5 * time.Minute)
	ours, _, err := l.made(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("open the ledger: %w", err)
	case !ours && !opts.Create:
		return fmt.Errorf("open the ledger: schema %s: %w", schema, ErrNoLedger)
	}
	if err := l.migrate(ctx); err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	if l.clock == nil {
		return l.followClock(ctx)
	}
	return nil
}

// A session begins transactions in one round trip with what they need set for them alone: the next may be in another
// session.
type session struct{ pgConn }

type pgConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.Tx // of lib/pq a connection is its transaction, too
}

// Read committed, whatever the server's default: locks are taken first and each statement then sees what others had
// committed before. A paused process must not hold its locks for ever. Compiling a plan takes longer than running it.
//
// It is not said that the transaction writes, as the driver's own would: who makes a database read-only, such as before
// they move it, means it, and what is written then may be lost.
const beginSQL = `begin isolation level read committed; set local idle_in_transaction_session_timeout to '15s'; set local jit to off`

// BeginTx implements driver.ConnBeginTx.
func (s session) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if _, err := s.ExecContext(ctx, beginSQL, nil); err != nil {
		_ = s.Rollback() // of what may have begun; a connection that had nothing to roll back is not used again
		return nil, err
	}
	return s.pgConn, nil
}

// makeSchema makes the ledger's schema.
func (l *Ledger) makeSchema(ctx context.Context) error {
	// `create schema if not exists` asks for a right that is not needed where the schema is there.
	var there bool
	if err := l.write.QueryRowContext(ctx, "select to_regnamespace($1) is not null", l.schema).Scan(&there); err != nil || there {
		return err
	}
	if _, err := l.write.ExecContext(ctx, "create schema "+l.schema); err != nil {
		return fmt.Errorf("create schema %s: %w", l.schema, err)
	}
	return nil
}

// followClock makes the server's clock the ledger's. Between measurements this machine's monotonic clock carries it
// on, so a wall clock that is wrong here, or is set, changes nothing.
func (l *Ledger) followClock(ctx context.Context) error {
	type mark struct {
		server time.Time
		here   time.Time
	}
	var at atomic.Pointer[mark]
	measure := func(ctx context.Context) error {
		var server time.Time
		before := time.Now()
		if err := l.write.QueryRowContext(ctx, "select clock_timestamp()").Scan(&server); err != nil {
			return fmt.Errorf("read the ledger's clock: %w", err)
		}
		at.Store(&mark{server, before.Add(time.Since(before) / 2)})
		return nil
	}
	if err := measure(ctx); err != nil { // the first asks for the statement to be parsed, too
		return err
	}
	if err := measure(ctx); err != nil {
		return err
	}
	l.clock = func() time.Time {
		m := at.Load()
		return m.server.Add(time.Since(m.here))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(clockRefresh)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = measure(ctx) // where it cannot be had the last one goes on
			}
		}
	})
	l.stop = func() { cancel(); done.Wait() }
	return nil
}
