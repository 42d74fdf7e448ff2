// Package pgpool keeps pools of connections to a PostgreSQL server that may change its mind: about how many there may be,
// and about what they may do; and over a network that may forget them.
//
// Before the server there may be a pooler that gives each transaction another session (pgbouncer in transaction mode). So
// no transaction needs what an earlier one left in its session: no prepared statement, setting, lock or temporary table.
// Statements are sent unnamed and in one round trip: in two, another client's statement could come between.
package pgpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// growAgain is how long a pool stays within what the server had room for before it asks for more.
const growAgain = time.Minute

// A Pool is a pool of connections. Its methods may be called from several goroutines; Again and Renew of a nil Pool do
// nothing.
type Pool struct {
	*sql.DB
	connector  *pq.Connector
	open, idle int // connections at most, and of them at rest
	links      links

	mu   sync.Mutex
	grow *time.Timer // nil: it has its size
}

// New makes a pool of at most open connections, of which idle are kept at rest; wrap, where it is not nil, is called with
// each new one and returns the one to use.
//
// A parameter that is a []byte is sent in PostgreSQL's binary format, which is right for a bytea and wrong for all else:
// other values are to be strings.
func New(cfg pq.Config, open, idle int, wrap func(driver.Conn) driver.Conn) (*Pool, error) {
	cfg.BinaryParameters = true // lib/pq's word for statements in one round trip
	c, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	p := &Pool{connector: c, open: open, idle: idle}
	p.DB = sql.OpenDB(&connector{c, p, wrap})
	p.SetMaxOpenConns(open)
	p.SetMaxIdleConns(idle)
	return p, nil
}

func direct(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

type connector struct {
	*pq.Connector
	pool *Pool
	wrap func(driver.Conn) driver.Conn
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.connect(ctx)
	if crowded(err) {
		c.pool.shrink()
	}
	if err != nil || c.wrap == nil {
		return conn, err
	}
	return c.wrap(conn), nil
}

// connect makes one connection. Where a server has no TLS and sslmode=prefer asks for it, lib/pq tries again without, and
// leaves open what it tried first.
func (c *connector) connect(ctx context.Context) (driver.Conn, error) {
	var (
		watched    = *c.Connector
		dial       = c.pool.links.through(direct, false)
		connecting atomic.Bool // later it dials to have statements called off
		tried      net.Conn
	)
	watched.Dialer(dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if connecting.Load() && tried != nil {
			_ = tried.Close()
		}
		conn, err := dial(ctx, network, address)
		if connecting.Load() {
			tried = conn
		}
		return conn, err
	}))
	connecting.Store(true)
	defer connecting.Store(false)
	return watched.Connect(ctx)
}

func crowded(err error) bool {
	e, ok := errors.AsType[*pq.Error](err)
	return ok && e.Code == "53300"
}

// shrink keeps the pool to the connections that it has, so that who wants one waits for one of these; not to one alone,
// since who has it may want another.
func (p *Pool) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.SetMaxOpenConns(max(2, p.Stats().OpenConnections-1)) // the one that was refused is counted
	if p.grow != nil {
		p.grow.Stop()
	}
	p.grow = time.AfterFunc(growAgain, func() { p.SetMaxOpenConns(p.open) })
}

// Again reports whether err says that the server had no room for one more connection, while the pool has others: the same
// call, made at once, waits for one of these.
func (p *Pool) Again(err error) bool {
	return p != nil && crowded(err) && p.Stats().OpenConnections > 0
}

// Renew closes the connections at rest where err says that one was forbidden what it may have been forbidden for good: a
// session keeps the settings that it began with, when those of the database or the role are long as they were before.
func (p *Pool) Renew(err error) {
	e, ok := errors.AsType[*pq.Error](err)
	if ok && p != nil && (e.Code == "25006" || e.Code == "57014") { // read-only; a statement's time limit
		p.SetMaxIdleConns(0)
		p.SetMaxIdleConns(p.idle)
	}
}

// Drop closes the connections that have waited for an answer since before then, and those at rest, and counts the former:
// who waits gets an error, and the next call a new connection. It is for when the server has answered others since, or is waited for no more.
func (p *Pool) Drop(then time.Time) (dropped int) {
	if dropped = p.links.drop(then); dropped > 0 { // where some were forgotten, the others may have been
		p.SetMaxIdleConns(0)
		p.SetMaxIdleConns(p.idle)
	}
	return dropped
}

// Listener dials for a pq.Listener, until ctx ends, connections that Drop knows of.
func (p *Pool) Listener(ctx context.Context) pq.Dialer {
	return p.links.through(func(dialing context.Context, network, address string) (net.Conn, error) {
		dialing, cancel := context.WithCancel(dialing)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return direct(dialing, network, address)
	}, true)
}

// Apart opens the database for one question, whose connection ends with ctx even where no answer comes. Close it.
func (p *Pool) Apart(ctx context.Context) *sql.DB {
	once := *p.connector
	once.Dialer(until(ctx, direct))
	return sql.OpenDB(&once)
}

// Shared reports whether sessions are shared: whether there is a pooler that gives each transaction another one, so that
// nobody hears what a session is told to listen for. It sees that two connections have one session, or that one has two;
// where a pooler is busy with others it may, seldom, see neither.
func (p *Pool) Shared(ctx context.Context) (bool, error) {
	var conns [2]*sql.Conn
	for i := range conns {
		conn, err := p.Conn(ctx)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		conns[i] = conn
	}
	var sessions [2]int
	for n := range 20 {
		i := (n + 1) / 2 % 2 // 0 1 1 0 0 …: a pooler may give the session that was used last, or each in turn
		var pid int
		if err := conns[i].QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
			return false, err
		}
		if pid == sessions[1-i] || sessions[i] != 0 && pid != sessions[i] {
			return true, nil
		}
		sessions[i] = pid
	}
	return false, nil
}
