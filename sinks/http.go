package sinks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/leadrelay/leadrelay/jobs"
)

// Options of an HTTP sink. The zero value is the strict default.
type Options struct {
	Timeout        time.Duration  // for a whole attempt, from dialling to the answer's last byte; 0: 10 s
	AllowHTTP      bool           // http:// URLs too
	AllowPrivate   bool           // any address
	AllowCIDRs     []netip.Prefix // these addresses, besides public ones
	CAFile         string         // PEM; trusted besides the system's authorities
	ClientCertFile string         // PEM, with ClientKeyFile: shown to servers that ask
	ClientKeyFile  string
	Proxy          string           // http://, https:// or socks5:// URL; "": none, whatever the environment says
	PerHost        int              // connections kept open to one host; 0: 256
	Version        string           // of leadrelay, in User-Agent
	Clock          func() time.Time // for signatures; nil: time.Now
	Dialects       *Registry        // nil: the built-in ones
	MaxBody        int              // in bytes; 0: jobs.MaxBody

	resolver *net.Resolver // of tests; nil: the system's
}

// idleFor is how long an unused connection is kept: below the shortest keep-alive that servers commonly have (2 s),
// for a POST written to a connection that the server is about to close is a failed attempt.
const idleFor = 1500 * time.Millisecond

// maxAnswerHeaders bounds an answer's header section, in bytes.
const maxAnswerHeaders = 64 << 10

// HTTP is the sink that posts to CRMs.
type HTTP struct {
	transport *http.Transport
	unkept    *http.Transport // keeps no connections
	guard     *guard          // nil: every address is allowed
	resolver  *net.Resolver
	proxy     *url.URL // nil: there is none
	dnsHint   string   // for names that cannot be looked up; "": there is nothing special about it
	timeout   time.Duration
	allowHTTP bool
	userAgent string
	clock     func() time.Time
	dialects  *Registry
	maxBody   int

	targets     sync.Map // targetKey → *target
	targetsMu   sync.Mutex
	targetsSize int // in bytes, about
}

var _ jobs.Sink = (*HTTP)(nil)

// New makes a sink. Errors name the option that is wrong, by its key in the configuration's http section.
func New(o Options) (*HTTP, error) {
	h := &HTTP{timeout: o.Timeout, allowHTTP: o.AllowHTTP, userAgent: "leadrelay/" + o.Version, clock: o.Clock, dialects: o.Dialects, maxBody: cmp.Or(o.MaxBody, jobs.MaxBody)}
	if h.timeout == 0 {
		h.timeout = 10 * time.Second
	}
	if h.timeout < 0 {
		return nil, errors.New("timeout: must be positive")
	}
	if o.Version == "" {
		h.userAgent = "leadrelay/dev"
	}
	if h.clock == nil {
		h.clock = time.Now
	}
	if o.PerHost <= 0 {
		o.PerHost = 256
	}
	if !o.AllowPrivate {
		var err error
		if h.guard, err = newGuard(o.AllowCIDRs); err != nil {
			return nil, err
		}
	}
	tlsConfig, err := newTLSConfig(o)
	if err != nil {
		return nil, err
	}
	if h.resolver = o.resolver; h.resolver == nil {
		h.resolver = net.DefaultResolver
	}
	dialer := &net.Dialer{Timeout: h.timeout, KeepAlive: 15 * time.Second, Resolver: h.resolver}
	h.transport = &http.Transport{
		DialContext:            dialConn(h.timeout, dialer.DialContext),
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    h.timeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // answers are a few bytes; what comes compressed all the same is read in answer.go
		MaxIdleConnsPerHost:    o.PerHost,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		HTTP2: &http.HTTP2Config{
			// A connection that died in silence would otherwise swallow every later request to its host.
			SendPingTimeout: h.timeout / 2, PingTimeout: h.timeout,
			MaxReceiveBufferPerStream: 2 * maxCompressed, // of an answer that nobody has read yet
		},
	}
	if h.guard != nil {
		dialer.Control = h.guard.control
	}
	if o.Proxy != "" {
		if err := h.through(o.Proxy, dialer, tlsConfig); err != nil {
			return nil, err
		}
	}
	h.unkept = unkept(h.transport)
	return h, nil
}

// unkept makes a transport like t that opens a connection for each request.
func unkept(t *http.Transport) *http.Transport {
	made := t.Clone()
	made.DisableKeepAlives = true
	return made
}

// Close closes the connections that are idle. Pushes under way go on.
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }

// Encode gives the body that w's dialect makes of rec: see jobs.Sink. For a dialect that is not known, as when a
// newer leadrelay or another configuration entered the webhook, it gives no body and no error: that is no fault of the
// record, which would be dead for it, and Push refuses it.
func (h *HTTP) Encode(w *jobs.Webhook, rec *jobs.Record, created time.Time) ([]byte, error) {
	d, ok := h.dialects.Lookup(w.Dialect)
	if !ok {
		return nil, nil
	}
	if rec.Err != nil {
		return nil, fmt.Errorf("%w: %w", jobs.ErrEncode, rec.Err)
	}
	if !rec.Created.IsZero() {
		created = rec.Created
	}
	body, err := d.body.encode(make([]byte, 0, 512), rec, created.UTC())
	if err == nil && len(body) > h.maxBody {
		return nil, &jobs.TooLargeError{What: "its body takes", Bytes: len(body), Most: h.maxBody}
	}
	return body, err
}

// Event is what a dialect calls a record's event: see jobs.Sink. A dialect without names of events tells new rows and
// changed ones alike, and cannot say that one is gone.
func (h *HTTP) Event(dialect, typ, action string) (event string, told bool) {
	d, ok := h.dialects.Lookup(dialect)
	if !ok || !d.body.tells {
		return "", action != jobs.ActionRemove
	}
	return d.Event(typ, action), true
}

// OneRound reports whether a dialect tries a record in one round alone: spent, it is dead, exhausted.
func (h *HTTP) OneRound(dialect string) bool {
	d, ok := h.dialects.Lookup(dialect)
	return ok && d.OneRound
}

// RetryAt is the dialect's own retry schedule; nil for a dialect that is not known.
func (h *HTTP) RetryAt(dialect string) []time.Duration {
	if d, ok := h.dialects.Lookup(dialect); ok {
		return d.RetryAt
	}
	return nil
}

// Request makes the request that a first Push would send at now: headers, signature and body. The error is a
// *jobs.RefusedError where the webhook cannot be pushed to at all. What it holds is secret: sign key's signature,
// static headers, URL.
func (h *HTTP) Request(w *jobs.Webhook, id uuid.UUID, body []byte, now time.Time) (*http.Request, error) {
	t := h.target(w)
	if t.refusal != nil {
		return nil, t.refusal
	}
	return t.request(context.Background(), w, id, body, now, 1), nil
}

func (t *target) request(ctx context.Context, w *jobs.Webhook, id uuid.UUID, body []byte, now time.Time, attempt int) *http.Request {
	r := new(http.Request).WithContext(ctx)
	r.Method, r.URL, r.Host = http.MethodPost, t.url, t.host
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header = make(http.Header, len(t.static)+4)
	for name, values := range t.static {
		r.Header[name] = values
	}
	macs := t.macs
	if len(macs) > 1 && !w.OldKeyUntil.IsZero() && !now.Before(w.OldKeyUntil) {
		macs = macs[:1]
	}
	t.dialect.sign(r.Header, signing{id: id.String(), time: now, body: body, macs: inOrder(macs, attempt)})
	r.ContentLength = int64(len(body))
	r.Body = newBody(body)
	// Lets the transport take another connection when the first was closed before a byte was written to it.
	r.GetBody = func() (io.ReadCloser, error) { return newBody(body), nil }
	return r
}

// newBody is of a type that net/http knows to be in memory: only then do headers and body leave in one write.
func newBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }
