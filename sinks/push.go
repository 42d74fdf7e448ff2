package sinks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// drainFor is how long the rest of an answer that is already judged by its HTTP status is waited for, so that its
// connection can be used again.
const drainFor = 250 * time.Millisecond

// Push signs, posts and judges the answer: see jobs.Sink. The error is a *jobs.RefusedError with one of the reason
// codes of this package, or ctx's.
func (h *HTTP) Push(ctx context.Context, req jobs.Request) (jobs.Answer, error) {
	return h.push(ctx, req, nil)
}

// push is Push and Try: what a test goes through is what records go through. rec is nil for records.
func (h *HTTP) push(ctx context.Context, req jobs.Request, rec *recorder) (jobs.Answer, error) {
	t := h.target(req.Webhook)
	if t.refusal != nil {
		again := *t.refusal
		return jobs.Answer{}, &again
	}
	limited, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	res, way, err := h.send(limited, t, req, rec)
	if err != nil {
		rec.failed(err)
		return jobs.Answer{}, h.failed(ctx, limited, way, err)
	}
	defer res.Body.Close()
	rec.answered(res)
	defer rec.rest(cancel)
	success := res.StatusCode >= 200 && res.StatusCode <= 299
	if way.stray(success) {
		return jobs.Answer{}, refused(ReasonStray, res.StatusCode, "") // nobody reads on: the connection is closed
	}
	if !success {
		rec.rest(cancel)
		drain(res, cancel)
		refusal := refused(StatusReason(res.StatusCode), res.StatusCode, "")
		refusal.RetryAfter = retryAfter(res, h.clock())
		return jobs.Answer{}, refusal
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	body, refusal := readAnswer(limited, res, buf)
	rec.unpacked(*buf)
	if refusal != nil && refusal.Reason == ReasonTimeout && ctx.Err() != nil && !t.rule.any {
		return jobs.Answer{}, ctx.Err()
	}
	var word string
	if refusal == nil {
		word, refusal = judge(body, &t.rule)
	}
	rec.judged(word, t.rule)
	answer := jobs.Answer{Status: res.StatusCode, Word: word, Test: word == TestAnswer}
	if word != "" && !t.rule.known(word) && !knownWord(word, smarterbot.Ack) {
		answer.Word = mask(word, req.Body, t.dialect.public)
	}
	if refusal == nil || t.rule.any {
		return answer, nil
	}
	refusal.Status, refusal.Word = res.StatusCode, answer.Word
	if refusal.Fault == jobs.FaultRecord {
		refusal.Fault = jobs.FaultUnmatched
	}
	return jobs.Answer{}, refusal
}

// knownWord reports whether word is, but for case and spaces, one of words: it tells nothing of a record that happens to
// hold it too, and people need to see what is wrong with it.
func knownWord(word string, words []string) bool {
	return slices.ContainsFunc(words, func(known string) bool { return strings.EqualFold(strings.TrimSpace(word), strings.TrimSpace(known)) })
}

// drain reads what is left of an answer nobody wants, a bounded amount for a bounded time.
func drain(res *http.Response, cancel context.CancelFunc) {
	if res.ContentLength == 0 || res.ContentLength > maxAnswer {
		return
	}
	timer := time.AfterFunc(drainFor, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer+1)
}

// failed says why a request got no answer. ctx is the caller's, limited the one that ends with the timeout.
func (h *HTTP) failed(ctx, limited context.Context, p *progress, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var (
		dns  *net.DNSError
		slow net.Error
		op   = new(net.OpError)
	)
	errors.As(err, &op)
	switch {
	case errors.Is(err, errPrivate):
		return refused(ReasonPrivateAddress, 0, "")
	case errors.Is(err, errProxy), op.Op == "proxyconnect", op.Op == "socks connect":
		return refused(ReasonProxy, 0, "")
	case errors.As(err, &dns):
		return refused(ReasonDNS, 0, h.dnsHint)
	case limited.Err() != nil, errors.As(err, &slow) && slow.Timeout():
		if !p.connected.Load() {
			return refused(ReasonTimeout, 0, "No connection to the endpoint came about in time: a firewall may drop the packets.")
		}
		return refused(ReasonTimeout, 0, "")
	case p.noTLS.Load(), op.Op == tlsAlert, op.Op == "local error": // TLS 1.3 servers judge our certificate after the handshake
		return refused(ReasonTLS, 0, tlsHint(err))
	case exhausted(err):
		return refused(ReasonLocal, 0, "")
	case op.Op == "dial":
		return refused(ReasonConnect, 0, "")
	case p.stray(false):
		return refused(ReasonStray, 0, "")
	case isBreak(err), p.brokenOff(), !p.answering.Load():
		return refused(ReasonReset, 0, "")
	default:
		return refused(ReasonHTTP, 0, "")
	}
}

// exhausted reports whether it is this machine that could not open a connection, and not the other that refused.
func exhausted(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
