package admin

import (
	"container/list"
	"net"
	"sync"
)

// maxConnections is how many callers are connected at once. Without a bound whoever reaches the port, with a token or
// not, could take all the files that the process may have open, and nothing would be pushed meanwhile.
const maxConnections = 256

// A bounded listener has no more connections open than it has room for. Nobody waits for room, or callers who send their
// headers slowly would keep others from asking for the daemon's health: a new connection takes the place of the one that
// has been without a request longest.
type bounded struct {
	net.Listener
	room int

	mu    sync.Mutex
	open  int
	idles list.List // of *counted: those of which no request is being answered, the longest idle first
}

// Accept waits for a connection that there is room for, or room can be made.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		socket, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := b.admit(socket); c != nil {
			return c, nil
		}
		_ = socket.Close()
	}
}

// admit counts a connection; nil: every other one has a request that is being answered.
func (b *bounded) admit(socket net.Conn) net.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.room {
		longest := b.idles.Front()
		if longest == nil {
			return nil
		}
		out := longest.Value.(*counted)
		b.forget(out)
		_ = out.Conn.Close()
	}
	c := &counted{Conn: socket, of: b}
	c.place = b.idles.PushBack(c)
	b.open++
	return c
}

// forget counts a connection no longer.
func (b *bounded) forget(c *counted) {
	if c.gone {
		return
	}
	c.gone = true
	b.open--
	c.leaveIdles()
}

// A counted connection gives its room back when it is closed, however often that is.
type counted struct {
	net.Conn
	of    *bounded
	place *list.Element // in of.idles; nil: a request of its is being answered, or it is gone
	gone  bool
}

func (c *counted) leaveIdles() {
	if c.place != nil {
		c.of.idles.Remove(c.place)
		c.place = nil
	}
}

// busy keeps the connection from giving way to another, until done is called.
func (c *counted) busy() (done func()) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.leaveIdles()
	return func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		if !c.gone {
			c.place = c.of.idles.PushBack(c)
		}
	}
}

func (c *counted) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
