// Package admin is the HTTP listener for people, programs and scrapers: GET /healthz, and the API on webhooks,
// deliveries and runs, which describes itself at /openapi.json.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxRequests is how many requests to the API are answered at once. It is less than maxConnections: while a database is
// silent they all wait for it, and there must be room to ask for the daemon's health.
const maxRequests = 192

// A Listener serves until Close.
type Listener struct {
	server   *http.Server
	addr     net.Addr
	log      *slog.Logger
	requests chan struct{} // those to the API that are being answered

	mu    sync.Mutex
	watch func() Health
	api   *served // nil: none
}

// A served API is one that requests may be under way in.
type served struct {
	*API
	requests sync.WaitGroup
}

// Listen listens on addr (host:port); "": nowhere, and all methods do nothing but Watch and Health.
func Listen(addr string, log *slog.Logger) (*Listener, error) {
	l := &Listener{log: log, requests: make(chan struct{}, maxRequests)}
	if addr == "" {
		return l, nil
	}
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	l.addr = socket.Addr()
	socket = &bounded{Listener: socket, room: maxConnections}
	l.server = &http.Server{
		Handler:           l,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * patience,
		IdleTimeout: 15 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, countedKey{}, c) },
	}
	go func() {
		if err := l.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin listener ended", "error", err)
		}
	}()
	log.Info("admin listens", "address", l.addr.String())
	return l, nil
}

// Close ends the listener; answers under way are given a second.
func (l *Listener) Close() error {
	if l.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.server.Shutdown(ctx)
}

// Watch sets what Health and /healthz ask.
func (l *Listener) Watch(f func() Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = f
}

// Use lets an API answer from now on (nil: none does). The function it returns waits until the one before has no request
// under way: what it works with may be closed then. What such a request began and a database that is silent did not let
// end is waited for no longer than longestErrand; it finds its databases closed.
func (l *Listener) Use(api *API) (answered func()) {
	next := &served{API: api}
	if api == nil {
		next = nil
	}
	l.mu.Lock()
	old := l.api
	l.api = next
	l.mu.Unlock()
	return func() {
		if old != nil {
			old.requests.Wait()
			old.errands.end(longestErrand)
		}
	}
}

// browsers are what every answer tells them: keep no copy, take it for nothing else than it says, run nothing of it, and
// show it in no other site's frame.
var browsers = map[string]string{
	"Cache-Control":                "no-store",
	"X-Content-Type-Options":       "nosniff",
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
	"X-Frame-Options":              "DENY",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
}

type countedKey struct{}

// ServeHTTP answers every request to the listener.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = io.NopCloser(r.Body) // else huma closes it, and nothing can be drained; net/http closes its own
	l.answer(w, r)
	drain(w, r)
}

// What is read of a body that nobody wanted. net/http itself reads so much of it, and breaks the connection off where
// there is more: then callers who send it all before they read see no answer.
const (
	drainedByServer = 256 << 10
	drained         = 32 << 20
	drainedFor      = 10 * time.Second
)

// drain sends the answer, and reads what is left of a large body.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength >= 0 && r.ContentLength <= drainedByServer {
		return
	}
	connection := http.NewResponseController(w)
	_ = connection.Flush()
	_ = connection.SetReadDeadline(time.Now().Add(drainedFor))
	_, _ = io.CopyN(io.Discard, r.Body, drained)
}

func (l *Listener) answer(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(countedKey{}).(*counted); ok {
		defer c.busy()()
	}
	for name, value := range browsers {
		w.Header().Set(name, value)
	}
	l.mu.Lock()
	api := l.api
	if api != nil {
		api.requests.Add(1)
	}
	l.mu.Unlock()
	if api != nil {
		defer api.requests.Done()
	}
	switch {
	case r.URL.Path == "/healthz":
		l.health(w, r, api)
	case api == nil:
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "the daemon is starting or stopping")
	default:
		select {
		case l.requests <- struct{}{}:
			defer func() { <-l.requests }()
			api.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d requests are being answered already", maxRequests))
		}
	}
}

// Health is how a daemon fares.
type Health struct {
	Stalled string   // why it does not move though it could; "": it does
	Refused string   // which database refuses everything, and why; "": none does
	Awaited []string // the databases that it waits for
}

// Health asks what Watch has set.
func (l *Listener) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watch == nil {
		return Health{}
	}
	return l.watch()
}

// health answers 200 while the daemon lives, also while it waits for a database, and 503 where it stands still or a database
// refuses everything. It
// needs no token; where there are none, it is for this machine only, as all else.
func (l *Listener) health(w http.ResponseWriter, r *http.Request, api *served) {
	if api == nil || api.gate.auth == nil {
		if refusal := elsewhere(r, l.address()); refusal != "" {
			problem(w, http.StatusForbidden, refusal)
			return
		}
	}
	if !reads(r) {
		notAllowed(w, http.MethodGet)
		return
	}
	now := l.Health()
	answer := struct {
		Status  string   `json:"status"`
		Reason  string   `json:"reason,omitempty"`
		Waiting []string `json:"waiting_for,omitempty"`
	}{Status: "ok", Waiting: now.Awaited}
	code := http.StatusOK
	switch {
	case now.Stalled != "":
		answer.Status, answer.Reason, code = "stalled", now.Stalled, http.StatusServiceUnavailable
	case now.Refused != "":
		answer.Status, answer.Reason, code = "refused", now.Refused, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // a client that went away needs no answer
}

func (l *Listener) address() string {
	if l.addr == nil {
		return ""
	}
	return l.addr.String()
}
