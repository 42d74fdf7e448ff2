package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// listen starts a listener that answers nothing but /healthz.
func listen(t *testing.T) *Listener {
	t.Helper()
	l, err := Listen("127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askHealth asks for the daemon's health on a connection.
func askHealth(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

// TestManyConnections: callers who connect and stay take no more files than there is room for, and who comes then takes
// the room of the one that has been idle longest.
func TestManyConnections(t *testing.T) {
	l := listen(t)
	var held []net.Conn
	for range maxConnections {
		held = append(held, dial(t, l))
	}
	for _, c := range held {
		if err := askHealth(c, 4*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := askHealth(held[0], 4*time.Second); err != nil { // so that the second is idle longest
		t.Fatal(err)
	}
	if err := askHealth(dial(t, l), time.Second); err != nil {
		t.Errorf("one more than %d: %v", maxConnections, err)
	}
	if err := askHealth(held[1], time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the one that was idle longest: %v", err)
	}
	for _, c := range append(held[2:], held[0]) {
		if err := askHealth(c, 4*time.Second); err != nil {
			t.Fatalf("another: %v", err)
		}
	}
}

// TestSlowConnections: callers who send the headers of their requests slowly, more of them than there is room for, keep
// nobody from asking for the daemon's health.
func TestSlowConnections(t *testing.T) {
	l := listen(t)
	for range 300 {
		if _, err := io.WriteString(dial(t, l), "GET /api/v1/webhooks HTTP/1.1\r\nHost: loc"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := askHealth(dial(t, l), 4*time.Second); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("the answer took %v", took)
	}
}

// TestRequestsThatHang: requests to the API that wait for a database, as many as there may be, keep nobody from asking for
// the daemon's health. One more is told to come again.
func TestRequestsThatHang(t *testing.T) {
	l := listen(t)
	silent := make(chan struct{})
	l.Use(emptyAPI(func() { <-silent }))
	defer l.Use(nil)()
	defer close(silent)
	hang := func() net.Conn {
		c := dial(t, l)
		if _, err := io.WriteString(c, "GET /api/v1/webhooks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range maxRequests {
		hang()
	}
	for range 200 {
		if len(l.requests) == maxRequests {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	more := hang()
	if err := more.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if answer, err := http.ReadResponse(bufio.NewReader(more), nil); err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("one more request than there may be: %+v, %v", answer, err)
	}
	for range maxConnections {
		if err := askHealth(dial(t, l), 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// emptyAPI is one that knows the token x, and calls first before it accepts that.
func emptyAPI(first func()) *API {
	return NewAPI(Options{Auth: onlyX(first), Log: slog.New(slog.DiscardHandler), Unavailable: func(error) bool { return false }})
}

type onlyX func()

func (first onlyX) Authenticate(_ context.Context, token string) (Principal, bool, error) {
	first()
	return Principal{Write: true}, token == "x", nil
}

// TestLargeBody: a body that is too large is answered, to callers too who read no answer before they have sent it all.
func TestLargeBody(t *testing.T) {
	l := listen(t)
	l.Use(emptyAPI(func() {}))
	t.Cleanup(func() { l.Use(nil)() })
	for _, test := range []struct {
		name, header string
		status       int
	}{
		{"with its length", "Authorization: Bearer x\r\nContent-Length: 10485760\r\n\r\n", 413},
		{"in one chunk", "Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n", 413},
		{"without a token", "Content-Length: 10485760\r\n\r\n", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, l)
			if err := c.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := io.WriteString(c, "POST /api/v1/webhooks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+test.header)
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				time.Sleep(100 * time.Millisecond) // longer than net/http waits for who is cut off
				if _, err := c.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
					t.Fatalf("the body is cut off: %v", err)
				}
			}
			if strings.Contains(test.header, "chunked") {
				if _, err := io.WriteString(c, "\r\n0\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != test.status {
				t.Errorf("HTTP %s, want %d", answer.Status, test.status)
			}
		})
	}
}

// TestCloseWhileFull: a listener without room ends all the same.
func TestCloseWhileFull(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{Listener: socket, room: 0}
	failed := make(chan error)
	go func() { _, err := b.Accept(); failed <- err }()
	if c, err := net.Dial("tcp", socket.Addr().String()); err != nil {
		t.Error(err)
	} else if n, err := c.Read(make([]byte, 1)); err == nil { // nothing is waiting that could go: the caller is turned away
		t.Errorf("%d bytes came", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("a connection was accepted")
	}
}
