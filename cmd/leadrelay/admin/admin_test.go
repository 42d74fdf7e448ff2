package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHealth(t *testing.T) {
	l, err := Listen("127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		name   string
		health Health
		header string
		code   int
		want   map[string]any
	}{
		{"running", Health{}, "", 200, map[string]any{"status": "ok"}},
		{"waiting for a database", Health{Awaited: []string{"the ledger"}}, "", 200, map[string]any{"status": "ok", "waiting_for": []any{"the ledger"}}},
		{"stalled", Health{Stalled: "the dispatcher stands still"}, "", 503, map[string]any{"status": "stalled", "reason": "the dispatcher stands still"}},
		{"refused", Health{Refused: "the ledger has refused everything", Awaited: []string{"the ledger"}}, "", 503, map[string]any{"status": "refused", "reason": "the ledger has refused everything", "waiting_for": []any{"the ledger"}}},
		{"through a proxy", Health{}, "X-Forwarded-For", 403, map[string]any{"title": "Forbidden", "status": 403.0, "detail": "without admin.token_file requests through a proxy are refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.Watch(func() Health { return test.health })
			r, err := http.NewRequest(http.MethodGet, "http://"+l.addr.String()+"/healthz", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.header != "" {
				r.Header.Set(test.header, "203.0.113.1")
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var got map[string]any
			if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || answer.StatusCode != test.code {
				t.Errorf("HTTP %d, want %d; body (-want +got):\n%s", answer.StatusCode, test.code, diff)
			}
		})
	}
}

// TestElsewhere: without tokens, callers from other machines, through proxies, or by a name that is not this machine's
// are refused, whatever they ask.
func TestElsewhere(t *testing.T) {
	for _, test := range []struct {
		name, from, host, header string
		answered                 bool
	}{
		{"this machine", "127.0.0.1:4000", "127.0.0.1:8787", "", true},
		{"localhost", "127.0.0.1:4000", "localhost:8787", "", true},
		{"IPv6", "[::1]:4000", "[::1]:8787", "", true},
		{"IPv6 without a port", "[::1]:4000", "[::1]", "", true},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:4000", "LOCALHOST", "", true},
		{"the address listened on", "127.0.0.1:4000", "relay.internal:8787", "", true},
		{"another machine", "203.0.113.1:4000", "127.0.0.1:8787", "", false},
		{"another machine, IPv6", "[2001:db8::1]:4000", "127.0.0.1:8787", "", false},
		{"another machine, private", "10.0.0.1:4000", "127.0.0.1:8787", "", false},
		{"nobody", "nonsense", "127.0.0.1:8787", "", false},
		{"a name that was made to lead here", "127.0.0.1:4000", "evil.example:8787", "", false},
		{"such a name that looks like ours", "127.0.0.1:4000", "127.0.0.1.evil.example", "", false},
		{"no name", "127.0.0.1:4000", "", "", false},
		{"Forwarded", "127.0.0.1:4000", "localhost", "Forwarded", false},
		{"X-Forwarded-For", "127.0.0.1:4000", "localhost", "X-Forwarded-For", false},
		{"X-Forwarded-Proto", "127.0.0.1:4000", "localhost", "X-Forwarded-Proto", false},
		{"X-Real-IP", "127.0.0.1:4000", "localhost", "X-Real-Ip", false},
		{"Via", "127.0.0.1:4000", "localhost", "Via", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
			r.RemoteAddr, r.Host = test.from, test.host
			if test.header != "" {
				r.Header.Set(test.header, "x")
			}
			refusal := elsewhere(r, "relay.internal:8787")
			if (refusal == "") != test.answered {
				t.Errorf("refused because %q", refusal)
			}
		})
	}
}

// TestNowhere: without an address nothing listens, and the watchdog is told all the same.
func TestNowhere(t *testing.T) {
	l, err := Listen("", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Watch(func() Health { return Health{Stalled: "stalled"} })
	if now := l.Health(); now.Stalled != "stalled" {
		t.Errorf("health is %+v", now)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestFrames: no answer, a refusal neither, can be shown in another site's frame, kept, or run.
func TestFrames(t *testing.T) {
	l, err := Listen("127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Watch(func() Health { return Health{} })
	for _, request := range []struct{ method, path, host string }{
		{http.MethodGet, "/healthz", "localhost"},
		{http.MethodGet, "/", "localhost"},
		{http.MethodPost, "/api/v1/webhooks", "localhost"},
		{http.MethodGet, "/healthz", "evil.example.com"},
	} {
		r := httptest.NewRequest(request.method, "http://"+request.host+request.path, nil)
		r.RemoteAddr = "127.0.0.1:5000"
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s as %s: HTTP %d with %s: %q", request.method, request.path, request.host, w.Code, name, got)
			}
		}
	}
}
