package sinks

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
)

// A conn is a connection that knows whether bytes came since a request was begun on it.
//
// An endpoint, or a proxy before it, that answers one request twice leaves an answer on the connection. net/http closes
// a connection on which something comes while no request is under way; but where the next request takes the connection
// in the same moment, the second answer is given out as that request's, and a record would count as delivered that the
// CRM has not seen. A request's own answer comes after its first byte was written.
type conn struct {
	net.Conn
	clock atomic.Int64                 // counts what happens on the connection
	read  atomic.Int64                 // when bytes came last
	taker atomic.Pointer[atomic.Int64] // of the request that has taken the connection and written nothing: where to say when it does
	ended atomic.Bool                  // the other side closed or reset it
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.read.Store(c.clock.Add(1))
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
}

// stray reports whether what was read last came before a request that begun tells of wrote its first byte. The request
// after it may have the connection by now: what it does makes nothing stray.
func (c *conn) stray(begun *atomic.Int64) bool {
	at := begun.Load()
	return at == 0 || c.read.Load() < at
}

// connOf is the conn under a connection, nil where there is none.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	w, _ := c.(*conn)
	return w
}

// dialConn makes a dialer's connections conns.
func dialConn(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c}, nil
	}
}
