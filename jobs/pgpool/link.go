package pgpool

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// links are connections that are watched for answers that do not come. lib/pq cannot do that: where a context ends it asks
// the server, over another connection, to call its statement off, and waits for the answer as before. Where the way to the
// server forgot a connection, as a router does that was restarted, that is for ever.
type links struct {
	mu   sync.Mutex
	open map[*link]struct{}
}

// A link is one connection.
type link struct {
	net.Conn
	links   *links
	listens bool         // it is read from all the time, whether or not something was asked
	asked   atomic.Int64 // since when an answer is waited for, in nanoseconds since the epoch; 0: none is
	doubted atomic.Bool  // it was at rest when others were given up: the next answer must come soon
}

// doubtedFor is how long a connection in doubt may take to answer.
const doubtedFor = time.Second

func (l *link) Read(b []byte) (int, error) {
	if !l.listens {
		l.asked.Store(time.Now().UnixNano())
	}
	if l.doubted.Load() {
		_ = l.Conn.SetReadDeadline(time.Now().Add(doubtedFor)) // where it fails, so does the read
	}
	n, err := l.Conn.Read(b)
	l.asked.Store(0)
	if err == nil && l.doubted.Swap(false) {
		err = l.Conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (l *link) Write(b []byte) (int, error) {
	l.asked.CompareAndSwap(0, time.Now().UnixNano())
	return l.Conn.Write(b)
}

func (l *link) Close() error {
	l.links.mu.Lock()
	delete(l.links.open, l)
	l.links.mu.Unlock()
	return l.Conn.Close()
}

// drop closes those that have waited for an answer since before then, and counts them. Where there are such, those on
// which nothing is asked are in doubt: those at rest, and between two statements, for all that can be told here.
func (ls *links) drop(then time.Time) (dropped int) {
	ls.mu.Lock()
	var late, rest []*link
	for l := range ls.open {
		switch asked := l.asked.Load(); {
		case asked != 0 && asked < then.UnixNano():
			late = append(late, l)
		case asked == 0 && !l.listens:
			rest = append(rest, l)
		}
	}
	ls.mu.Unlock()
	if len(late) > 0 {
		for _, l := range rest {
			l.doubted.Store(true)
		}
	}
	for _, l := range late {
		_ = l.Close() // there is nothing more to be had from it
	}
	return len(late)
}

// A dialer is a pq.Dialer.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// through dials what is watched.
func (ls *links) through(dial dialer, listens bool) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l := &link{Conn: conn, links: ls, listens: listens}
		ls.mu.Lock()
		defer ls.mu.Unlock()
		if ls.open == nil {
			ls.open = map[*link]struct{}{}
		}
		ls.open[l] = struct{}{}
		return l, nil
	}
}

// until dials what is closed when ctx ends, whatever is waited for then.
func until(ctx context.Context, dial dialer) dialer {
	return func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(dialing, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d(ctx, network, address)
}

var _ pq.Dialer = dialer(nil)
