package ledger

import (
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
	schema = "leadrelay" // where the address names none
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
	path := schema
	if named := cfg.Runtime["search_path"]; named != "" {
		path, _, _ = strings.Cut(named, ",")
		path = strings.Trim(strings.TrimSpace(path), `"`)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "leadrelay"
	}
	delete(cfg.Runtime, "search_path")
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return fmt.Errorf("the ledger's address: %w", err)
	}
	// Plans are made anew for every execution: tables grow a thousandfold within one connection's life, and a plan
	// made while they were empty reads them whole. A paused process must not hold its locks for ever.
	// Read committed, whatever the server's default: locks are taken first and each statement then sees what others had
	// committed before.
	setup := "set search_path to " + pq.QuoteIdentifier(path) +
		"; set plan_cache_mode to force_custom_plan; set jit to off; set idle_in_transaction_session_timeout to '15s'" +
		"; set default_transaction_isolation to 'read committed'"
	n := opts.Connections
	if n == 0 {
		n = 8
	}
	n = max(n, 2) // one holds the migration's lock while another works
	// Sessions are set up by a statement: poolers refuse start-up options they do not know.
	l.pool = pgpool.New(connector, n, n, func(ctx context.Context, conn driver.Conn) (driver.Conn, error) {
		_, err := conn.(driver.ExecerContext).ExecContext(ctx, setup, nil)
		return session{conn.(pgConn)}, err
	})
	l.write, l.read = l.pool.DB, l.pool.DB
	l.write.SetConnMaxIdleTime(5 * time.Minute)
	if err := l.makeTables(ctx, path, opts.Create); err != nil {
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

// A session begins transactions as the server has them by default, where the driver's own would ask for one that writes:
// who makes a database read-only, such as before they move it, means it, and what is written then may be lost.
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
}

// BeginTx begins one with the session's isolation.
func (s session) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return s.pgConn.Begin()
}

// makeTables brings the tables up to date under an advisory lock, so that daemons may start at once.
func (l *Ledger) makeTables(ctx context.Context, path string, create bool) error {
	conn, err := l.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	err = func() error {
		ours, _, err := l.made(ctx)
		if err != nil {
			return err
		}
		if !ours && !create {
			return fmt.Errorf("schema %s: %w", path, ErrNoLedger)
		}
		// `create schema if not exists` asks for a right that is not needed where the schema is there.
		var there bool
		if err := conn.QueryRowContext(ctx, "select exists (select 1 from pg_namespace where nspname = $1)", path).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := conn.ExecContext(ctx, "create schema "+pq.QuoteIdentifier(path)); err != nil {
				return fmt.Errorf("create schema %s: %w", path, err)
			}
		}
		return l.migrate(ctx)
	}()
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, e := conn.ExecContext(unlock, "select pg_advisory_unlock($1)", int64(migrationLock))
	if err == nil {
		err = e // else it says no more than why it is there
	}
	return err
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
