package main

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// A link is the network between the program and a database's server, which a test makes bad.
type link struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	end      context.CancelFunc
	ended    context.Context

	mu      sync.Mutex
	weather weather
	turned  chan struct{} // closed when the weather changes
	conns   map[*passage]struct{}
	commits int // that were carried
}

// weather is how a link treats what it is to carry.
type weather struct {
	delay   time.Duration // of what comes, in each direction
	stalled bool          // nothing is carried until it changes
	hole    bool          // what comes is swallowed; a connection that lost something is never heard of again
	refuses bool          // new connections are reset
	commits int           // of so many COMMITs one is carried, and its connection reset before the answer is
}

// A passage is one connection.
type passage struct {
	client, server net.Conn // no server: it came into a hole
	lost           bool
}

// newLink opens a link to target, in fair weather.
func newLink(t testing.TB, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, turned: make(chan struct{}), conns: map[*passage]struct{}{}}
	l.ended, l.end = context.WithCancel(context.Background())
	l.work.Go(l.accept)
	t.Cleanup(func() {
		l.end()
		_ = listener.Close()
		l.reset()
		l.work.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) turn(w weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather = w
	close(l.turned)
	l.turned = make(chan struct{})
}

func (l *link) now() (weather, chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.weather, l.turned
}

// committed counts the COMMITs that were carried in such a weather.
func (l *link) committed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits
}

// reset resets all connections.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.conns {
		p.reset()
	}
}

func (p *passage) reset() {
	for _, c := range []net.Conn{p.client, p.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
}

func (l *link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		w, _ := l.now()
		p := &passage{client: c, lost: w.hole}
		if w.refuses {
			p.reset()
			continue
		}
		if !p.lost {
			if p.server, err = (&net.Dialer{}).DialContext(l.ended, "tcp", l.target); err != nil {
				p.server = nil
				p.reset()
				continue
			}
		}
		l.mu.Lock()
		l.conns[p] = struct{}{}
		l.mu.Unlock()
		l.work.Go(func() {
			var ways sync.WaitGroup
			if p.server != nil {
				ways.Go(func() { l.carry(p, p.server, p.client, false) })
			}
			l.carry(p, p.client, p.server, true)
			ways.Wait()
			p.reset()
			l.mu.Lock()
			delete(l.conns, p)
			l.mu.Unlock()
		})
	}
}

// carry carries what comes one way until either end closes; out: from the program to the server.
func (l *link) carry(p *passage, from, to net.Conn, out bool) {
	defer func() {
		l.mu.Lock()
		lost := p.lost
		l.mu.Unlock()
		if !lost || out { // a server that closes is not heard of through a hole
			p.reset()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n == 0 && err != nil {
			return
		}
		w, turned := l.now()
		for w.stalled && l.ended.Err() == nil {
			select {
			case <-turned:
			case <-l.ended.Done():
			}
			w, turned = l.now()
		}
		l.mu.Lock()
		p.lost = p.lost || w.hole
		lost := p.lost
		l.mu.Unlock()
		if lost {
			continue
		}
		if w.delay > 0 {
			select {
			case <-time.After(w.delay):
			case <-l.ended.Done():
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		if out && w.commits > 0 && bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			l.mu.Lock()
			l.commits++
			cut := l.commits%w.commits == 0
			l.mu.Unlock()
			if cut {
				return
			}
		}
	}
}
