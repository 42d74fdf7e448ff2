package sinks

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// A hostile is a CRM that does to its connections what a test tells it, byte for byte, and counts what it can do.
type hostile struct {
	t       *testing.T
	url     string
	talk    atomic.Pointer[talk]
	opened  atomic.Int64 // connections that came about
	open    atomic.Int64 // that the other side has not closed
	wrote   atomic.Int64 // bytes that were taken from it
	mu      sync.Mutex
	answers map[string]int // well-behaved answers, by X-Webhook-Id
	asked   map[string]int // requests, likewise
}

// A talk is what a CRM does with a connection, until it has enough of it; then the connection is closed.
type talk func(c *peer)

// A peer is one connection to a hostile.
type peer struct {
	net.Conn
	crm *hostile
	in  *bufio.Reader
}

// newHostile starts a CRM; with a TLS configuration it talks in that.
func newHostile(t *testing.T, secure *tls.Config, how talk) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newHostileAt(t, listener, secure, how)
}

func newHostileAt(t *testing.T, listener net.Listener, secure *tls.Config, how talk) *hostile {
	h := &hostile{t: t, answers: map[string]int{}, asked: map[string]int{}}
	h.talk.Store(&how)
	h.url = "http://" + listener.Addr().String()
	if secure != nil {
		h.url = "https://" + listener.Addr().String()
	}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.opened.Add(1)
			h.open.Add(1)
			working.Go(func() { h.serve(conn, secure) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		working.Wait()
	})
	return h
}

func (h *hostile) serve(conn net.Conn, secure *tls.Config) {
	defer h.open.Add(-1)
	defer conn.Close()
	counted := &counting{Conn: conn, wrote: &h.wrote}
	p := &peer{Conn: counted, crm: h}
	if secure != nil {
		p.Conn = tls.Server(counted, secure)
	}
	p.in = bufio.NewReader(p.Conn)
	(*h.talk.Load())(p)
}

// counting counts what is written.
type counting struct {
	net.Conn
	wrote *atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wrote.Add(int64(n))
	return n, err
}

// request reads one whole request; nil: none comes any more.
func (c *peer) request() *http.Request {
	r, err := http.ReadRequest(c.in)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil
	}
	c.crm.mu.Lock()
	defer c.crm.mu.Unlock()
	c.crm.asked[r.Header.Get(IDHeader)]++
	return r
}

// say writes, and reports whether that was taken.
func (c *peer) say(text string) bool {
	_, err := io.WriteString(c.Conn, text)
	return err == nil
}

// hang waits until the other side has closed the connection.
func (c *peer) hang() { _, _ = io.Copy(io.Discard, c.in) }

// drip says a byte at a time, until the other side has had enough.
func (c *peer) drip(text string, every time.Duration) {
	for i := range len(text) {
		if !c.say(text[i : i+1]) {
			return
		}
		time.Sleep(every)
	}
	c.hang()
}

// endless says the same again and again until the other side has had enough.
func (c *peer) endless(text string) {
	many := []byte(strings.Repeat(text, 1+(16<<10)/len(text)))
	for {
		if _, err := c.Conn.Write(many); err != nil {
			return
		}
	}
}

// reset breaks the connection off. What was said before has arrived, unless the other side is very slow.
func (c *peer) reset() {
	time.Sleep(30 * time.Millisecond)
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.(*counting).Conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

const wellSaid = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + good

// well acknowledges request after request.
func well(c *peer) {
	for {
		r := c.request()
		if r == nil || !c.acknowledge(r, wellSaid) {
			return
		}
	}
}

// acknowledge says an acknowledgement.
func (c *peer) acknowledge(r *http.Request, text string) bool {
	c.crm.mu.Lock()
	c.crm.answers[r.Header.Get(IDHeader)]++
	c.crm.mu.Unlock()
	return c.say(text)
}

// says answers every request with the same bytes, and keeps the connection.
func says(text string) talk {
	return func(c *peer) {
		for c.request() != nil && c.say(text) {
		}
	}
}

// A misdeed is a way in which CRMs misbehave, and what must come of it.
type misdeed struct {
	name    string
	talk    talk
	reasons []string // any of them; "" or none: the record is delivered
	status  int      // the answer's; -1: any
	pushes  int      // one after another; 0: 3 at a time
	conns   int64    // at the most; 0: as many as pushes
	bytes   int64    // that are taken at the most, kernels' buffers included; 0: 64 KiB
	body    int      // bytes of the record
	ack     []string
}

// impatient is how long an attempt of these tests has.
const impatient = 600 * time.Millisecond

// socketBuffers is what two kernels may take of an endless answer that nobody reads.
const socketBuffers = 48 << 20

// judgeMisdeed pushes records to a CRM that misbehaves, and says what is wrong with what comes of it: the reason, the
// time, connections left open, more of them or of bytes than the misdeed is worth, a well CRM that is not believed
// afterwards.
func judgeMisdeed(t *testing.T, h *HTTP, crm *hostile, m misdeed) {
	t.Helper()
	at, pushes := 1, m.pushes
	if pushes == 0 {
		at, pushes = 3, 3
	}
	body := []byte(exampleBody)
	if m.body > 0 {
		body = make([]byte, m.body)
	}
	w := webhook(crm.url + "/hook")
	if m.ack != nil {
		w.Ack = m.ack
	}
	var pushing sync.WaitGroup
	for range at {
		pushing.Go(func() {
			for range pushes / at {
				began := time.Now()
				answer, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: body, Attempt: 1})
				if took := time.Since(began); took > h.timeout+3*time.Second {
					t.Errorf("an attempt took %v, and has %v", took, h.timeout)
				}
				refusal, refused := errors.AsType[*jobs.RefusedError](err)
				switch {
				case refused && !slices.Contains(m.reasons, refusal.Reason), !refused && (err != nil || len(m.reasons) > 0 && m.reasons[0] != ""):
					t.Errorf("got %+v, %v; want %q", answer, err, m.reasons)
				case refused && refusal.Status != m.status && m.status >= 0 && refusal.Reason != ReasonTimeout:
					t.Errorf("got status %d of %v, want %d", refusal.Status, refusal, m.status)
				}
			}
		})
	}
	pushing.Wait()
	if most := max(m.conns, int64(pushes)); crm.opened.Load() > most {
		t.Errorf("%d connections were opened for %d attempts, want at most %d", crm.opened.Load(), pushes, most)
	}
	crm.settled(h)
	if most := max(m.bytes, 64<<10); crm.wrote.Load() > most {
		t.Errorf("%d bytes were taken from it, want at most %d", crm.wrote.Load(), most)
	}
	t.Logf("%d connections, %d bytes", crm.opened.Load(), crm.wrote.Load())
}

// settled closes the sink's idle connections and waits until none is open: what is left is a connection that nobody
// reads, and with it its goroutines. A dial may outlive the request that it was for.
func (h *hostile) settled(sink *HTTP) {
	h.t.Helper()
	began := time.Now()
	for quiet := 0; quiet < 10; quiet++ {
		sink.Close()
		if h.open.Load() > 0 {
			quiet = 0
		}
		if time.Since(began) > sink.timeout+10*time.Second {
			h.t.Errorf("%d connections are still open", h.open.Load())
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// recovers makes the CRM a good one, which must be believed: at once, where it is given more time than this machine may
// need for it.
func (h *hostile) recovers(sink *HTTP, good talk) {
	h.t.Helper()
	h.talk.Store(&good)
	began := time.Now()
	for again := 0; again < 2; {
		_, err := sink.Push(h.t.Context(), jobs.Request{Webhook: webhook(h.url), ID: uuid.New(), Body: []byte(exampleBody), Attempt: 1})
		switch {
		case err == nil:
			again++
		case sink.timeout > impatient || time.Since(began) > 20*time.Second:
			h.t.Errorf("it behaves now, and gets %v", err)
			return
		}
	}
	h.settled(sink)
}
