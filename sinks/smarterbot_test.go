package sinks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// example is the record of the vendor's page.
func example() *jobs.Record {
	return &jobs.Record{
		Type: "Lead", Row: "1", Chatbot: "59001dd73709417321c58b11693183a2", Action: jobs.ActionCreate,
		Created: time.Date(2023, 11, 23, 18, 36, 21, 512302000, time.UTC),
		Fields: []jobs.Field{
			{Name: "FirstName", Value: "David"},
			{Name: "LastName", Value: "Garcia"},
			{Name: "Email", Value: "test@qq.com"},
			{Name: "PhoneNumber", Value: ""},
			{Name: "Content", Value: "test"},
			{Name: "SessionID", Value: int64(31305)},
			{Name: "URI", Value: "www.google.com"},
		},
	}
}

const exampleBody = `{"SerialNumber":"59001dd73709417321c58b11693183a2","Type":"Lead","FirstName":"David","LastName":"Garcia","Email":"test@qq.com","PhoneNumber":"","CreateTime":"2023-11-23T18:36:21.512302Z","Content":"test","SessionID":31305,"URI":"www.google.com"}`

func with(fields ...jobs.Field) *jobs.Record {
	r := example()
	for _, f := range fields {
		for i := range r.Fields {
			if r.Fields[i].Name == f.Name {
				r.Fields[i].Value = f.Value
			}
		}
	}
	return r
}

func newSink(t testing.TB, o Options) *HTTP {
	t.Helper()
	if o.Dialects == nil {
		o.Dialects = every
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// local is for tests that push to servers on 127.0.0.1.
func local() Options {
	return Options{AllowHTTP: true, AllowPrivate: true, Timeout: 5 * time.Second, Version: "1.2.3"}
}

func webhook(url string) *jobs.Webhook {
	return &jobs.Webhook{
		ID: "acme", URL: jobs.Secret(url), SignKey: "whsec-key", Dialect: "smarterbot",
		Ack: []string{"success", TestAnswer},
	}
}

func TestEncode(t *testing.T) {
	h := newSink(t, Options{})
	field := func(name string, value any) *jobs.Record { return with(jobs.Field{Name: name, Value: value}) }
	replaced := func(old, new string) string {
		if !strings.Contains(exampleBody, old) {
			t.Fatalf("the example has no %s", old)
		}
		return strings.Replace(exampleBody, old, new, 1)
	}
	tests := []struct {
		name string
		rec  *jobs.Record
		want string
	}{
		{"the vendor's example", example(), exampleBody},
		{"no fields at all", &jobs.Record{Chatbot: "c", Type: "Lead"}, `{"SerialNumber":"c","Type":"Lead","FirstName":"","LastName":"","Email":"","PhoneNumber":"","CreateTime":"2024-01-02T02:04:05.000000Z","Content":"","SessionID":0,"URI":""}`},
		{"NULL text", field("FirstName", nil), replaced(`"David"`, `""`)},
		{"controls", field("FirstName", "\x00\x01\b\t\n\v\f\r\x1f\x7f"), replaced(`"David"`, `"\u0000\u0001\b\t\n\u000b\f\r\u001f`+"\x7f"+`"`)},
		{"quotes and backslash", field("FirstName", `a"b\c/d`), replaced(`"David"`, `"a\"b\\c/d"`)},
		{"HTML", field("FirstName", `<b>&amp;</b>`), replaced(`"David"`, `"<b>&amp;</b>"`)},
		{"line separators", field("FirstName", "a\u2028b\u2029c"), replaced(`"David"`, "\"a\u2028b\u2029c\"")},
		{"emoji", field("FirstName", "👩‍👩‍👧 é"), replaced(`"David"`, `"👩‍👩‍👧 é"`)},
		{"bytes that are no UTF-8", field("FirstName", "a\xffb\xc3"), replaced(`"David"`, "\"a\ufffdb\ufffd\"")},
		{"a surrogate in UTF-8", field("FirstName", "\xed\xa0\x80"), replaced(`"David"`, "\"\ufffd\ufffd\ufffd\"")},
		{"a number as text", field("PhoneNumber", int64(-420777)), replaced(`"PhoneNumber":""`, `"PhoneNumber":"-420777"`)},
		{"a fraction as text", field("Content", 0.1), replaced(`"Content":"test"`, `"Content":"0.1"`)},
		{"a large number as text", field("Content", 1e21), replaced(`"Content":"test"`, `"Content":"1e+21"`)},
		{"minus zero as text", field("Content", math.Copysign(0, -1)), replaced(`"Content":"test"`, `"Content":"0"`)},
		{"a boolean as text", field("Content", true), replaced(`"Content":"test"`, `"Content":"true"`)},
		{"NULL session", field("SessionID", nil), replaced(`31305`, `0`)},
		{"blank session", field("SessionID", " "), replaced(`31305`, `0`)},
		{"session as text", field("SessionID", "31306"), replaced(`31305`, `31306`)},
		{"session as decimal text", field("SessionID", "-31306.00"), replaced(`31305`, `-31306`)},
		{"session as float", field("SessionID", 31306.0), replaced(`31305`, `31306`)},
		{"session minus zero", field("SessionID", math.Copysign(0, -1)), replaced(`31305`, `0`)},
		{"largest session", field("SessionID", int64(1<<53-1)), replaced(`31305`, `9007199254740991`)},
		{"smallest session", field("SessionID", "-9007199254740991"), replaced(`31305`, `-9007199254740991`)},
	}
	standIn := time.Date(2024, 1, 2, 3, 4, 5, 999, time.FixedZone("", 3600))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := h.Encode(webhook(""), tt.rec, standIn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

// A body may take as much as is set, and not a byte more.
func TestEncodeBoundsTheBody(t *testing.T) {
	fits, larger := newSink(t, Options{MaxBody: len(exampleBody)}), newSink(t, Options{MaxBody: len(exampleBody) - 1})
	if _, err := fits.Encode(webhook(""), example(), time.Now()); err != nil {
		t.Errorf("a body of the largest size: %v", err)
	}
	body, err := larger.Encode(webhook(""), example(), time.Now())
	var tooLarge *jobs.TooLargeError
	if !errors.As(err, &tooLarge) || tooLarge.Bytes != len(exampleBody) || body != nil {
		t.Errorf("a body that is larger by a byte: %d bytes and %v", len(body), err)
	}
	// Escapes count: 2 MiB of text can be a body of 12.
	long := with(jobs.Field{Name: "Content", Value: strings.Repeat("\x01", 2<<20)})
	if _, err := newSink(t, Options{}).Encode(webhook(""), long, time.Now()); !errors.As(err, &tooLarge) || tooLarge.Most != 5<<20 {
		t.Errorf("a body that only its escapes make too large: %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	h := newSink(t, Options{})
	late := example()
	late.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	broken := example()
	broken.Err = errors.New("column created_at: is no time")
	session := func(v any) *jobs.Record { return with(jobs.Field{Name: "SessionID", Value: v}) }
	tests := []struct {
		name string
		rec  *jobs.Record
		says string
	}{
		{"session past 2^53−1", session(int64(1 << 53)), "SessionID is beyond"},
		{"session below", session(int64(-1 << 53)), "SessionID is beyond"},
		{"session beyond int64", session("92233720368547758070"), "SessionID is beyond"},
		{"a huge float session", session(1e300), "SessionID is beyond"},
		{"a fraction", session(1.5), "SessionID is no integer"},
		{"a fraction as text", session("1.5"), "SessionID is no integer"},
		{"an exponent", session("1e3"), "SessionID is no integer"},
		{"a point alone", session("."), "SessionID is no integer"},
		{"infinite", session(math.Inf(1)), "SessionID is no integer"},
		{"no number", session(math.NaN()), "SessionID is no integer"},
		{"secret-session", session("secret-session"), "SessionID is no integer"},
		{"a boolean", session(true), "SessionID is no integer"},
		{"an unknown kind", with(jobs.Field{Name: "Email", Value: []byte("x")}), "Email has a value of a kind"},
		{"the year 10000", late, "CreateTime lies outside"},
		{"a broken row", broken, "created_at"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.Encode(webhook(""), tt.rec, time.Now())
			if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want ErrEncode that says %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}

// TestRequestOnTheWire compares whole requests, byte for byte as they arrive, with testdata/*.http.
func TestRequestOnTheWire(t *testing.T) {
	tests := []struct {
		golden  string
		headers map[string]jobs.Secret
		user    string
		dialect string // "": smarterbot
	}{
		{golden: "plain.http"},
		{golden: "headers.http", headers: map[string]jobs.Secret{
			"authorization": "Bearer s3cret", "Host": "crm.example.com", "X-Tenant": "7", "User-Agent": "Acme",
		}},
		{golden: "userinfo.http", user: "api:p%40ss@"},
		{golden: "smartlook.http", dialect: "smartlook"},
		{golden: "smarterlaunch.http", dialect: "smarterlaunch"},
		{golden: "smartsurvey.http", dialect: "smartsurvey"},
		{golden: "userback.http", dialect: "userback"},
		{golden: "standard-webhooks.http", dialect: "standard-webhooks"},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			listener, got := capture(t)
			o := local()
			o.Clock = func() time.Time { return time.Unix(1492774577, 999_000_000) }
			h := newSink(t, o)
			w := webhook("http://" + tt.user + listener.Addr().String() + "/hooks/leads?token=x%20y#part")
			w.Headers = tt.headers
			if tt.dialect != "" {
				w.Dialect, w.SignKey, w.Ack = tt.dialect, keysOf(tt.dialect)[0], nil
			}
			body, err := h.Encode(w, example(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			id := uuid.MustParse("0b3f0c5e-30c1-5c07-9f04-8d2f0e8f2a11")
			if _, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: id, Body: body, Attempt: 1}); err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(<-got), listener.Addr().String(), "ADDRESS")
			text = strings.ReplaceAll(text, "\r\n", "\n")
			path := "testdata/" + tt.golden
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// capture accepts one request, hands over its bytes and acknowledges it.
func capture(t *testing.T) (net.Listener, <-chan []byte) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	got := make(chan []byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var raw bytes.Buffer
		req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &raw)))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n"+`{"status":"success"}`)
		got <- raw.Bytes()
	}()
	return listener, got
}

func TestRequestIsWhatPushSends(t *testing.T) {
	h := newSink(t, Options{Version: "1"})
	w := webhook("https://crm.example.com/hooks")
	id := uuid.New()
	now := time.Unix(1700000000, 0)
	r, err := h.Request(w, id, []byte(exampleBody), now)
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"},
		"X-Webhook-Id": {id.String()}, "X-Webhook-Signature": {Sign(w.SignKey, now, []byte(exampleBody))},
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	body, _ := io.ReadAll(r.Body)
	if string(body) != exampleBody {
		t.Errorf("body: %s", body)
	}
	w.SignKey = ""
	if _, err := h.Request(w, id, nil, now); reason(err) != ReasonNoKey {
		t.Errorf("without a key: %v", err)
	}
}

func reason(err error) string {
	if r := (*jobs.RefusedError)(nil); errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func TestDialects(t *testing.T) {
	all := []string{"smarterbot", "smarterlaunch", "smartlook", "smartsurvey", "standard-webhooks", "userback"}
	if diff := cmp.Diff(all, builtIn.Names()); diff != "" {
		t.Error(diff)
	}
	h := newSink(t, Options{})
	if diff := cmp.Diff([]time.Duration{time.Minute, 3 * time.Minute}, h.RetryAt("smarterbot")); diff != "" {
		t.Error(diff)
	}
	for _, name := range builtIn.Names() {
		d, ok := builtIn.Lookup(name)
		if !ok || d.Name != name || len(d.body.members) == 0 || d.Signed != (len(d.SignatureHeaders()) > 0) || d.headers.Get("Content-Type") == "" || len(d.Ack) == 0 {
			t.Errorf("dialect %s lacks a part", name)
		}
	}
	w := webhook("https://crm.example.com/")
	w.Dialect = "nosuch"
	if _, err := h.Encode(w, example(), time.Now()); err != nil {
		t.Errorf("an unknown dialect is no fault of the record: %v", err)
	}
	if _, err := h.Push(t.Context(), jobs.Request{Webhook: w}); reason(err) != ReasonDialect {
		t.Errorf("push: %v", err)
	}
}
