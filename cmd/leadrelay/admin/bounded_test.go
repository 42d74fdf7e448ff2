package admin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestManyConnections: callers who connect and stay take no more files than there is room for, and room that they give
// back is others'.
func TestManyConnections(t *testing.T) {
	l, err := Listen("127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ask := func(c net.Conn, within time.Duration) error {
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
	var held []net.Conn
	for range maxConnections + 1 {
		c, err := net.Dial("tcp", l.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	for _, c := range held[:maxConnections] {
		if err := ask(c, 4*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	last := held[maxConnections]
	if err := ask(last, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("one more than %d: %v", maxConnections, err)
	}
	held[0].Close()
	if err := ask(last, 4*time.Second); err != nil { // it was sent already, and is sent again
		t.Errorf("when there is room again: %v", err)
	}
}

// TestCloseWhileFull: a listener without room ends all the same.
func TestCloseWhileFull(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{Listener: socket, room: make(chan struct{}, 1), ended: make(chan struct{})}
	b.room <- struct{}{}
	failed := make(chan error)
	go func() { _, err := b.Accept(); failed <- err }()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("a connection was accepted")
	}
}
