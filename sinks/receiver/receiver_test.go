package receiver_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "key"

func start(t *testing.T, o receiver.Options) (*receiver.Receiver, string) {
	t.Helper()
	if o.SignKeys == nil {
		o.SignKeys = []jobs.Secret{key}
	}
	crm, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(crm)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		crm.Close()
		server.Close()
	})
	return crm, server.URL
}

func sink(t *testing.T) *sinks.HTTP {
	h, err := sinks.New(sinks.Options{AllowHTTP: true, AllowPrivate: true, Timeout: 700 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func hook(url string) *jobs.Webhook {
	return &jobs.Webhook{ID: "w", URL: jobs.Secret(url), SignKey: key, Dialect: sinks.DefaultDialect}
}

func record(chatbot string) *jobs.Record {
	return &jobs.Record{Type: "Lead", Chatbot: chatbot, Fields: []jobs.Field{{Name: "FirstName", Value: "Zdeňka"}}}
}

func push(t *testing.T, h *sinks.HTTP, w *jobs.Webhook, chatbot string, id uuid.UUID) string {
	t.Helper()
	h.Close() // what breaks off on a kept connection goes again at once
	body, err := h.Encode(w, record(chatbot), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Push(t.Context(), jobs.Request{Webhook: w, ID: id, Body: body})
	var refusal *jobs.RefusedError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Reason
	}
	t.Fatal(err)
	return ""
}

// TestPresets pushes to every behaviour that has a name, and checks that each is the fault that it is named for.
func TestPresets(t *testing.T) {
	want := map[string]string{
		"hang-headers": sinks.ReasonTimeout, "flood-headers": sinks.ReasonHTTP,
		"success": "", "test-answer": "", "silent-close": "", "gzip": "", "http-201": "", "wait-10ms": "",
		"wrong-case": sinks.ReasonAckMismatch, "wrong-word": sinks.ReasonAckMismatch, "wrong-name": sinks.ReasonNoStatus,
		"wrong-type": sinks.ReasonStatusType, "no-status": sinks.ReasonNoStatus, "doubled-key": sinks.ReasonDoubledKey,
		"array": sinks.ReasonNotObject, "text": sinks.ReasonNotJSON, "html": sinks.ReasonNotJSON, "empty": sinks.ReasonEmpty,
		"bom": sinks.ReasonBOM, "leading-text": sinks.ReasonLeadingText, "trailing-text": sinks.ReasonTrailingText,
		"not-utf8": sinks.ReasonNotUTF8, "cut-json": sinks.ReasonTruncated, "truncated": sinks.ReasonTruncated,
		"huge": sinks.ReasonTooLarge, "flood": sinks.ReasonTooLarge, "gzip-bomb": sinks.ReasonTooLarge, "bad-gzip": sinks.ReasonGzip,
		"redirect": sinks.ReasonRedirect, "not-http": sinks.ReasonHTTP, "reset": sinks.ReasonReset, "reset-body": sinks.ReasonReset,
		"hang": sinks.ReasonTimeout, "hang-body": sinks.ReasonTimeout, "slow": sinks.ReasonTimeout, "wait-1h": sinks.ReasonTimeout,
		"http-204": sinks.ReasonEmpty, "http-404": "http_404", "http-500": "http_500", "http-308": sinks.ReasonRedirect,
	}
	h := sink(t)
	for _, name := range receiver.Presets() {
		if _, ok := want[name]; !ok {
			t.Errorf("preset %s is not tested", name)
		}
	}
	for name, reason := range want {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, err := receiver.Parse([]string{name})
			if err != nil {
				t.Fatal(err)
			}
			crm, url := start(t, receiver.Options{Answer: answer})
			if got := push(t, h, hook(url), "c", uuid.New()); got != reason {
				t.Errorf("got %q, want %q", got, reason)
			}
			counts := receiver.Counts{Requests: 1, Unique: 1}
			if reason == "" {
				counts.Acked = 1
			} else {
				counts.Refused = 1
			}
			if diff := cmp.Diff(counts, eventually(crm, counts)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

// eventually waits for an answer that still is under way after the client left.
func eventually(crm *receiver.Receiver, want receiver.Counts) receiver.Counts {
	for range 200 {
		if crm.Counts() == want {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return crm.Counts()
}

func TestCounts(t *testing.T) {
	answer, err := receiver.Parse([]string{"http-500,reset,success", "shy=wrong-case", "late=http-503, success"})
	if err != nil {
		t.Fatal(err)
	}
	var printed lines
	crm, url := start(t, receiver.Options{Answer: answer, Log: &printed, Keep: 3})
	h := sink(t)
	w := hook(url)
	first, second, shy, late := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	var got []string
	for _, step := range []struct {
		chatbot string
		id      uuid.UUID
	}{
		{"a", first}, {"a", first}, {"a", first}, {"a", first}, {"b", second}, {"shy", shy}, {"shy", shy}, {"late", late}, {"late", late},
	} {
		got = append(got, push(t, h, w, step.chatbot, step.id))
	}
	want := []string{"http_500", sinks.ReasonReset, "", "", "http_500", sinks.ReasonAckMismatch, sinks.ReasonAckMismatch, "http_503", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	wrong := *w
	wrong.SignKey = "wrong"
	if got := push(t, h, &wrong, "a", uuid.New()); got != "http_401" {
		t.Errorf("a wrong key: %q", got)
	}
	counts := receiver.Counts{Requests: 10, Unique: 4, Duplicates: 1, Acked: 2, Refused: 6, Unverified: 1}
	if diff := cmp.Diff(counts, eventually(crm, counts)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]receiver.Counts{
		"a":    {Requests: 5, Unique: 1, Duplicates: 1, Acked: 1, Refused: 2, Unverified: 1},
		"b":    {Requests: 1, Unique: 1, Refused: 1},
		"shy":  {Requests: 2, Unique: 1, Refused: 2},
		"late": {Requests: 2, Unique: 1, Acked: 1, Refused: 1},
	}, crm.ByChatbot()); diff != "" {
		t.Errorf("by chatbot (-want +got):\n%s", diff)
	}
	if err := crm.Unverified(); !errors.Is(err, sinks.ErrSignatureMismatch) {
		t.Errorf("the last fault: %v", err)
	}
	kept := crm.Kept()
	if len(kept) != 3 || kept[2].ID != late.String() || kept[2].Try != 2 || !kept[2].Acked || kept[0].Chatbot != "shy" || !strings.Contains(string(kept[1].Body), "Zdeňka") {
		t.Errorf("kept: %+v", kept)
	}
	if text := printed.String(); strings.Contains(text, "Zdeňka") || strings.Count(text, "\n") != 10 || !strings.Contains(text, `chatbot="shy"`) {
		t.Errorf("printed:\n%s", text)
	}
}

// TestRefusals: what no webhook sends is answered, and counted apart.
func TestRefusals(t *testing.T) {
	crm, url := start(t, receiver.Options{MaxBody: 100})
	post := func(method, body string, header http.Header) int {
		r, _ := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		r.Header = header
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	id := http.Header{"X-Webhook-Id": {uuid.NewString()}}
	for _, tt := range []struct {
		name string
		got  int
		want int
	}{
		{"GET", post("GET", "", nil), 405},
		{"too long", post("POST", strings.Repeat("x", 101), id), 413},
		{"no signature", post("POST", "{}", id), 401},
		{"no id", post("POST", "{}", nil), 401},
		{"no JSON", post("POST", "[[[", http.Header{"X-Webhook-Id": id["X-Webhook-Id"], "X-Webhook-Signature": {sinks.Sign(key, time.Now(), []byte("[[["))}}), 200},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, tt.got, tt.want)
		}
	}
	if diff := cmp.Diff(receiver.Counts{Requests: 3, Unique: 1, Acked: 1, Unverified: 2}, crm.Counts()); diff != "" {
		t.Error(diff)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestBoundedMemory(t *testing.T) {
	crm, url := start(t, receiver.Options{MaxIDs: 2})
	h := sink(t)
	for range 4 {
		push(t, h, hook(url), "c", uuid.New())
	}
	if diff := cmp.Diff(receiver.Counts{Requests: 4, Unique: 4, Acked: 4}, crm.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestShowBodies(t *testing.T) {
	var printed lines
	_, url := start(t, receiver.Options{Log: &printed, ShowBodies: true})
	push(t, sink(t), hook(url), "c", uuid.New())
	if !strings.Contains(printed.String(), "Zdeňka") {
		t.Errorf("printed: %s", printed.String())
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "sucess", "http-", "http-99", "http-600", "http-x", "wait-", "wait--1s", "success,", "c=", "c=nosuch"} {
		if _, err := receiver.Parse([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestClosing: answers that hang end when the receiver is closed.
func TestClosing(t *testing.T) {
	answer, _ := receiver.Parse([]string{"hang"})
	crm, err := receiver.New(receiver.Options{Answer: answer})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(crm)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, _ := http.NewRequest(http.MethodPost, server.URL, strings.NewReader("{}"))
		r.Header.Set("X-Webhook-Id", uuid.NewString())
		if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
			res.Body.Close()
		}
	}()
	for crm.Counts().Requests == 0 {
		time.Sleep(time.Millisecond)
	}
	crm.Close()
	<-done
	server.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
