package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var errAway = errors.New("dial tcp 10.1.2.3:5432: secret-address")

// deskStub has one webhook, and fails as it is told to.
type deskStub struct{ err error }

func (d deskStub) webhook() (jobs.Webhook, error) {
	return jobs.Webhook{ID: "w", Chatbots: []string{"c"}, URL: "https://crm.example.com/x", SignKey: "key", State: jobs.Active}, d.err
}

func (d deskStub) Webhooks(context.Context) ([]jobs.Webhook, error) {
	w, err := d.webhook()
	return []jobs.Webhook{w}, err
}

func (d deskStub) Streams() []string { return []string{"note"} }

func (d deskStub) Enter(context.Context, map[string]any) (jobs.Webhook, error) { return d.webhook() }

func (d deskStub) Put(context.Context, string, map[string]any) (jobs.Webhook, bool, error) {
	w, err := d.webhook()
	return w, true, err
}

func (d deskStub) Change(context.Context, string, map[string]any) (jobs.Webhook, error) {
	return d.webhook()
}

func (d deskStub) SetState(context.Context, string, jobs.WebhookState) (jobs.Webhook, error) {
	return d.webhook()
}

func (d deskStub) Rotate(context.Context, string, jobs.Rotation) (jobs.Webhook, error) {
	return d.webhook()
}
func (d deskStub) Remove(context.Context, string) (int, error) { return 0, d.err }

func (d deskStub) Test(context.Context, string, bool) (jobs.Trial, error) { return jobs.Trial{}, d.err }

func (d deskStub) Deliveries(context.Context, DeliveryQuery) ([]jobs.Delivery, string, error) {
	return nil, "", d.err
}

func (d deskStub) Delivery(context.Context, uuid.UUID) (jobs.Delivery, []jobs.Attempt, error) {
	return jobs.Delivery{}, nil, d.err
}

func (d deskStub) Runs(context.Context, int, string) ([]jobs.Run, string, error) {
	return nil, "", d.err
}
func (d deskStub) Run(context.Context, string) (jobs.Run, error)          { return jobs.Run{}, d.err }
func (d deskStub) StartRun(context.Context, jobs.Scope) (jobs.Run, error) { return jobs.Run{}, d.err }

// stubbed is an API of a desk that fails so, and what it logs.
func stubbed(t testing.TB, err error) (*API, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, tokenErr := ReadToken(path)
	if tokenErr != nil {
		t.Fatal(tokenErr)
	}
	log := &bytes.Buffer{}
	return NewAPI(Options{
		Desk: func(string) Desk { return deskStub{err} }, Auth: token, Log: slog.New(slog.NewTextHandler(log, nil)),
		Unavailable: func(err error) bool { return errors.Is(err, errAway) }, Version: "test",
	}), log
}

func ask(a *API, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer 0123456789abcdef")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// requests are one of each operation.
var requests = [][3]string{
	{"GET", "/api/v1/webhooks", ""},
	{"GET", "/api/v1/webhooks/w", ""},
	{"GET", "/api/v1/webhooks/w/key", ""},
	{"POST", "/api/v1/webhooks", `{"chatbot": "c", "url": "https://crm.example.com/x"}`},
	{"PUT", "/api/v1/webhooks/w", `{"chatbot": "c", "url": "https://crm.example.com/x"}`},
	{"PATCH", "/api/v1/webhooks/w", `{}`},
	{"DELETE", "/api/v1/webhooks/w", ""},
	{"POST", "/api/v1/webhooks/w/rotate-key", ""},
	{"POST", "/api/v1/webhooks/w/enable", ""},
	{"POST", "/api/v1/webhooks/w/disable", ""},
	{"POST", "/api/v1/webhooks/w/test", ""},
	{"GET", "/api/v1/deliveries", ""},
	{"GET", "/api/v1/deliveries/0199d8f2-6f0e-7c3e-8b1a-111111111111", ""},
	{"GET", "/api/v1/runs", ""},
	{"GET", "/api/v1/runs/0199d8f2-6f0e-7c3e-8b1a-111111111111", ""},
	{"POST", "/api/v1/runs", ""},
	{"GET", "/api/v1/subscriptions", ""},
	{"GET", "/api/v1/subscriptions/w", ""},
	{"DELETE", "/api/v1/subscriptions/w", ""},
	{"DELETE", "/api/v1/webhoooks/w", ""},
}

// TestFailures: whatever fails behind the API is a problem that says what to do, and not what is known of databases.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		status int
		detail string
		retry  bool
		logged bool
	}{
		{"a database is away", fmt.Errorf("read the webhooks: %w", errAway), 503, "a database does not answer", true, true},
		{"it takes too long", context.DeadlineExceeded, 503, "a database does not answer", true, true},
		{"something else", errors.New("secret-table is broken"), 500, "the daemon's log says why", false, true},
		{"it is not there", fmt.Errorf("webhook w: %w", jobs.ErrNotFound), 404, "webhook w: not in the ledger", false, false},
		{"there is one already", &jobs.ExistsError{ID: "v"}, 409, "webhook v: there is such a webhook already", false, false},
		{"a file gives it", fmt.Errorf("webhook w: %w", jobs.ErrProvisioned), 409, "change it there", false, false},
		{"its key is not to be rotated", fmt.Errorf("webhook w: %w", jobs.ErrNotRotated), 409, "cannot be rotated", false, false},
		{"the document is wrong", Mistakes{{"url", "is none"}, {"types[1]", "is none either"}}, 422, "body.types[1]: is none either (and 1 more)", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range requests {
				if test.status == 404 && (r[0] == "POST" && r[1] == "/api/v1/runs" || r[1] == "/api/v1/deliveries") {
					continue // there it is about what was asked with
				}
				a, log := stubbed(t, test.err)
				w := ask(a, r[0], r[1], r[2])
				var problem struct {
					Status int
					Title  string
					Detail string
				}
				if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
					t.Fatalf("%s %s: %v, %s\n%s", r[0], r[1], err, w.Header().Get("Content-Type"), w.Body)
				}
				if w.Code != test.status || problem.Status != test.status || problem.Title == "" || !strings.Contains(problem.Detail, test.detail) {
					t.Errorf("%s %s: HTTP %d\n%s", r[0], r[1], w.Code, w.Body)
				}
				if unknown := test.status == 503 && r[0] != "GET"; strings.Contains(problem.Detail, "whether this was done is not known") != unknown {
					t.Errorf("%s %s: it says %s", r[0], r[1], problem.Detail)
				}
				if (w.Header().Get("Retry-After") != "") != test.retry {
					t.Errorf("%s %s: Retry-After %q", r[0], r[1], w.Header().Get("Retry-After"))
				}
				if strings.Contains(w.Body.String(), "secret-") {
					t.Errorf("%s %s: it says %s", r[0], r[1], w.Body)
				}
				if strings.Contains(log.String(), test.err.Error()) != test.logged {
					t.Errorf("%s %s: the log says %q", r[0], r[1], log)
				}
			}
		})
	}
}

// TestAwayIsSaidOnce: however many ask while a database is away, the log has a line of it.
func TestAwayIsSaidOnce(t *testing.T) {
	a, log := stubbed(t, errAway)
	for range 100 {
		ask(a, "GET", "/api/v1/webhooks", "")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestUse: a request is answered by the API that it met, and whoever closes what that works with waits for it.
func TestUse(t *testing.T) {
	l, err := Listen("", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serve := func(r *http.Request) int {
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		return w.Code
	}
	request := func(body io.Reader) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/webhooks", body)
		r.Header.Set("Authorization", "Bearer 0123456789abcdef")
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	body := requests[3][2]
	if code := serve(request(strings.NewReader(body))); code != http.StatusServiceUnavailable {
		t.Errorf("before there is an API: HTTP %d", code)
	}
	first, _ := stubbed(t, nil)
	l.Use(first)()
	reader, writer := io.Pipe()
	slow := make(chan int, 1)
	go func() { slow <- serve(request(reader)) }()
	if _, err := io.WriteString(writer, body[:5]); err != nil {
		t.Fatal(err)
	}
	second, _ := stubbed(t, errAway)
	answered := l.Use(second)
	closed := make(chan struct{})
	go func() {
		answered()
		close(closed)
	}()
	if code := serve(request(strings.NewReader(body))); code != http.StatusServiceUnavailable {
		t.Errorf("from the new API: HTTP %d", code)
	}
	select {
	case <-closed:
		t.Error("the old API was closed with a request under way")
	case <-time.After(50 * time.Millisecond):
	}
	go func() {
		_, _ = io.WriteString(writer, body[5:]) // else the answer says so
		_ = writer.Close()
	}()
	if code := <-slow; code != http.StatusCreated {
		t.Errorf("from the old API: HTTP %d", code)
	}
	<-closed
}

// TestSlowAnswer: an operation that is given long has its answer written however late that is.
func TestSlowAnswer(t *testing.T) {
	a, _ := stubbed(t, nil)
	registerWithin(a, huma.Operation{OperationID: "slow", Method: http.MethodGet, Path: "/api/v1/slow"}, time.Minute,
		func(ctx context.Context, _ *struct{}) (*answer[string], error) {
			if until, ok := ctx.Deadline(); !ok || time.Until(until) < 50*time.Second {
				t.Errorf("it has until %v", until)
			}
			time.Sleep(300 * time.Millisecond)
			return &answer[string]{"late"}, nil
		})
	server := httptest.NewUnstartedServer(a)
	server.Config.WriteTimeout = 100 * time.Millisecond
	server.Start()
	defer server.Close()
	r, err := http.NewRequest(http.MethodGet, server.URL+"/api/v1/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer 0123456789abcdef")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil || strings.TrimSpace(string(text)) != `"late"` {
		t.Errorf("%s, %v", text, err)
	}
}

// FuzzBody: whatever is sent as a body is taken or refused with a problem that does not repeat it.
func FuzzBody(f *testing.F) {
	for _, r := range requests {
		f.Add(r[2])
	}
	for _, body := range []string{
		`{"chatbot": "sesame-open", "chatbot": "sesame-open"}`, `{"url": ["sesame-open"]}`, `"sesame-open"`, `[`, "\xff", `{"headers": {"sesame": "sesame-open"}}`,
		`{"sign_key": {"a": "sesame-open"}}`, `{"overlap": "sesame-open"}`, `{"webhooks": "sesame-open"}`, `{"ack": {"path": "x", "equals": [1e999]}}`, `null`, `1`, `{"now": 1}`,
	} {
		f.Add(body)
	}
	a, _ := stubbed(f, nil)
	f.Fuzz(func(t *testing.T, body string) {
		named := names(body, "sesame-open")
		for _, r := range requests {
			if r[0] == "GET" {
				continue
			}
			w := ask(a, r[0], r[1], body)
			if !json.Valid(w.Body.Bytes()) || w.Code >= 500 || w.Code < 200 {
				t.Fatalf("%s %s: HTTP %d\n%s", r[0], r[1], w.Code, w.Body)
			}
			if !named && strings.Contains(w.Body.String(), "sesame-open") {
				t.Fatalf("%s %s: it repeats what was sent: %s", r[0], r[1], w.Body)
			}
		}
	})
}

// names reports whether a text is in the name of a member, which may be repeated, or may be, the document being broken.
func names(document, text string) bool {
	d := jsontext.NewDecoder(strings.NewReader(document), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return err != io.EOF
		}
		kind, n := d.StackIndex(d.StackDepth())
		if token.Kind() == '"' && kind == '{' && n%2 == 1 && strings.Contains(token.String(), text) {
			return true
		}
	}
}
