package sinks

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestHeader marks requests that carry a sample and no record; its value is 1.
const TestHeader = "X-Webhook-Test"

const (
	shownAnswer  = 8 << 10         // bytes of an answer's body that a Trial shows
	shownHeader  = 1 << 10         // and of one of its headers' values
	shownHeaders = 64              // how many headers it shows
	restFor      = 2 * time.Second // how long it waits for a body that nobody needs in order to judge the answer
)

// Try pushes req's body as Push does, in everything, but marks it with TestHeader and keeps request and answer to be
// shown. reveal shows the whole URL, redirects' places and signatures. The error is ctx's, where the test was called
// off: whatever else goes wrong is in the Trial, and so is that ctx's deadline came first.
func (h *HTTP) Try(ctx context.Context, req jobs.Request, reveal bool) (jobs.Trial, error) {
	hide := newRedactor(req.Webhook, reveal)
	rec := &recorder{limit: shownAnswer + hide.longest, began: time.Now()}
	answer, err := h.push(ctx, req, rec)
	took := time.Since(rec.began)
	var refusal *jobs.RefusedError
	within := h.timeout
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		refusal, within = refused(ReasonTimeout, 0, ""), min(h.timeout, took.Round(100*time.Millisecond))
	case err != nil && !errors.As(err, &refusal):
		return jobs.Trial{}, err
	}
	trial := jobs.Trial{OK: err == nil, Request: h.requestShown(req, rec, hide)}
	if rec.res != nil {
		trial.Answer = rec.shown(hide)
		trial.Answer.Seconds = took.Round(time.Millisecond).Seconds()
	}
	x := explainer{h: h, req: req, rec: rec, hide: hide, within: within}
	x.explain(&trial, answer, refusal)
	if x.within < h.timeout && trial.Code == ReasonTimeout {
		trial.Notes = append(trial.Notes, "This test had less time than a record has, which is "+h.timeout.String()+".")
	}
	return trial, nil
}

func (h *HTTP) requestShown(req jobs.Request, rec *recorder, hide *redactor) jobs.TrialRequest {
	shown := jobs.TrialRequest{
		Sent: rec.wrote.Load(), Method: http.MethodPost, URL: hide.url(req.Webhook.URL), Headers: map[string]string{},
		Body: hide.whole(req.Body),
	}
	if rec.request == nil {
		return shown
	}
	shown.Headers["Host"] = rec.request.URL.Host // net/http sends these two by themselves
	shown.Headers["Content-Length"] = strconv.Itoa(len(req.Body))
	for name, values := range rec.request.Header {
		shown.Headers[name] = hide.whole([]byte(strings.Join(values, ", ")))
	}
	for name := range req.Webhook.Headers {
		shown.Headers[textproto.CanonicalMIMEHeaderKey(name)] = redacted
	}
	if shown.Headers["Authorization"] != "" { // a URL's user and password become one
		shown.Headers["Authorization"] = redacted
	}
	if names, expires := h.signedBy(req); !expires && !hide.reveal {
		for _, name := range names {
			shown.Headers[name] = cut(shown.Headers[name], shownSignature) + " (cut: it does not expire)"
		}
	}
	return shown
}

// shownSignature is how many characters are shown of a signature that never expires: enough to compare.
const shownSignature = 12

// signedBy returns the headers that sign a request, as they are spelled, and whether they depend on the time. It finds
// them by what changes with the key, so it need not know the dialect.
func (h *HTTP) signedBy(req jobs.Request) (names []string, expires bool) {
	const early, late = 1_700_000_000, 1_800_000_000
	t := h.newTarget(req.Webhook)
	if t.refusal != nil || len(t.macs) == 0 {
		return nil, false
	}
	mine, later := t.headersAt(req, early), t.headersAt(req, late)
	t.macs = []*mac{newMAC([]byte("another key"))}
	for name, value := range t.headersAt(req, early) {
		if value != mine[name] {
			names = append(names, name)
			expires = expires || later[name] != mine[name]
		}
	}
	return names, expires
}

// headersAt are the headers of a request at a time.
func (t *target) headersAt(req jobs.Request, unix int64) map[string]string {
	all := map[string]string{}
	for name, values := range t.request(context.Background(), req.Webhook, req.ID, req.Body, time.Unix(unix, 0), 1).Header {
		all[name] = strings.Join(values, ",")
	}
	return all
}

// A recorder keeps what a Trial shows. Its methods do nothing on nil, which is what records are pushed with.
type recorder struct {
	limit   int // of the answer's bytes that are kept
	began   time.Time
	request *http.Request
	dialled atomic.Bool // a connection came about; TLS may still be ahead
	wrote   atomic.Bool // the request was written whole
	err     error       // the transport's
	res     *http.Response
	raw     tee    // the answer's body as it came
	plain   []byte // what was unpacked of it, where it was compressed
	rule    rule   // of an answer that was judged
	word    string // the answer's status word, or what the ack rule looks at
}

func (r *recorder) sending(req *http.Request) *http.Request {
	if r == nil {
		return req
	}
	req.Header[TestHeader] = []string{"1"}
	r.request = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				r.dialled.Store(true)
			}
		},
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				r.wrote.Store(true)
			}
		},
	}))
	return r.request
}

func (r *recorder) failed(err error) {
	if r != nil {
		r.err = err
	}
}

func (r *recorder) answered(res *http.Response) {
	if r != nil {
		r.res = res
		r.raw = tee{body: res.Body, limit: r.limit}
		res.Body = &r.raw
	}
}

func (r *recorder) unpacked(body []byte) {
	if r != nil && r.compressed() {
		r.plain = bytes.Clone(body[:min(len(body), r.limit)])
	}
}

func (r *recorder) judged(word string, accepted rule) {
	if r != nil {
		r.word, r.rule = word, accepted
	}
}

// compressed reports whether the answer is said to be in a form that we read.
func (r *recorder) compressed() bool {
	switch contentEncoding(r.res) {
	case "gzip", "x-gzip":
		return true
	}
	return false
}

// rest reads on in a body that was judged without its end, a bounded amount for a bounded time.
func (r *recorder) rest(cancel context.CancelFunc) {
	if r == nil {
		return
	}
	timer := time.AfterFunc(restFor, cancel)
	defer timer.Stop()
	var some [512]byte
	for !r.raw.ended && len(r.raw.kept) < r.limit {
		if _, err := r.raw.Read(some[:]); err != nil {
			break
		}
	}
	if r.compressed() && r.plain == nil {
		if z, err := gzip.NewReader(bytes.NewReader(r.raw.kept)); err == nil {
			r.plain, _ = io.ReadAll(io.LimitReader(z, int64(r.limit)))
		}
	}
}

// shown is the answer as people see it.
func (r *recorder) shown(hide *redactor) *jobs.TrialAnswer {
	a := &jobs.TrialAnswer{
		Status: r.res.StatusCode, Line: hide.part([]byte(r.res.Proto+" "+r.res.Status), shownHeader),
		Headers: map[string]string{},
	}
	for name, values := range r.res.Header {
		if len(a.Headers) == shownHeaders {
			break
		}
		a.Headers[hide.part([]byte(name), shownHeader)] = r.header(name, values, hide)
	}
	body := r.body()
	a.Body = hide.part(body, shownAnswer)
	a.Cut = len(body) > shownAnswer || !r.raw.ended
	return a
}

func (r *recorder) header(name string, values []string, hide *redactor) string {
	shown := make([]string, len(values))
	for i, value := range values {
		switch name {
		case "Set-Cookie", "Set-Cookie2":
			shown[i] = redacted
		case "Location", "Content-Location":
			shown[i] = hide.place(r.request.URL, value)
		default:
			shown[i] = hide.part([]byte(value), shownHeader)
		}
	}
	return strings.Join(shown, ", ")
}

// body is what came of the answer's body, unpacked where that worked.
func (r *recorder) body() []byte {
	if len(r.plain) > 0 {
		return r.plain
	}
	return r.raw.kept
}

// A tee keeps the beginning of what is read through it.
type tee struct {
	body  io.ReadCloser
	limit int
	kept  []byte
	ended bool
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	if room := t.limit - len(t.kept); room > 0 {
		t.kept = append(t.kept, p[:min(n, room)]...)
	}
	t.ended = t.ended || err == io.EOF
	return n, err
}

func (t *tee) Close() error { return t.body.Close() }
