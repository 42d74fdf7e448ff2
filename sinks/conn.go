package sinks

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A conn is a connection that knows whether bytes came since a request was begun on it, and that ends when more of them
// come than requests are worth.
//
// An endpoint, or a proxy before it, that answers one request twice leaves an answer on the connection. net/http closes
// a connection on which something comes while no request is under way; but where the next request takes the connection
// in the same moment, the second answer is given out as that request's, and a record would count as delivered that the
// CRM has not seen. A request's own answer comes after its first byte was written.
//
// In HTTP/2 an answer that is not wanted any more may go on for as long as another request is under way on the
// connection, and so may frames that belong to no answer. And net/http forgets to close some connections whose server
// said that it goes away.
type conn struct {
	net.Conn
	clock atomic.Int64                 // counts what happens on the connection
	read  atomic.Int64                 // when bytes came last
	taker atomic.Pointer[atomic.Int64] // of the request that has taken the connection and written nothing: where to say when it does
	room  atomic.Int64                 // bytes that may still come
	ended atomic.Bool                  // the other side closed or reset it
	alive time.Duration                // how long it lives after a request took it
}

const (
	roomAtFirst    = 256 << 10 // bytes that a connection may bring before any request: TLS certificates
	roomForRequest = 1 << 20   // and for each: the largest answer that is read, and what is on its way when it proves too large
	roomAtMost     = 16 << 20  // for the requests of one moment
)

var errFlood = errors.New("more bytes came than any answer has")

func newConn(c net.Conn, alive time.Duration) *conn {
	made := &conn{Conn: c, alive: alive}
	made.room.Store(roomAtFirst)
	made.live()
	return made
}

// live puts the connection's end off.
func (c *conn) live() { _ = c.Conn.SetReadDeadline(time.Now().Add(c.alive)) }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.read.Store(c.clock.Add(1))
		if c.room.Add(-int64(n)) < 0 {
			return 0, errFlood
		}
	}
	if fault, ok := errors.AsType[net.Error](err); err != nil && !(ok && fault.Timeout()) && !errors.Is(err, net.ErrClosed) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if begun := c.taker.Swap(nil); begun != nil {
		begun.Store(c.clock.Add(1))
	}
	return c.Conn.Write(b)
}

// taken says that a request has taken the connection, and where to say when it is begun.
func (c *conn) taken(begun *atomic.Int64) {
	c.taker.Store(begun)
	c.live()
	for room := c.room.Load(); !c.room.CompareAndSwap(room, min(room+roomForRequest, roomAtMost)); room = c.room.Load() {
	}
}

// stray reports whether what was read last came before a request that begun tells of wrote its first byte. The request
// after it may have the connection by now: what it does makes nothing stray.
func (c *conn) stray(begun *atomic.Int64) bool {
	at := begun.Load()
	return at == 0 || c.read.Load() < at
}

// connOf is the conn under a connection, nil where there is none. Through a proxy that is spoken to in TLS there is TLS in
// TLS.
func connOf(c net.Conn) *conn {
	for t, ok := c.(*tls.Conn); ok; t, ok = c.(*tls.Conn) {
		c = t.NetConn()
	}
	w, _ := c.(*conn)
	return w
}

// maxDials is how many connections are opened for one request: net/http opens one after another for as long as an
// HTTP/2 server says that it goes away before it has looked at the request.
const maxDials = 3

var errDials = errors.New("the endpoint takes connections and no requests")

// dialConn makes a dialer's connections conns, and bounds how many there are. A request on them takes at most timeout.
func dialConn(timeout time.Duration, dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if p, ok := ctx.Value(progressKey{}).(*progress); ok && p.dials.Add(1) > maxDials {
			return nil, errDials
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newConn(c, timeout+2*idleFor), nil
	}
}
