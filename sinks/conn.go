package sinks

import (
	"context"
	"crypto/tls"
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
	clock atomic.Int64 // counts what happens on the connection
	begun atomic.Int64 // when the first byte of the request under way was written
	read  atomic.Int64 // when bytes came last
	fresh atomic.Bool  // a request has taken the connection and written nothing
}

func (w *conn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.read.Store(w.clock.Add(1))
	}
	return n, err
}

func (w *conn) Write(b []byte) (int, error) {
	if w.fresh.CompareAndSwap(true, false) {
		w.begun.Store(w.clock.Add(1))
	}
	return w.Conn.Write(b)
}

// taken says that a request begins.
func (w *conn) taken() { w.fresh.Store(true) }

// stray reports whether what was read last came before the request was begun.
func (w *conn) stray() bool { return w.fresh.Load() || w.read.Load() < w.begun.Load() }

// connOf is the conn under a connection, nil where there is none.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	w, _ := c.(*conn)
	return w
}

// dialConn makes a dialer's connections wires.
func dialConn(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c}, nil
	}
}
