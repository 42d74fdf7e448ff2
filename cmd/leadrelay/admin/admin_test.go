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
		name    string
		stalled string
		awaited []string
		header  string
		code    int
		want    map[string]any
	}{
		{"running", "", nil, "", 200, map[string]any{"status": "ok"}},
		{"waiting for a database", "", []string{"the ledger"}, "", 200, map[string]any{"status": "ok", "waiting_for": []any{"the ledger"}}},
		{"stalled", "the dispatcher stands still", nil, "", 503, map[string]any{"status": "stalled", "reason": "the dispatcher stands still"}},
		{"through a proxy", "", nil, "X-Forwarded-For", 403, map[string]any{"title": "Forbidden", "status": 403.0, "detail": "requests through a proxy are refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.Watch(func() (string, []string) { return test.stalled, test.awaited })
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

// TestElsewhere: callers from other machines are refused, whatever they ask.
func TestElsewhere(t *testing.T) {
	handler := localOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was answered") }))
	for _, from := range []string{"203.0.113.1:4000", "[2001:db8::1]:4000", "10.0.0.1:4000", "nonsense"} {
		r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s got HTTP %d", from, w.Code)
		}
	}
}

// TestNowhere: without an address nothing listens, and the watchdog is told all the same.
func TestNowhere(t *testing.T) {
	l, err := Listen("", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Watch(func() (string, []string) { return "stalled", nil })
	if stalled, _ := l.Health(); stalled != "stalled" {
		t.Errorf("health is %q", stalled)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
