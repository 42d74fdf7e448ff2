package sinks

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// answerTwice serves a listener: requests whose body says good are acknowledged twice in one go, the others refused.
func answerTwice(listener net.Listener) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
	const good = head + "20\r\n\r\n{\"status\":\"success\"}"
	const bad = head + "17\r\n\r\n{\"status\":\"bad!\"}"
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			in := bufio.NewReader(c)
			for {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				answer := bad
				if strings.Contains(string(body), "good") {
					answer = good + good
				}
				if _, err := io.WriteString(c, answer); err != nil {
					return
				}
			}
		}()
	}
}

// TestAnsweredTwice: an answer that was left on a connection acknowledges no other record.
func TestAnsweredTwice(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go answerTwice(listener)
	h := newSink(t, local())
	w := webhook("http://" + listener.Addr().String())
	var wrongly, rightly atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 600 {
				body := `{"a":"good"}`
				if i%2 == 1 {
					body = `{"a":"evil"}`
				}
				_, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(body), Attempt: 1})
				switch {
				case err == nil && i%2 == 1:
					wrongly.Add(1)
				case err == nil:
					rightly.Add(1)
				}
			}
		})
	}
	work.Wait()
	if n := wrongly.Load(); n > 0 {
		t.Errorf("%d refused records count as delivered", n)
	}
	if rightly.Load() < 1000 {
		t.Errorf("only %d of 2400 records that were acknowledged count", rightly.Load())
	}
}

// TestEmptyAnswers: net/http gives a connection to the next request before it gives an answer without a body to its own;
// none of these is stray.
func TestEmptyAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	h := newSink(t, local())
	w := webhook(server.URL)
	w.Ack = []string{jobs.Ack2xx}
	var failed atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 400 {
				if _, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(`{}`), Attempt: 1}); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	work.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of 3200 answers were not taken for what they are", n)
	}
}

// TestForgottenConnection: a connection ends by itself some time after the last request took it, though nobody closes it.
func TestForgottenConnection(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := newConn(client, 50*time.Millisecond)
	defer c.Close()
	c.taken(new(atomic.Int64))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || c.ended.Load() {
		t.Errorf("got %v", err)
	}
}

// A writeCounter is a connection that counts what is written to it.
type writeCounter struct {
	net.Conn
	writes *atomic.Int64
}

func (c writeCounter) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestOneWrite: a request's headers and body leave in one write, which is one packet and one system call.
func TestOneWrite(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"status":"success"}`)
	}))
	defer server.Close()
	h := newSink(t, local())
	var writes atomic.Int64
	dial := h.transport.DialContext
	h.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return writeCounter{c, &writes}, err
	}
	w := webhook(server.URL)
	const requests = 5
	for range requests {
		if _, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(`{"a":"b"}`), Attempt: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := writes.Load(); n != requests {
		t.Errorf("%d requests took %d writes", requests, n)
	}
}
