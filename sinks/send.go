package sinks

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// send sends a request, and returns the answer's beginning and how it came to it.
//
// Endpoints close connections that they had let us keep, some with a 408 for the request that they waited for, and one that
// does so while a request is on its way to it never sees that request: it goes again, at once, on a connection of its own,
// so that no attempt is spent on it, nor is it counted by the webhook's rate. One that took the request and broke down over
// it gets it once more as well, a minute before it would anyway. Nothing else goes again that was answered with as much as
// a byte, nor what took longer than a close takes to cross a request: this process may have been stopped meanwhile, and
// another may have sent the record.
func (h *HTTP) send(limited context.Context, t *target, req jobs.Request, rec *recorder) (*http.Response, *progress, error) {
	began := time.Now()
	way := new(progress)
	// The transport itself, not a Client: nothing follows a redirect, keeps a cookie or puts the URL in an error.
	res, err := h.transport.RoundTrip(h.request(limited, way, t, req, rec))
	if !way.unseen(res, err) || limited.Err() != nil || time.Since(began) > crossing {
		return res, way, err
	}
	if res != nil {
		_ = res.Body.Close()
	}
	again := new(progress)
	again.dials.Store(way.dials.Load())
	way = again
	res, err = h.unkept.RoundTrip(h.request(limited, way, t, req, rec))
	return res, way, err
}

// crossing is how long a connection's end may be on its way.
const crossing = time.Second

// request makes a request that tells way how far it comes.
func (h *HTTP) request(ctx context.Context, way *progress, t *target, req jobs.Request, rec *recorder) *http.Request {
	ctx = context.WithValue(ctx, progressKey{}, way)
	return rec.sending(t.request(httptrace.WithClientTrace(ctx, way.trace()), req.Webhook, req.ID, req.Body, h.clock(), req.Attempt))
}

// progress is how far a request came, as its trace tells: errors of net/http have few types.
type progress struct {
	connected, kept, http2, answering, noTLS atomic.Bool

	conn  atomic.Pointer[conn]
	begun atomic.Int64 // on conn
	dials atomic.Int64
}

// progressKey is what a request's context has its progress under.
type progressKey struct{}

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			p.connected.Store(true)
			p.kept.Store(got.Reused || got.WasIdle)
			if secure, ok := got.Conn.(*tls.Conn); ok {
				p.http2.Store(secure.ConnectionState().NegotiatedProtocol == "h2")
			}
			if c := connOf(got.Conn); c != nil {
				c.taken(&p.begun)
				p.conn.Store(c)
			}
		},
		GotFirstResponseByte: func() { p.answering.Store(true) },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { p.noTLS.Store(err != nil) },
	}
}

// stray reports whether what came is no answer to the request, but was on the connection before it. On a new connection
// that is an endpoint's who answers before it is asked, such as one that is too busy to take requests: it is believed,
// unless it acknowledges.
func (p *progress) stray(acknowledges bool) bool {
	c := p.conn.Load()
	return c != nil && p.answering.Load() && !p.http2.Load() && (p.kept.Load() || acknowledges) && c.stray(&p.begun)
}

// brokenOff reports whether the endpoint ended the connection.
func (p *progress) brokenOff() bool {
	c := p.conn.Load()
	return c != nil && c.ended.Load()
}

// unseen reports whether the endpoint has probably not seen the request, for it was through with the connection: it said
// nothing, or that it had waited too long for one. Of a stream of HTTP/2 it may have said something, and of the connection
// that there is something wrong with it: then it went on.
func (p *progress) unseen(res *http.Response, err error) bool {
	switch {
	case !p.kept.Load():
		return false
	case err == nil:
		return res.StatusCode == http.StatusRequestTimeout
	case p.answering.Load() || errors.Is(err, errDials):
		return false
	case p.http2.Load():
		return p.brokenOff() || isBreak(err)
	}
	return true
}

// isBreak reports whether err says that a connection was ended by the other side.
func isBreak(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
