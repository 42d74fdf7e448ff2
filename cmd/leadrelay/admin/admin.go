// Package admin is the HTTP listener for people and scrapers. It answers GET /healthz, from this machine only.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A Listener serves until Close.
type Listener struct {
	server *http.Server
	addr   net.Addr
	log    *slog.Logger

	mu    sync.Mutex
	watch func() (stalled string, awaited []string)
}

// Listen listens on addr (host:port); "": nowhere, and all methods do nothing but Watch and Health.
func Listen(addr string, log *slog.Logger) (*Listener, error) {
	l := &Listener{log: log}
	if addr == "" {
		return l, nil
	}
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	l.addr = socket.Addr()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", l.health)
	l.server = &http.Server{
		Handler:           localOnly(mux),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
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
func (l *Listener) Watch(f func() (stalled string, awaited []string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = f
}

// Health says why the daemon does not move though it could ("": it does), and which databases it waits for.
func (l *Listener) Health() (stalled string, awaited []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watch == nil {
		return "", nil
	}
	return l.watch()
}

// health answers 200 while the daemon lives, also while it waits for a database, and 503 where it stands still.
func (l *Listener) health(w http.ResponseWriter, _ *http.Request) {
	stalled, awaited := l.Health()
	answer := struct {
		Status  string   `json:"status"`
		Reason  string   `json:"reason,omitempty"`
		Waiting []string `json:"waiting_for,omitempty"`
	}{Status: "ok", Reason: stalled, Waiting: awaited}
	code := http.StatusOK
	if stalled != "" {
		answer.Status, code = "stalled", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // a client that went away needs no answer
}

// localOnly refuses what does not come from this machine, or came through a proxy: there is no token to tell callers
// apart by.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			problem(w, http.StatusForbidden, "only callers on this machine are answered")
			return
		}
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
			if r.Header.Get(name) != "" {
				problem(w, http.StatusForbidden, "requests through a proxy are refused")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
