package sinks

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// thenDoes acknowledges a connection's first request, and does f with what comes after it.
func thenDoes(f func(c *peer, r *http.Request)) talk {
	return func(c *peer) {
		if r := c.request(); r != nil && c.acknowledge(r, wellSaid) {
			if r := c.request(); r != nil {
				f(c, r)
			}
		}
	}
}

// TestKeptConnections: what CRMs do to connections that they let us keep. Each record is pushed once; it may come twice
// only where the CRM took it and broke off without a word.
func TestKeptConnections(t *testing.T) {
	t.Parallel()
	closes := func(c *peer, _ *http.Request) {}
	tests := []struct {
		name    string
		talk    talk
		reason  string // of the second record and later ones; "": they are delivered
		asked   int    // how often one of these comes at the most
		timeout time.Duration
	}{
		{name: "are kept", talk: well, asked: 1},
		{name: "closed behind the answer", talk: func(c *peer) {
			if r := c.request(); r != nil {
				c.acknowledge(r, wellSaid)
			}
		}, asked: 1},
		{name: "half closed behind the answer", talk: func(c *peer) {
			if r := c.request(); r != nil && c.acknowledge(r, wellSaid) {
				_ = c.Conn.(*counting).Conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c.in)
			}
		}, asked: 1},
		{name: "reset behind the answer", talk: func(c *peer) {
			if r := c.request(); r != nil && c.acknowledge(r, wellSaid) {
				c.reset()
			}
		}, asked: 1},
		{name: "closed when the next request comes", talk: thenDoes(closes), asked: 2},
		{name: "reset when the next request comes", talk: thenDoes(func(c *peer, _ *http.Request) { c.reset() }), asked: 2},
		{name: "closed long after the next request came", talk: thenDoes(func(*peer, *http.Request) { time.Sleep(crossing + 100*time.Millisecond) }), reason: ReasonReset, asked: 1, timeout: time.Minute},
		{name: "half an answer", talk: thenDoes(func(c *peer, _ *http.Request) { c.say(wellSaid[:20]) }), reason: ReasonReset, asked: 1},
		{name: "half a body", talk: thenDoes(func(c *peer, _ *http.Request) { c.say(wellSaid[:len(wellSaid)-5]) }), reason: ReasonTruncated, asked: 1},
		{name: "no answer", talk: thenDoes(func(c *peer, _ *http.Request) { c.hang() }), reason: ReasonTimeout, asked: 1, timeout: impatient},
		{name: "a timeout that the server tells", talk: func(c *peer) {
			if r := c.request(); r != nil && c.acknowledge(r, wellSaid) {
				c.say("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
		}, asked: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := local()
			if o.Timeout = time.Minute; tt.timeout > 0 {
				o.Timeout = tt.timeout
			}
			h, crm := newSink(t, o), newHostile(t, nil, tt.talk)
			for i := range 20 {
				id := uuid.New()
				_, err := h.Push(t.Context(), jobs.Request{Webhook: webhook(crm.url), ID: id, Body: []byte(exampleBody), Attempt: 1})
				// Refusals break connections off, so every other record is the first on its own.
				if got := reason(err); got != "" && (got != tt.reason || i%2 == 0) || got == "" && (err != nil || tt.reason != "" && i%2 == 1) {
					t.Errorf("record %d: %v", i, err)
				}
				crm.mu.Lock()
				if n := crm.asked[id.String()]; n > tt.asked || n < 1 {
					t.Errorf("record %d came %d times", i, n)
				}
				if n := crm.answers[id.String()]; (err == nil) != (n == 1) || n > 1 {
					t.Errorf("record %d was acknowledged %d times, and Push said %v", i, n, err)
				}
				crm.mu.Unlock()
				if tt.timeout > 0 && i == 3 {
					break
				}
			}
			crm.recovers(h, well)
		})
	}
}
