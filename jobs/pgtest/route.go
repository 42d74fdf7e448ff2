package pgtest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
)

// A Route leads connections to a server, and can forget those that are open, as a router does that was restarted: what
// either side sends is lost, and neither hears of it. New connections are led on.
type Route struct {
	to       string
	listener net.Listener
	conns    sync.WaitGroup
	sent     atomic.Int64

	mu        sync.Mutex
	forgotten chan struct{} // closed: the connections made before
}

// NewRoute returns a route to the server of a PostgreSQL address, and the address that goes by it.
func NewRoute(dsn string) (*Route, string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	r := &Route{to: u.Host, listener: listener, forgotten: make(chan struct{})}
	r.conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.conns.Go(func() { r.lead(conn) })
		}
	})
	u.Host = listener.Addr().String()
	return r, u.String(), nil
}

// Forget loses the connections that are open.
func (r *Route) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.forgotten)
	r.forgotten = make(chan struct{})
}

// Sent is how many bytes the server has sent by the route.
func (r *Route) Sent() int64 { return r.sent.Load() }

// Close takes no more connections, and waits until those that are open are closed by their clients.
func (r *Route) Close() {
	_ = r.listener.Close()
	r.conns.Wait()
}

func (r *Route) lead(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	forgotten := r.forgotten
	r.mu.Unlock()
	r.conns.Go(func() {
		pass(client, &counting{server, &r.sent}, forgotten)
		select {
		case <-forgotten: // the client hears of nothing any more
		default:
			_ = client.Close()
		}
	})
	pass(server, client, forgotten)
}

// pass copies until from ends, or to can be written no more. What comes once it is forgotten is lost.
func pass(to io.Writer, from io.Reader, forgotten <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-forgotten:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A counting reader counts what was read.
type counting struct {
	io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
