package admin

import (
	"net"
	"sync"
)

// maxConnections is how many callers are connected at once; more wait. Without a bound whoever reaches the port, with a
// token or not, could take all the files that the process may have open, and nothing would be pushed meanwhile.
const maxConnections = 256

// A bounded listener accepts no connection while as many are open as it has room for.
type bounded struct {
	net.Listener
	room  chan struct{}
	ended chan struct{}
	end   sync.Once
}

// Accept waits for room, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	case <-b.ended:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &counted{Conn: c, gone: sync.OnceFunc(func() { <-b.room })}, nil
}

// Close ends waiting too.
func (b *bounded) Close() error {
	b.end.Do(func() { close(b.ended) })
	return b.Listener.Close()
}

// A counted connection gives its room back when it is closed, however often that is.
type counted struct {
	net.Conn
	gone func()
}

func (c *counted) Close() error {
	defer c.gone()
	return c.Conn.Close()
}
