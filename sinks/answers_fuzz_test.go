package sinks

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/leadrelay/leadrelay/jobs"
)

// FuzzJudge holds the judge to a second reading of the rule, with another JSON parser: what that one takes for an
// acknowledgement is one, and nothing else.
func FuzzJudge(f *testing.F) {
	for _, seed := range []string{
		good, " " + good + "\n", `{"status":"Success: test request received"}`, `{"a":{"b":[1,2,{"c":null}]},"status":"success"}`,
		`{"st\u0061tus":"success"}`, `{"status":"success","status":"x"}`, "\ufeff" + good, "x" + good, good + "x", `[`, `{`, `{"`, `{"status"`,
		`{"status":`, `{"status":"\ud800"}`, "\xff", `"success"`, `null`, `-`, `1e`, `{"x":1e999,"status":"success"}`,
		`{"a":{"b":"1"}}`, `{"a":{"b":true,"b":1}}`, `{"a":[{"b":1}]}`, `{"a":{"a":{"b":1e5}}}`,
		strings.Repeat("[", 50), strings.Repeat(`{"a":`, 50),
	} {
		f.Add([]byte(seed))
	}
	words := ruleOf([]string{"success", TestAnswer})
	member := ruleOf(jobs.AckRule{Path: "a.b", Equals: []string{"success", "true", "12"}, Prefix: []string{"ok"}}.Ack())
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, tt := range []struct {
			rule *rule
			want bool
		}{
			{&words, secondReading(body, []string{"status"}, func(v any) bool { return v == "success" || v == TestAnswer })},
			{&goHighLevel, secondReading(body, nil, func(v any) bool {
				all := v.(map[string]any)
				status, _ := all["status"].(string)
				return strings.HasPrefix(status, "Success: request sent to trigger execution server") && all["id"] != nil
			})},
			{&member, secondReading(body, []string{"a", "b"}, func(v any) bool {
				text, _ := v.(string)
				number, _ := v.(json.Number)
				n, _ := strconv.ParseFloat(string(number), 64)
				return text == "success" || text == "true" || text == "12" || v == true || n == 12 || strings.HasPrefix(text, "ok")
			})},
		} {
			word, refusal := judge(body, tt.rule)
			if refusal != nil {
				if _, known := hints[refusal.Reason]; !known {
					t.Errorf("reason %q is not in the list", refusal.Reason)
				}
			}
			if tt.want != (refusal == nil) {
				t.Errorf("%q is accepted: %v (%v, word %q), and a second reading says %v", body, refusal == nil, refusal, word, tt.want)
			}
		}
	})
}

// secondReading reports whether body is one JSON object, UTF-8, with no name twice, that has a member there which ok
// takes; no path: ok takes the object.
func secondReading(body []byte, path []string, ok func(any) bool) bool {
	if !utf8.Valid(body) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, unique := readUnique(d)
	if _, object := v.(map[string]any); !object || !unique {
		return false
	}
	if _, err := d.Token(); err != io.EOF {
		return false
	}
	for _, name := range path {
		all, object := v.(map[string]any)
		if v = all[name]; !object {
			return false
		}
	}
	return ok(v)
}

// readUnique reads a value with a decoder that takes names that come twice; ok: none does, and it is JSON.
func readUnique(d *json.Decoder) (v any, ok bool) {
	token, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch token {
	case json.Delim('{'):
		all := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, false
			}
			if _, twice := all[name.(string)]; twice {
				return nil, false
			}
			if all[name.(string)], ok = readUnique(d); !ok {
				return nil, false
			}
		}
		v = all
	case json.Delim('['):
		for d.More() {
			if _, ok := readUnique(d); !ok {
				return nil, false
			}
		}
		v = []any{}
	default:
		return token, true
	}
	_, err = d.Token()
	return v, err == nil
}

// FuzzAckRule: a rule that passes its check accepts the answer that is made by it, and no empty one.
func FuzzAckRule(f *testing.F) {
	f.Add(`{"path":"result.ok","equals":["true"]}`)
	f.Add(`{"path":"a.a.a","prefix":["x"]}`)
	f.Add(`{"path":"ſtatus","equals":["1e5","\u2028"],"prefix":["\ud83d\ude00"]}`)
	f.Add(`{"path":".","equals":["x"]}`)
	f.Add(`{"path":"a","equals":null,"path":"b"}`)
	f.Add("2xx")
	f.Fuzz(func(t *testing.T, text string) {
		ack := []string{text}
		member, ok := jobs.AckRuleOf(ack)
		if fault := jobs.CheckAck(ack); strings.HasPrefix(text, "{") && ok != (fault == nil) || fault != nil && strings.Contains(fault.Error(), "\n") {
			t.Fatalf("rule: %v, and its check says %v", ok, fault)
		}
		r := ruleOf(ack)
		if _, refusal := judge([]byte("{}"), &r); refusal == nil && !r.any {
			t.Fatalf("%q accepts an answer that says nothing", text)
		}
		if !ok {
			return
		}
		if again := member.Ack(); !slices.EqualFunc([]jobs.AckRule{member}, again, func(r jobs.AckRule, text string) bool {
			same, ok := jobs.AckRuleOf([]string{text})
			return ok && same.Path == r.Path && slices.Equal(same.Equals, r.Equals) && slices.Equal(same.Prefix, r.Prefix)
		}) {
			t.Fatalf("%q is written %q", text, again)
		}
		if _, refusal := judge([]byte(r.whole()), &r); refusal != nil {
			t.Fatalf("%q does not accept %s: %s", text, r.whole(), refusal.Reason)
		}
	})
}

// FuzzAnswer: an answer's body is read whole, or refused; what gzip holds is what comes of it.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(good), "")
	f.Add([]byte(compressed(good)), "gzip")
	f.Add([]byte(compressed(good, "x")), "X-GZIP")
	f.Add([]byte(compressed(strings.Repeat(" ", maxAnswer+1))), "gzip")
	f.Add([]byte("\x1f\x8b\x08"), "gzip")
	f.Add([]byte(good), "br")
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		res := &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
		if encoding != "" {
			res.Header["Content-Encoding"] = []string{encoding}
		}
		buf := []byte("what stood there")
		got, refusal := readAnswer(t.Context(), res, &buf)
		if (refusal == nil) != (got != nil || len(body) == 0) && len(got) > 0 || len(got) > maxAnswer {
			t.Fatalf("%d bytes, %v", len(got), refusal)
		}
		if refusal != nil {
			if _, known := hints[refusal.Reason]; !known {
				t.Fatalf("reason %q is not in the list", refusal.Reason)
			}
			return
		}
		want := body
		switch strings.ToLower(encoding) {
		case "", "identity":
		default:
			want = nil
			if len(body) > 0 {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err == nil {
					want, err = io.ReadAll(z)
				}
				if err != nil {
					t.Fatalf("%q is read as %q, and is no %s: %v", body, got, encoding, err)
				}
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q is read as %q, want %q", body, got, want)
		}
	})
}

// FuzzRetryAfter: seconds are what they are, clamped where they are more than a number holds; a date is the time until
// then; anything else asks for nothing, and nothing asks for the past.
func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"120", "0", "-1", "+5", "1e3", "9223372036854775807", "99999999999999999999", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Thu Jan  1 00:00:00 9999", "", "120 ", "2200000000A", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(text, 429)
	}
	f.Add("120", 500)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string, status int) {
		got := retryAfter(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {text}}}, now)
		want := time.Duration(0)
		if status == 429 || status == 503 {
			if at, err := http.ParseTime(text); err == nil && at.After(now) {
				want = at.Sub(now)
			}
			if strings.Trim(text, "0123456789") == "" && text != "" {
				n, _ := new(big.Int).SetString(text, 10)
				if want = (1<<31 - 1) * time.Second; n.IsInt64() && n.Int64() < int64(want/time.Second) {
					want = time.Duration(n.Int64()) * time.Second
				}
			}
		}
		if got != want {
			t.Fatalf("Retry-After: %q of HTTP %d asks for %v, want %v", text, status, got, want)
		}
	})
}
