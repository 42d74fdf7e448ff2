package sinks

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// answering serves one raw HTTP answer for every request, as it is, and closes.
func answering(t *testing.T, raw string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, raw)
			}
			conn.Close()
		}
	}()
	return "http://" + listener.Addr().String() + "/"
}

func head(status int, headers ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nConnection: close\r\n%s\r\n", status, strings.Join(append(headers, ""), "\r\n"))
}

func ok(body string) string { return with200("application/json", body) }

func with200(contentType, body string) string {
	return head(200, "Content-Type: "+contentType, fmt.Sprintf("Content-Length: %d", len(body))) + body
}

func compressed(bodies ...string) string {
	var b bytes.Buffer
	for _, body := range bodies {
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, body)
		z.Close()
	}
	return b.String()
}

func gzipped(body string) string {
	return head(200, "Content-Encoding: gzip", fmt.Sprintf("Content-Length: %d", len(body))) + body
}

func many(members int) string {
	var b strings.Builder
	for i := range members {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return b.String()
}

const good = `{"status":"success"}`

func TestAnswers(t *testing.T) {
	padded := func(n int) string {
		return `{"status":"success","x":"` + strings.Repeat("x", n-len(`{"status":"success","x":""}`)) + `"}`
	}
	type result struct {
		Reason string
		Status int
		Word   string
		Test   bool
	}
	acked := result{Status: 200, Word: "success"}
	bad := func(reason string, word ...string) result {
		return result{Reason: reason, Status: 200, Word: strings.Join(word, "")}
	}
	tests := []struct {
		name string
		raw  string
		ack  []string
		want result
	}{
		{"the vendor's answer", ok(good), nil, acked},
		{"the answer to tests", ok(`{"status":"Success: test request received"}`), nil, result{Status: 200, Word: TestAnswer, Test: true}},
		{"white space around", ok(" \r\n\t" + good + "\n\n"), nil, acked},
		{"white space within", ok("{ \"status\" :\n\"success\" }"), nil, acked},
		{"more members", ok(`{"id":7,"status":"success","data":{"status":"error"}}`), nil, acked},
		{"status last", ok(`{"a":[1,{"b":null}],"status":"success"}`), nil, acked},
		{"escaped letters", ok(`{"st\u0061tus":"succ\u0065ss"}`), nil, acked},
		{"a lone surrogate elsewhere", ok(`{"x":"\ud800","status":"success"}`), nil, acked},
		{"emoji elsewhere", ok(`{"x":"👍","status":"success"}`), nil, acked},
		{"called HTML", with200("text/html; charset=iso-8859-1", good), nil, acked},
		{"no content type", head(200, "Content-Length: 20") + good, nil, acked},
		{"201", head(201, "Content-Length: 20") + good, nil, result{Status: 201, Word: "success"}},
		{"202", head(202, "Content-Length: 20") + good, nil, result{Status: 202, Word: "success"}},
		{"no length, ended by closing", head(200) + good, nil, acked},
		{"chunked", head(200, "Transfer-Encoding: chunked") + "5\r\n{\"sta\r\nf\r\ntus\":\"success\"}\r\n0\r\n\r\n", nil, acked},
		{"100 Continue first", "HTTP/1.1 100 Continue\r\n\r\n" + ok(good), nil, acked},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" + good, nil, acked},
		{"gzip", gzipped(compressed(good)), nil, acked},
		{"gzip in two members", gzipped(compressed(good[:7], good[7:])), nil, acked},
		{"gzip in capitals", strings.Replace(gzipped(compressed(good)), "gzip", "GZIP", 1), nil, acked},
		{"64 KiB", ok(padded(64 << 10)), nil, acked},
		{"64 KiB in gzip", gzipped(compressed(padded(64 << 10))), nil, acked},
		{"an own word", ok(`{"status":"accepted"}`), []string{"accepted"}, result{Status: 200, Word: "accepted"}},
		{"2xx with any body", ok(`Thank you`), []string{jobs.Ack2xx}, result{Status: 200}},
		{"2xx without a body", head(204), []string{jobs.Ack2xx}, result{Status: 204}},
		{"2xx with the test word", ok(`{"status":"Success: test request received"}`), []string{jobs.Ack2xx}, result{Status: 200, Word: TestAnswer, Test: true}},
		{"2xx cut short", head(200, "Content-Length: 50") + "x", []string{jobs.Ack2xx}, result{Status: 200}},
		{"2xx is no word among words", ok(`{"status":"success"}`), []string{jobs.Ack2xx, "success"}, acked},

		{"upper case", ok(`{"status":"Success"}`), nil, bad(ReasonAckMismatch, "Success")},
		{"all capitals", ok(`{"status":"SUCCESS"}`), nil, bad(ReasonAckMismatch, "SUCCESS")},
		{"a space behind", ok(`{"status":"success "}`), nil, bad(ReasonAckMismatch, "success ")},
		{"another word", ok(`{"status":"ok"}`), nil, bad(ReasonAckMismatch, "ok")},
		{"an empty word", ok(`{"status":""}`), nil, bad(ReasonAckMismatch)},
		{"the test answer in other case", ok(`{"status":"success: test request received"}`), nil, bad(ReasonAckMismatch, "success: test request received")},
		{"the test answer not accepted", ok(`{"status":"Success: test request received"}`), []string{"success"}, bad(ReasonAckMismatch, TestAnswer)},
		{"the record's name", ok(`{"status":"stored David Garcia <test@qq.com>"}`), nil, bad(ReasonAckMismatch, "stored … … …")},
		{"named Status", ok(`{"Status":"success"}`), nil, bad(ReasonNoStatus)},
		{"no status", ok(`{"result":"success"}`), nil, bad(ReasonNoStatus)},
		{"an empty object", ok(`{}`), nil, bad(ReasonNoStatus)},
		{"status inside", ok(`{"data":{"status":"success"}}`), nil, bad(ReasonNoStatus)},
		{"true", ok(`{"status":true}`), nil, bad(ReasonStatusType)},
		{"null", ok(`{"status":null}`), nil, bad(ReasonStatusType)},
		{"200", ok(`{"status":200}`), nil, bad(ReasonStatusType)},
		{"a list of words", ok(`{"status":["success"]}`), nil, bad(ReasonStatusType)},
		{"doubled", ok(`{"status":"success","status":"success"}`), nil, bad(ReasonDoubledKey)},
		{"doubled by an escape", ok(`{"status":"success","statu\u0073":"error"}`), nil, bad(ReasonDoubledKey)},
		{"another name doubled", ok(`{"a":1,"a":2,"status":"success"}`), nil, bad(ReasonDoubledKey)},
		{"doubled inside", ok(`{"status":"success","data":{"a":1,"a":2}}`), nil, bad(ReasonDoubledKey)},
		{"a list", ok(`[{"status":"success"}]`), nil, bad(ReasonNotObject)},
		{"a string", ok(`"success"`), nil, bad(ReasonNotObject)},
		{"a number", ok(`1`), nil, bad(ReasonNotObject)},
		{"null alone", ok(`null`), nil, bad(ReasonNotObject)},
		{"a bare word", ok(`success`), nil, bad(ReasonNotJSON)},
		{"HTML", ok(`<!DOCTYPE html><p>Hello {you}`), nil, bad(ReasonNotJSON)},
		{"single quotes", ok(`{'status':'success'}`), nil, bad(ReasonNotJSON)},
		{"no quotes", ok(`{status:"success"}`), nil, bad(ReasonNotJSON)},
		{"a comma too many", ok(`{"status":"success",}`), nil, bad(ReasonNotJSON)},
		{"a comment", ok(`{"status":"success"/* ok */}`), nil, bad(ReasonNotJSON)},
		{"a raw line break in the word", ok("{\"status\":\"succ\ness\"}"), nil, bad(ReasonNotJSON)},
		{"two answers", ok(good + good), nil, bad(ReasonTrailingText)},
		{"text behind", ok(good + "<!-- 3 ms -->"), nil, bad(ReasonTrailingText)},
		{"NUL behind", ok(good + "\x00"), nil, bad(ReasonTrailingText)},
		{"a no-break space behind", ok(good + "\u00a0"), nil, bad(ReasonTrailingText)},
		{"a PHP warning before", ok("<br />\n<b>Warning</b>: x in {main}\n" + good), nil, bad(ReasonLeadingText)},
		{"an XSSI prefix", ok(")]}',\n" + good), nil, bad(ReasonLeadingText)},
		{"a word before", ok("OK " + good), nil, bad(ReasonLeadingText)},
		{"a number before", ok("1" + good), nil, bad(ReasonLeadingText)},
		{"JSONP", ok("cb(" + good + ")"), nil, bad(ReasonLeadingText)},
		{"BOM", ok("\xef\xbb\xbf" + good), nil, bad(ReasonBOM)},
		{"UTF-16", ok("\xff\xfe{\x00}\x00"), nil, bad(ReasonNotUTF8)},
		{"Latin-1", ok("{\"status\":\"success\",\"by\":\"M\xfcller\"}"), nil, bad(ReasonNotUTF8)},
		{"nothing", ok(""), nil, bad(ReasonEmpty)},
		{"white space alone", ok(" \n"), nil, bad(ReasonEmpty)},
		{"204", head(204), nil, result{Reason: ReasonEmpty, Status: 204}},
		{"JSON cut", ok(`{"status":"succ`), nil, bad(ReasonTruncated)},
		{"JSON cut after the word", ok(`{"status":"success"`), nil, bad(ReasonTruncated)},
		{"less than its length", head(200, "Content-Length: 40") + good, nil, bad(ReasonTruncated)},
		{"chunks cut", head(200, "Transfer-Encoding: chunked") + "14\r\n" + good + "\r\n", nil, bad(ReasonTruncated)},
		{"chunks broken", head(200, "Transfer-Encoding: chunked") + "zz\r\n" + good, nil, bad(ReasonHTTP)},
		{"64 KiB and one", ok(padded(64<<10 + 1)), nil, bad(ReasonTooLarge)},
		{"white space beyond 64 KiB", ok(good + strings.Repeat(" ", 64<<10)), nil, bad(ReasonTooLarge)},
		{"a length of 1 GB", head(200, "Content-Length: 1000000000") + good, nil, bad(ReasonTooLarge)},
		{"a gzip bomb", gzipped(compressed(good + strings.Repeat(" ", 8<<20))), nil, bad(ReasonTooLarge)},
		{"a gzip bomb of empty members", gzipped(strings.Repeat(compressed(""), 10_000)), nil, bad(ReasonTooLarge)},
		{"not gzip", gzipped(good), nil, bad(ReasonGzip)},
		{"gzip cut", gzipped(compressed(good)[:20]), nil, bad(ReasonGzip)},
		{"gzip with a wrong sum", gzipped(compressed(good)[:len(compressed(good))-8] + "\x00\x00\x00\x00\x00\x00\x00\x00"), nil, bad(ReasonGzip)},
		{"gzip of nothing", gzipped(compressed("")), nil, bad(ReasonEmpty)},
		{"brotli", head(200, "Content-Encoding: br") + good, nil, bad(ReasonEncoding)},
		{"gzip twice", head(200, "Content-Encoding: gzip, gzip") + compressed(compressed(good)), nil, bad(ReasonEncoding)},
		{"301", head(301, "Location: /x", "Content-Length: 20") + good, nil, result{Reason: ReasonRedirect, Status: 301}},
		{"302", head(302, "Location: /x", "Content-Length: 20") + good, nil, result{Reason: ReasonRedirect, Status: 302}},
		{"307", head(307, "Location: /x", "Content-Length: 20") + good, nil, result{Reason: ReasonRedirect, Status: 307}},
		{"308 without a place", head(308, "Content-Length: 20") + good, nil, result{Reason: ReasonRedirect, Status: 308}},
		{"304", head(304), nil, result{Reason: "http_304", Status: 304}},
		{"400", head(400, "Content-Length: 20") + good, nil, result{Reason: "http_400", Status: 400}},
		{"404", head(404, "Content-Length: 20") + good, nil, result{Reason: "http_404", Status: 404}},
		{"413", head(413, "Content-Length: 20") + good, nil, result{Reason: "http_413", Status: 413}},
		{"429", head(429, "Retry-After: 5", "Content-Length: 20") + good, nil, result{Reason: "http_429", Status: 429}},
		{"500", head(500, "Content-Length: 20") + good, nil, result{Reason: "http_500", Status: 500}},
		{"500 is no 2xx", head(500, "Content-Length: 20") + good, []string{jobs.Ack2xx}, result{Reason: "http_500", Status: 500}},
		{"101", head(101, "Upgrade: x", "Connection: upgrade"), nil, result{Reason: "http_101", Status: 101}},
		{"999", head(999, "Content-Length: 20") + good, nil, result{Reason: "http_999", Status: 999}},
		{"not HTTP", "220 mail.example.com ESMTP\r\n", nil, result{Reason: ReasonHTTP}},
		{"a broken status line", "HTTP/1.1 two hundred\r\n\r\n" + good, nil, result{Reason: ReasonHTTP}},
		{"headers without an end", head(200, "X: "+strings.Repeat("x", 200_000)) + good, nil, result{Reason: ReasonHTTP}},
		{"deeper than any parser goes", ok(strings.Repeat("[", 60_000)), nil, bad(ReasonNotJSON)},
		{"many members", ok(`{"status":"success"` + many(4000) + `}`), nil, acked},
		{"headers cut", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n", nil, result{Reason: ReasonReset}},
		{"closed without a word", "", nil, result{Reason: ReasonReset}},
	}
	h := newSink(t, local())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := webhook(answering(t, tt.raw))
			w.Ack = tt.ack
			answer, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(exampleBody), Attempt: 1})
			got := result{Status: answer.Status, Word: answer.Word, Test: answer.Test}
			if refusal := (*jobs.RefusedError)(nil); errors.As(err, &refusal) {
				got = result{Reason: refusal.Reason, Status: refusal.Status, Word: refusal.Word}
				if refusal.Hint == "" {
					t.Error("no hint")
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHintsAreSentences(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 408, 410, 413, 415, 418, 422, 429, 500, 503, 304, 999} {
		hints[StatusReason(status)] = hintFor("", status)
		defer delete(hints, StatusReason(status))
	}
	for reason, hint := range hints {
		if !strings.HasSuffix(hint, ".") || hint[0] < 'A' || hint[0] > 'Z' || len(hint) > 160 {
			t.Errorf("%s: %q is no short sentence", reason, hint)
		}
	}
}

// FuzzMask checks that a status word that holds a value of the record never shows it.
func FuzzMask(f *testing.F) {
	f.Add("stored ", "David", "!")
	f.Add("", "o'Neill-Smith <a@b.c>", " ok")
	f.Add("ſ", "ẞß", "")
	h, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, before, value, after string) {
		before, value, after = strings.ToValidUTF8(before, "?"), strings.ToValidUTF8(value, "?"), strings.ToValidUTF8(after, "?")
		body, err := h.Encode(webhook(""), with(jobs.Field{Name: "FirstName", Value: value}), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := mask(before+" "+value+" "+after, body, dialects["smarterbot"].public)
		value = strings.TrimSpace(value)
		if len([]rune(value)) >= shortValue && !strings.Contains(before+after, value) && strings.Contains(got, value) && strings.Trim(value, " …") != "" {
			t.Errorf("%q shows %q", got, value)
		}
		if n := len([]rune(got)); n > maxWord+1 {
			t.Errorf("%d runes are kept", n)
		}
	})
}
