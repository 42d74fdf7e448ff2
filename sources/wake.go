package sources

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

// Channel is what the trigger notifies. Notifications carry nothing: they say "look".
const Channel = "leadrelay"

// A wake counts the occasions on which rows may have come, and lets streams wait for the next. A stream remembers the
// count at which its last scan began, so that a row committed between that scan and the waiting is not slept over.
type wake struct {
	eng  engine
	done context.CancelFunc
	ctx  context.Context
	once sync.Once
	work sync.WaitGroup
	ping time.Duration // how often a silent connection is tried

	mu    sync.Mutex
	count uint64
	next  chan struct{} // closed when count moves
}

func newWake(eng engine) *wake {
	ctx, done := context.WithCancel(context.Background())
	return &wake{eng: eng, ctx: ctx, done: done, ping: listenerPing, count: 1, next: make(chan struct{})}
}

func (w *wake) bump() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	close(w.next)
	w.next = make(chan struct{})
}

func (w *wake) now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// wait returns when the count is past seen, or poll has passed. The first to wait begins the listening: a program that
// only reads needs none.
func (w *wake) wait(ctx context.Context, seen uint64, poll time.Duration) error {
	w.once.Do(func() {
		w.work.Add(1)
		go func() {
			defer w.work.Done()
			w.eng.listen(w.ctx, w)
		}()
	})
	w.mu.Lock()
	count, next := w.count, w.next
	w.mu.Unlock()
	if count > seen {
		return ctx.Err()
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-next:
		return ctx.Err()
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ctx.Done():
		return errors.New("the source was closed")
	}
}

func (w *wake) close() {
	w.once.Do(func() {}) // too late to begin
	w.done()
	w.work.Wait()
}

const (
	unheardEvery  = time.Minute // how often it is asked whether notifications can be heard by now
	listenerPing  = time.Minute
	dataVersion   = 150 * time.Millisecond // how often SQLite is asked whether something changed
	reconnectFrom = time.Second
	reconnectTo   = 5 * time.Second
)

// listen follows the channel on one connection. A standby cannot LISTEN, and behind a pooler that gives each transaction
// another session it would make others' sessions listen; there the slow poll is all.
func (p *postgres) listen(ctx context.Context, w *wake) {
	for {
		var standby bool
		err := p.db.QueryRowContext(ctx, "select pg_is_in_recovery()").Scan(&standby)
		shared := false
		if err == nil && !standby {
			shared, err = p.pool.Shared(ctx)
		}
		wait := reconnectFrom
		switch {
		case err == nil && (standby || shared):
			wait = unheardEvery
		case err == nil:
			p.follow(ctx, w)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (p *postgres) follow(ctx context.Context, w *wake) {
	to := &line{Dialer: p.pool.Listener(ctx)}
	l := pq.NewDialListener(to, p.dsn, reconnectFrom, reconnectTo, nil)
	listening := make(chan error, 1)
	go func() { listening <- l.Listen(Channel) }()
	defer func() {
		to.end()
		_ = l.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range l.NotificationChannel() {
			}
		}()
		select {
		case <-ended:
		case <-time.After(time.Second): // the server is away, and the listener sleeps before it tries again
		}
	}()
	ping := time.NewTicker(w.ping)
	defer ping.Stop()
	answered := make(chan struct{}, 1)
	answered <- struct{}{}
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-listening:
			w.bump() // what was committed before the channel was open was not notified
			if err != nil {
				return
			}
			listening = nil
		case _, ok := <-l.NotificationChannel():
			if !ok {
				return
			}
			w.bump() // nil after a reconnect: anything may have been missed
		case <-ping.C:
			select {
			case <-answered: // the one before
				go func() {
					_ = l.Ping()
					answered <- struct{}{}
				}()
			default: // the connection is dead; the listener makes another
				to.cut()
			}
		}
	}
}

// A line dials for a pq.Listener, whose methods, Close among them, wait until the server has answered what it was asked
// last: where the network has lost the connection, for as long as nobody closes it.
type line struct {
	pq.Dialer

	mu    sync.Mutex
	conn  net.Conn // the last
	ended bool
}

func (d *line) Dial(network, address string) (net.Conn, error) {
	return d.keep(d.Dialer.Dial(network, address))
}

func (d *line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return d.keep(d.Dialer.DialTimeout(network, address, timeout))
}

func (d *line) keep(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil { // it has ended, or lib/pq, which asked for TLS and tries without, leaves it open
		_ = d.conn.Close()
	}
	if d.conn = conn; d.ended {
		_ = conn.Close()
	}
	return conn, nil
}

// cut closes the connection.
func (d *line) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

// end closes the connection, and all that are made from then on.
func (d *line) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.cut()
}

// listen asks on one connection, which sees every commit of the others as another data version.
func (s *sqlite) listen(ctx context.Context, w *wake) {
	var conn *sql.Conn
	drop := func() {
		if conn != nil {
			_ = conn.Close()
			conn = nil
		}
	}
	defer drop()
	var last int64
	var on any // the pool that conn is of
	tick := time.NewTicker(dataVersion)
	defer tick.Stop()
	for {
		if db, err := s.current(); err == nil {
			if conn != nil && on != any(db) { // another file stands there
				drop()
			}
			if conn == nil {
				if conn, err = db.DB.Conn(ctx); err != nil {
					conn = nil
				}
				on, last = db, -1
			}
			if conn != nil {
				var version int64
				if err := conn.QueryRowContext(ctx, "pragma data_version").Scan(&version); err != nil {
					drop()
				} else if version != last {
					last = version
					w.bump()
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
