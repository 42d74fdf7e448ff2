package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rawCRM answers each path with raw bytes, and closes the connection.
func rawCRM(t *testing.T, answers map[string]string) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, answers[req.URL.Path])
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return "http://" + listener.Addr().String()
}

// answer200 is a whole answer with this body.
func answer200(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// TestAnswers pushes one record to each of many CRMs, good and bad, in one run of the program: what its answer means is
// in the ledger, and nobody's answer touches another's record.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const good = `{"status":"success"}`
	status := func(line string) string {
		return "HTTP/1.1 " + line + "\r\nConnection: close\r\nContent-Length: 20\r\n\r\n" + good
	}
	cases := []struct {
		name, answer string // a preset of sinks/receiver where it has no answer
		want         string // reason code; "" is delivered
	}{
		{"the vendors word", answer200(good), ""},
		{"the word for tests", answer200(`{"status":"Success: test request received"}`), ""},
		{"white space around", answer200("\r\n " + good + "\n"), ""},
		{"more members", answer200(`{"id":7,"status":"success","data":{"status":"error"}}`), ""},
		{"escaped letters", answer200(`{"st\u0061tus":"succ\u0065ss"}`), ""},
		{"201 Created", status("201 Created"), ""},
		{"called HTML", strings.Replace(answer200(good), "application/json", "text/html", 1), ""},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"sta\r\nf\r\ntus\":\"success\"}\r\n0\r\n\r\n", ""},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n" + good, ""},
		{"100 Continue first", "HTTP/1.1 100 Continue\r\n\r\n" + answer200(good), ""},
		{"64 KiB", answer200(good + strings.Repeat(" ", 64<<10-len(good))), ""},
		{"success", "", ""},
		{"test-answer", "", ""},
		{"gzip", "", ""},
		{"wait-300ms", "", ""},

		{"upper case", answer200(`{"status":"Success"}`), "ack_mismatch"},
		{"another word", answer200(`{"status":"ok"}`), "ack_mismatch"},
		{"a space behind", answer200(`{"status":"success "}`), "ack_mismatch"},
		{"the word for tests in small", answer200(`{"status":"success: test request received"}`), "ack_mismatch"},
		{"named Status", answer200(`{"Status":"success"}`), "no_status"},
		{"an empty object", answer200(`{}`), "no_status"},
		{"status within", answer200(`{"data":{"status":"success"}}`), "no_status"},
		{"true", answer200(`{"status":true}`), "status_not_text"},
		{"a list of words", answer200(`{"status":["success"]}`), "status_not_text"},
		{"doubled", answer200(`{"status":"error","status":"success"}`), "doubled_key"},
		{"a list", answer200(`[{"status":"success"}]`), "not_object"},
		{"the word alone", answer200(`"success"`), "not_object"},
		{"a bare word", answer200(`success`), "not_json"},
		{"single quotes", answer200(`{'status':'success'}`), "not_json"},
		{"a comma too many", answer200(`{"status":"success",}`), "not_json"},
		{"two answers", answer200(good + good), "trailing_text"},
		{"a PHP warning", answer200("<br />\n<b>Warning</b>: undefined\n" + good), "leading_text"},
		{"BOM", answer200("\xef\xbb\xbf" + good), "bom"},
		{"Latin-1", answer200("{\"status\":\"success\",\"by\":\"M\xfcller\"}"), "not_utf8"},
		{"nothing", answer200(""), "empty"},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", "empty"},
		{"cut", answer200(`{"status":"succ`), "truncated"},
		{"less than its length", "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + good, "truncated"},
		{"64 KiB and one", answer200(good + strings.Repeat(" ", 64<<10-len(good)+1)), "too_large"},
		{"br", "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 20\r\n\r\n" + good, "bad_encoding"},
		{"400", status("400 Bad Request"), "http_400"},
		{"401", status("401 Unauthorized"), "http_401"},
		{"410", status("410 Gone"), "http_410"},
		{"413", status("413 Payload Too Large"), "http_413"},
		{"429", status("429 Too Many Requests"), "http_429"},
		{"500", status("500 Internal Server Error"), "http_500"},
		{"503", status("503 Service Unavailable"), "http_503"},
		{"301", strings.Replace(status("301 Moved Permanently"), "\r\n", "\r\nLocation: /the%20vendors%20word\r\n", 1), "redirect"},
		{"not HTTP", "220 mail.example.com ESMTP\r\n", "bad_http"},
		{"closed", "", "reset"},
		{"http-307", "", "redirect"},
		{"flood", "", "too_large"},
		{"gzip-bomb", "", "too_large"},
		{"bad-gzip", "", "bad_gzip"},
		{"html", "", "not_json"},
		{"hang", "", "timeout"},
		{"hang-body", "", "timeout"},
		{"slow", "", "timeout"},
		{"reset", "", "reset"},
		{"reset-body", "", "reset"},
		{"wait-1m", "", "timeout"},
	}
	raw := map[string]string{}
	for _, c := range cases {
		if strings.HasPrefix(c.answer, "HTTP/") && !strings.Contains(c.answer, "Connection:") { // it closes, and says so
			c.answer = strings.Replace(c.answer, "\r\n", "\r\nConnection: close\r\n", 1)
		}
		raw["/"+c.name] = c.answer
	}
	presets := newPresetCRM()
	rawURL, presetURL := rawCRM(t, raw), startServer(t, presets, presets.close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	_ = closed.Close()

	app := newApplication(t, "sqlite")
	var config strings.Builder
	fmt.Fprintf(&config, "source: %q\nhttp: {timeout: 3s, allow_http: true, allow_cidrs: [127.0.0.0/8]}\n", app.source)
	config.WriteString("schedule: \"@daily\"\nwebhooks:\n")
	want := map[string]string{}
	add := func(name, url, reason string) {
		id := strings.ReplaceAll(name, " ", "_")
		fmt.Fprintf(&config, "  - {id: %q, chatbot: %q, url: %q, from: beginning, retry_at: []}\n", id, name, url)
		app.insert(name)
		want[id] = reason
	}
	for _, c := range cases {
		if c.answer == "" && c.name != "closed" {
			add(c.name, presetURL+"/"+c.name, c.want)
		} else {
			add(c.name, rawURL+"/"+strings.ReplaceAll(c.name, " ", "%20"), c.want)
		}
	}
	add("nobody listens", "http://"+nobody+"/", "connect")
	add("no TLS there", strings.Replace(rawURL, "http:", "https:", 1)+"/closed", "tls")

	// A configuration names no such address. The ledger has them from when their networks were open.
	s := newSite(t, 2*time.Minute, fmt.Sprintf("source: %q\n%swebhooks: []\n", app.source, local))
	for id, url := range map[string]string{
		"this_machine": "http://[::1]:80/", "the_metadata_service": "http://169.254.169.254/latest", "a_mapped_address": "http://[::ffff:10.0.0.1]/",
	} {
		s.run(0, "webhook", "add", "--id", id, "--chatbot", id, "--url", url, "--from", "beginning", "--retry-at", "none")
		app.insert(id)
		want[id] = "private_address"
	}
	s.configure(config.String())
	run := s.runNow(3)
	got := map[string]string{}
	for _, d := range s.deliveries() {
		switch {
		case d.State == "delivered" && d.Attempts == 1:
			got[d.Webhook] = d.LastError
		case d.State == "pending" && d.Attempts == 1 && d.LastError != "":
			got[d.Webhook] = d.LastError
		default:
			t.Errorf("%+v", d)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	acked, tests := 0, 2 // of the good two are acknowledgements of tests
	for _, reason := range want {
		if reason == "" {
			acked++
		}
	}
	wanted := runResult{
		Run: run.Run, Gathered: len(want), Delivered: acked - tests, TestAnswers: tests,
		Failed: len(want) - acked, Pending: len(want) - acked, Seconds: run.Seconds,
	}
	if diff := cmp.Diff(wanted, run); diff != "" {
		t.Errorf("the run (-want +got):\n%s", diff)
	}
	// A redirect is not followed: the preset would have seen a second POST.
	crm, err := presets.of("http-307")
	if err != nil {
		t.Fatal(err)
	}
	if n := crm.Counts().Requests; n != 1 {
		t.Errorf("%d requests came to the CRM that redirects", n)
	}
}
