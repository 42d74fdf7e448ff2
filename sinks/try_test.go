package sinks

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// secretWebhook is one of which much must not be shown.
func secretWebhook(url string) *jobs.Webhook {
	w := webhook(strings.TrimSuffix(url, "/") + "/hooks/secret-path/s3cr3t-segment-xyzzy?token=query-s3kret")
	w.SignKey, w.Headers = "k3y/of+the=CRM", map[string]jobs.Secret{"Authorization": "Bearer token-s3cret", "X-Tenant": "tenant s3cret"}
	return w
}

// isSecret are texts of secretWebhook's that no Trial may show.
var isSecret = []string{"k3y/of", "k3y%2", `k3y\/of`, "token-s3cret", "s3cret", "s3kret", "s3cr3t", "secret-path", "xyzzy"}

func try(t *testing.T, h *HTTP, w *jobs.Webhook) jobs.Trial {
	t.Helper()
	return tryAttempt(t, h, w, false)
}

func tryAttempt(t *testing.T, h *HTTP, w *jobs.Webhook, reveal bool) jobs.Trial {
	t.Helper()
	trial, err := h.Try(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(exampleBody), Attempt: 1}, reveal)
	if err != nil {
		t.Fatal(err)
	}
	return trial
}

// shown is all that is ever shown of a trial.
func shown(t *testing.T, trial jobs.Trial) string {
	t.Helper()
	text, err := json.Marshal(trial)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + trial.Reason + strings.Join(trial.Notes, "\n") + trial.Request.Body
}

func quiet(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// selfSigned makes a certificate that vouches for itself.
func selfSigned(t *testing.T) tls.Certificate {
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "crm"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// intermediate makes an authority below a.
func (a *authority) intermediate() *authority {
	below := &authority{t: a.t, key: newKey(a.t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "test intermediate"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, below.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if below.cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return below
}

// TestTrialNamesTheFault tries endpoints each of which has one fault. It is named, and no other is.
func TestTrialNamesTheFault(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	a, stranger := newAuthority(t), newAuthority(t)
	serve := func(cert tls.Certificate) string { return a.serve(cert, nil).URL }
	issued := func(change func(*x509.Certificate)) string { return serve(a.issue(change)) }
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	page := func(body string) string { return with200("text/html", "<!DOCTYPE html>\n<html>"+body+"</html>") }
	status := func(code int, body string, headers ...string) string {
		return answering(t, head(code, append(headers, fmt.Sprintf("Content-Length: %d", len(body)))...)+body)
	}
	redirect := func(to func(r *http.Request) string) string {
		return quiet(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, to(r), http.StatusMovedPermanently)
		})
	}
	bomb := compressed(strings.Repeat(" ", 1<<20))

	rejecting := func(code int, body string) string { return status(code, body) }
	tests := []struct {
		name    string
		url     string
		o       func(*Options)
		headers map[string]jobs.Secret // in place of secretWebhook's
		ack     []string
		code    string
		// detail and says are this fault's alone
		detail, says string
	}{
		{name: "wrong key, 401", url: rejecting(401, "who are you"), code: "http_401", detail: "wrong_key", says: "sign key is another"},
		{name: "wrong key, 403", url: rejecting(403, ""), code: "http_403", detail: "wrong_key", says: "sign key is another"},
		{name: "wrong key, in the status", url: answering(t, ok(`{"status":"invalid signature"}`)), code: ReasonAckMismatch, detail: "wrong_key", says: "sign key is another"},
		{name: "wrong key, in an error", url: answering(t, ok(`{"error":"Signature does not match"}`)), code: ReasonNoStatus, detail: "wrong_key", says: "sign key is another"},
		{name: "wrong key, the vendor's recipe in Express", url: rejecting(500, "<pre>Error: Invalid Signature<br> at /srv/app.js</pre>"), code: "http_500", detail: "wrong_key", says: "sign key is another"},
		{name: "wrong key, as a bad request", url: rejecting(400, `{"message":"HMAC verification failed"}`), code: "http_400", detail: "wrong_key", says: "sign key is another"},
		{name: "no credentials", url: status(401, "", `WWW-Authenticate: Basic realm="crm"`), headers: map[string]jobs.Secret{"X-Tenant": "tenant s3cret"}, code: "http_401", detail: "wrong_credentials", says: `asks for credentials (WWW-Authenticate: Basic realm="crm")`},
		{name: "a firewall", url: status(403, "<!DOCTYPE html><title>Attention Required!</title>", "Server: cloudflare"), code: "http_403", detail: "firewall", says: "bot check before the CRM (Cloudflare)"},
		{name: "wrong case", url: answering(t, ok(`{"status":"Success"}`)), code: ReasonAckMismatch, detail: "wrong_case", says: `is "Success" and must be "success"`},
		{name: "a space", url: answering(t, ok(`{"status":"success "}`)), code: ReasonAckMismatch, detail: "wrong_case", says: `is "success " and must be "success"`},
		{name: "wrong word", url: answering(t, ok(`{"status":"ok"}`)), code: ReasonAckMismatch, detail: "wrong_word", says: `is "ok", and accepted is "success"`},
		{name: "wrong word by path", url: answering(t, ok(`{"result":{"ok":false}}`)), ack: jobs.AckRule{Path: "result.ok", Equals: []string{"true"}}.Ack(), code: ReasonAckMismatch, detail: "wrong_word", says: `result.ok is "false", and accepted is "true"`},
		{name: "no status", url: answering(t, ok(`{"ok":true}`)), code: ReasonNoStatus, says: "has no member named status"},
		{name: "named Status", url: answering(t, ok(`{"Status":"success"}`)), code: ReasonNoStatus, says: "must be named status"},
		{name: "true", url: answering(t, ok(`{"status":true}`)), code: ReasonStatusType, says: "not a string"},
		{name: "the workflow is not published", url: answering(t, ok(`{"status":"Success: test request received"}`)), ack: []string{jobs.AckGoHighLevel}, code: ReasonNotStored, says: "stored nothing"},

		{name: "redirect", url: redirect(func(*http.Request) string { return "https://other.example.net/elsewhere/t0ken" }), code: ReasonRedirect, says: "redirects (HTTP 301) to https://other.example.net/elsewhere/…, and redirects are never followed: enter the URL"},
		{name: "redirect to https", url: redirect(func(r *http.Request) string { return "https://" + r.Host + r.URL.String() }), code: ReasonRedirect, detail: "to_https", says: "never followed: write https://"},
		{name: "redirect to a slash", url: redirect(func(r *http.Request) string { return r.URL.Path + "/?" + r.URL.RawQuery }), code: ReasonRedirect, detail: "trailing_slash", says: "lacks the slash at the end"},
		{name: "redirect to a login page", url: redirect(func(*http.Request) string { return "/users/sign_in" }), code: ReasonRedirect, detail: "login_page", says: "where people log in"},
		{name: "redirect to www", url: redirect(func(r *http.Request) string { return "http://www.example.com" + r.URL.String() }), code: ReasonRedirect, detail: "other_host", says: "write that host"},

		{name: "expired certificate", url: issued(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), code: ReasonTLS, detail: "expired", says: "has expired: renew it"},
		{name: "certificate not valid yet", url: issued(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), code: ReasonTLS, detail: "not_yet_valid", says: "not valid yet"},
		{name: "certificate of another name", url: issued(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"x.test"} }), code: ReasonTLS, detail: "wrong_name", says: "for another host name: install one for the URL's host, or write the host that it is for. It is for x.test."},
		{name: "self-signed certificate", url: serve(selfSigned(t)), code: ReasonTLS, detail: "self_signed", says: "signed by itself"},
		{name: "unknown authority", url: serve(stranger.issue(nil)), code: ReasonTLS, detail: "unknown_authority", says: "comes from an unknown authority"},
		{name: "no intermediate certificate", url: serve(a.intermediate().issue(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example.com/i.crt"} })), code: ReasonTLS, detail: "incomplete_chain", says: "leaves out the intermediate certificate"},
		{name: "no TLS", url: strings.Replace(quiet(t, http.NotFound), "http:", "https:", 1), code: ReasonTLS, detail: "no_tls", says: "does not speak TLS"},

		{name: "private address", url: "https://127.0.0.1:1", o: func(o *Options) { o.AllowPrivate = false }, code: ReasonPrivateAddress, says: "loopback, private or reserved address; set http.allow_cidrs"},
		{name: "plain http", url: "http://crm.example.com", o: func(o *Options) { o.AllowHTTP = false }, code: ReasonPlainHTTP, says: "sends leads in clear"},
		{name: "no such host", url: "https://" + strings.Repeat("a", 64) + ".example", code: ReasonDNS, detail: "no_such_name", says: "name could not be looked up"},
		{name: "connection refused", url: "http://" + nobody(t), code: ReasonConnect, says: "Nothing accepts connections"},
		{name: "reset", url: answering(t, ""), code: ReasonReset, says: "closed the connection without"},

		{name: "no answer", url: quiet(t, func(http.ResponseWriter, *http.Request) { <-stop }), o: briefly, code: ReasonTimeout, detail: "no_answer", says: "did not answer within 300ms"},
		{name: "answer without an end", url: quiet(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":`)
			_ = http.NewResponseController(w).Flush()
			<-stop
		}), o: briefly, code: ReasonTimeout, detail: "unfinished_answer", says: "began to answer"},
		{name: "no handshake", url: "https://" + silent.Addr().String(), o: briefly, code: ReasonTimeout, detail: "no_handshake", says: "nothing came of it"},

		{name: "404", url: rejecting(404, "<h1>Not found</h1>"), code: "http_404", says: "nothing at the URL's path"},
		{name: "405", url: status(405, "", "Allow: GET, HEAD"), code: "http_405", says: "does not take POST. It says that it takes GET, HEAD."},
		{name: "410", url: rejecting(410, ""), code: "http_410", says: "gone for good"},
		{name: "413", url: rejecting(413, ""), code: "http_413", says: "no body of this size"},
		{name: "415", url: rejecting(415, ""), code: "http_415", says: "Content-Type"},
		{name: "429", url: rejecting(429, ""), code: "http_429", says: "wants fewer requests"},
		{name: "500", url: rejecting(500, "oops"), code: "http_500", says: "endpoint failed: look in its log"},

		{name: "HTML", url: answering(t, page("<h1>It works!</h1>")), code: ReasonNotJSON, detail: "html", says: "is HTML or XML"},
		{name: "login page", url: answering(t, page(`<form><input type="password"></form>`)), code: ReasonNotJSON, detail: "login_page", says: "HTML of a login page"},
		{name: "text", url: answering(t, ok("Thank you")), code: ReasonNotJSON, says: "The answer is not JSON"},
		{name: "gzip garbage", url: answering(t, gzipped(good)), code: ReasonGzip, says: "and is not gzip"},
		{name: "gzip bomb", url: answering(t, gzipped(bomb)), code: ReasonTooLarge, detail: "unpacked", says: "larger than 64 KiB once unpacked"},
		{name: "brotli", url: answering(t, head(200, "Content-Encoding: br", "Content-Length: 2")+"xx"), code: ReasonEncoding, says: "compressed in a way"},
		{name: "huge", url: answering(t, ok(`{"status":"success","x":"`+strings.Repeat("x", 100_000)+`"}`)), code: ReasonTooLarge, says: "larger than 64 KiB: answer"},
		{name: "huge and says so", url: answering(t, ok(`{"status":"success","x":"`+strings.Repeat("x", 300_000)+`"}`)), code: ReasonTooLarge, says: "larger than 64 KiB: answer"},
		{name: "BOM", url: answering(t, ok("\ufeff"+good)), code: ReasonBOM, says: "byte order mark"},
		{name: "a PHP warning", url: answering(t, ok("<br />\n<b>Warning</b>: undefined\n"+good)), code: ReasonLeadingText, says: "stands before the JSON object"},
		{name: "text behind", url: answering(t, ok(good+"<!-- 3 ms -->")), code: ReasonTrailingText, says: "stands after the JSON object"},
		{name: "answered twice", url: answering(t, ok(good+"\n"+good)), code: ReasonTrailingText, detail: "answered_twice", says: "one JSON object after another"},
		{name: "empty", url: answering(t, ok("")), code: ReasonEmpty, says: "has no body"},
		{name: "a list", url: answering(t, ok("[]")), code: ReasonNotObject, says: "not an object"},
		{name: "no UTF-8", url: answering(t, ok("{\"status\":\"M\xfcller\"}")), code: ReasonNotUTF8, says: "not UTF-8"},
		{name: "cut JSON", url: answering(t, ok(`{"status":"succ`)), code: ReasonTruncated, says: "ends in the middle"},
		{name: "no HTTP", url: answering(t, "220 mail.example.com ESMTP\r\n"), code: ReasonHTTP, says: "not a valid HTTP answer"},
	}
	t.Cleanup(func() { close(stop) }) // before the servers', which wait for their handlers
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := local()
			o.CAFile = a.file
			if tt.o != nil {
				tt.o(&o)
			}
			w := secretWebhook(tt.url)
			if tt.ack != nil {
				w.Ack = tt.ack
			}
			if tt.headers != nil {
				w.Headers = tt.headers
			}
			trial := try(t, newSink(t, o), w)
			if trial.OK || trial.Code != tt.code || trial.Detail != tt.detail || !strings.Contains(trial.Reason, tt.says) {
				t.Errorf("got %q, %q: %s\nwant %q, %q: %s", trial.Code, trial.Detail, trial.Reason, tt.code, tt.detail, tt.says)
			}
			for _, other := range tests {
				if other.says != tt.says && strings.Contains(trial.Reason, other.says) {
					t.Errorf("%q names %s too", trial.Reason, other.name)
				}
			}
			text := shown(t, trial)
			for _, secret := range isSecret {
				if strings.Contains(text, secret) {
					t.Errorf("%q is shown in %s", secret, text)
				}
			}
			if words := len(strings.Fields(trial.Reason)); words > 70 {
				t.Errorf("%d words are no sentence or two: %s", words, trial.Reason)
			}
			// A record that is pushed there has the same reason.
			if err := push(t, newSink(t, o), w); reason(err) != trial.Code {
				t.Errorf("a record would have %v", err)
			}
		})
	}
}

// briefly is a timeout that a test can wait for.
func briefly(o *Options) { o.Timeout = 300 * time.Millisecond }

// TestTrialShows holds a trial to what it shows of request and answer.
func TestTrialShows(t *testing.T) {
	t.Parallel()
	url := quiet(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"session=abc123; HttpOnly", "csrf=def456"}
		w.Header().Set("X-Control", "a\tb\u202ec")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{\"status\":\"success\",\r\n\"by\":\"\x1b[31m\u200fM\u00fcller\"}")
	})
	w := webhook(url + "/hooks/x")
	w.Ack = []string{jobs.Ack2xx}
	trial := try(t, newSink(t, local()), w)
	if !trial.OK || trial.Code != "" || trial.Detail != "" || trial.Reason != "The CRM acknowledged the test, with HTTP 200." || trial.Notes != nil {
		t.Errorf("got %+v", trial)
	}
	q := trial.Request
	if !q.Sent || q.Method != "POST" || q.URL != url+"/hooks/…" || q.Body != exampleBody || q.Headers[TestHeader] != "1" ||
		q.Headers["Content-Type"] != "application/json" || q.Headers["User-Agent"] != "leadrelay/1.2.3" || !strings.HasPrefix(q.Headers[SignatureHeader], "t=") {
		t.Errorf("the request is shown as %+v", q)
	}
	if err := builtIn.Verify("smarterbot", http.Header{SignatureHeader: {q.Headers[SignatureHeader]}}, []byte(q.Body), []jobs.Secret{"whsec-key"}, time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	r := trial.Answer
	if r.Status != 200 || r.Line != "HTTP/1.1 200 OK" || r.Cut || r.Headers["Set-Cookie"] != "[redacted], [redacted]" ||
		r.Headers["X-Control"] != "a\tb"+`\u{202e}`+"c" || r.Body != "{\"status\":\"success\",\n\"by\":\""+`\x1b[31m\u{200f}`+"Müller\"}" {
		t.Errorf("the answer is shown as %+v", r)
	}
}

// TestTrialIsBounded: of a large answer the beginning is shown, whatever the answer's fault.
func TestTrialIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", shownAnswer)
	for name, tt := range map[string]struct {
		raw string
		cut bool
	}{
		"as long as is shown":  {ok(long), false},
		"one byte longer":      {ok(long + "y"), true},
		"an error page":        {head(500, "Connection: close") + long + long, true},
		"declared and huge":    {ok(strings.Repeat("x", maxCompressed+1)), true},
		"packed":               {gzipped(compressed(long + long)), true},
		"packed, and an error": {strings.Replace(gzipped(compressed(long+long)), "200", "502", 1), true},
		"truncated":            {head(200, "Content-Length: 100000") + long, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trial := try(t, newSink(t, local()), webhook(answering(t, tt.raw)))
			if trial.Answer == nil || trial.Answer.Body != long || trial.Answer.Cut != tt.cut {
				t.Errorf("%d bytes are shown, cut %v", len(trial.Answer.Body), trial.Answer.Cut)
			}
		})
	}
}

// TestTrialAccepted tells the ways of being accepted apart.
func TestTrialAccepted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		raw                string
		ack                []string
		detail, says, note string
	}{
		"the word":             {ok(good), nil, "", `"success"`, ""},
		"for test requests":    {ok(`{"status":"Success: test request received"}`), nil, "test_answer", "GoHighLevel", ""},
		"any 2xx":              {head(204), []string{jobs.Ack2xx}, "", "HTTP 204", ""},
		"any 2xx, with a page": {with200("text/html", "<html>Log in"), []string{jobs.Ack2xx}, "", "HTTP 200", "HTML page"},
		"GoHighLevel's":        {ok(`{"status":"Success: request sent to trigger execution server","id":"1"}`), []string{jobs.AckGoHighLevel}, "", "trigger execution server", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := webhook(answering(t, tt.raw))
			if tt.ack != nil {
				w.Ack = tt.ack
			}
			trial := try(t, newSink(t, local()), w)
			if !trial.OK || trial.Code != "" || trial.Detail != tt.detail || !strings.Contains(trial.Reason, tt.says) || !strings.Contains(strings.Join(trial.Notes, "\n"), tt.note) {
				t.Errorf("got %+v", trial)
			}
		})
	}
}

// TestTrialHidesSecrets: an endpoint that gives back all that it was sent, and the key besides, in many spellings.
func TestTrialHidesSecrets(t *testing.T) {
	t.Parallel()
	key := "k3y/of+the=CRM"
	spelled := []string{
		hex.EncodeToString([]byte(key)), fmt.Sprintf("%X", key),
		base64.StdEncoding.EncodeToString([]byte(key)), base64.RawURLEncoding.EncodeToString([]byte(key)),
	}
	for name, code := range map[string]int{"accepted": 200, "refused": 404} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := quiet(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Echo", r.Header.Get("Authorization"))
				w.Header().Set("X-Key", strings.ToUpper(key))
				w.Header().Set("Location", r.URL.String())
				w.WriteHeader(code)
				status := "success"
				if code != 200 {
					status = "Cannot POST " + r.URL.Path
				}
				php := strings.ReplaceAll(fmt.Sprint(r.URL), "/", `\/`)
				_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "headers": r.Header, "url": r.URL.String(), "expected": key, "spelled": spelled, "php": php})
				_, _ = io.WriteString(w, " ")
			})
			trial := try(t, newSink(t, local()), secretWebhook(url))
			text := shown(t, trial)
			for _, secret := range slices.Concat(isSecret, spelled, []string{strings.ToUpper(key)}) {
				if strings.Contains(text, secret) {
					t.Errorf("%q is shown in %s", secret, text)
				}
			}
			if trial.OK != (code == 200) || !strings.Contains(trial.Answer.Body, "/hooks[redacted]") || trial.Answer.Headers["X-Key"] != redacted {
				t.Errorf("got %+v", trial)
			}
			// The URL is all that --reveal adds.
			trial = tryAttempt(t, newSink(t, local()), secretWebhook(url), true)
			if text := shown(t, trial); !strings.Contains(text, "/hooks/secret-path/s3cr3t-segment-xyzzy?token=query-s3kret") ||
				strings.Contains(text, key) || strings.Contains(text, "token-s3cret") || strings.Contains(text, "tenant s3cret") {
				t.Errorf("revealed: %s", text)
			}
		})
	}
}

// TestTrialHidesAtTheCut: a secret that begins where the text is cut is hidden whole, and so is one that the answer
// breaks off in.
func TestTrialHidesAtTheCut(t *testing.T) {
	t.Parallel()
	w := webhook("")
	for n := range len(w.SignKey) + 2 {
		before := strings.Repeat("x", shownAnswer-n)
		w.URL = webhook(answering(t, ok(before+w.SignKey.Reveal()+strings.Repeat("y", 100)))).URL
		shownBody := try(t, newSink(t, local()), w).Answer.Body
		if rest := strings.Trim(shownBody, "xy"); rest != redacted && n > 0 || strings.Contains(shownBody, "wh") {
			t.Errorf("%d bytes before the cut: %q", n, rest)
		}
	}
	w.URL = webhook(answering(t, ok("x whsec-k"))).URL
	if body := try(t, newSink(t, local()), w).Answer.Body; body != "x "+redacted {
		t.Errorf("broken off: %q", body)
	}
}

// TestTrialOfEveryDialect: both keys' signatures while a key is rotated; cut where they never expire.
func TestTrialOfEveryDialect(t *testing.T) {
	t.Parallel()
	url := answering(t, ok(good))
	headerOf := map[string]string{
		"smarterbot": SignatureHeader, "smartlook": "Smartlook-Signature-256", "smarterlaunch": "X-Signature",
		"smartsurvey": "X-SmartSurvey-Signature", "standard-webhooks": "webhook-signature",
	}
	for _, name := range builtIn.Names() {
		d, _ := builtIn.Lookup(name)
		w := webhook(url)
		w.Dialect, w.SignKey = name, ""
		if !d.Signed {
			if got := try(t, newSink(t, local()), w); !got.OK || len(got.Notes) > 0 {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		keys := keysOf(name)
		w.SignKey = keys[0]
		header := headerOf[name]
		signed := func(reveal bool) (string, []string) {
			got := tryAttempt(t, newSink(t, local()), w, reveal)
			if !got.OK {
				t.Errorf("%s: %+v", name, got)
			}
			return got.Request.Headers[header], got.Notes
		}
		shown, _ := signed(false)
		whole, _ := signed(true)
		if cut, timeless := strings.HasSuffix(shown, "(cut: it does not expire)"), strings.HasPrefix(name, "smart") && name != "smarterbot"; cut != timeless || len(whole) < 32 {
			t.Errorf("%s: the signature is shown as %q, revealed as %q", name, shown, whole)
		}
		w.OldKey, w.OldKeyUntil = keys[1], time.Now().Add(time.Hour)
		if _, notes := signed(false); len(notes) != 1 || !strings.Contains(notes[0], "being rotated") ||
			strings.Contains(notes[0], "room for one") != (strings.HasPrefix(name, "smart") && name != "smarterbot") {
			t.Errorf("%s, while a key is rotated: %q", name, notes)
		}
	}
	// What is not signed lacks no key.
	w := webhook(answering(t, head(401)))
	w.Dialect, w.SignKey = "userback", ""
	if got := try(t, newSink(t, local()), w); got.Detail != detailCredentials || !strings.Contains(got.Reason, "not signed") {
		t.Errorf("got %+v", got)
	}
	w.Dialect = "of-the-future"
	if got := try(t, newSink(t, local()), w); got.Code != ReasonDialect || got.Request.Sent || got.Request.URL == "" {
		t.Errorf("got %+v", got)
	}
}

// TestTrialCalledOff: a test that its caller gave up on has no result; one whose time ran out has.
func TestTrialCalledOff(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	url := quiet(t, func(http.ResponseWriter, *http.Request) { <-stop })
	t.Cleanup(func() { close(stop) })
	h, req := newSink(t, local()), jobs.Request{Webhook: webhook(url), Body: []byte("{}")}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := h.Try(ctx, req, false); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	trial, err := h.Try(ctx, req, false)
	if err != nil || trial.OK || trial.Code != ReasonTimeout || trial.Detail != detailNoAnswer || !strings.Contains(trial.Reason, "did not answer within ") || strings.Contains(trial.Reason, "within 5s") {
		t.Errorf("got %+v %v", trial, err)
	}
}

// FuzzRedact: of whatever an endpoint writes, nothing that is shown is a control character or a secret.
func FuzzRedact(f *testing.F) {
	f.Add([]byte("Cannot POST /hooks/secret-path/s3cr3t-segment-xyzzy"), 20)
	f.Add([]byte("K3Y/OF+THE=CRM\x00\xff\u202e"), 5)
	hide := newRedactor(secretWebhook("https://crm.example.com"), false)
	f.Fuzz(func(t *testing.T, text []byte, most int) {
		got := hide.part(text, most)
		for _, c := range got {
			if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == '\u202e' {
				t.Errorf("%q is shown", c)
			}
		}
		for _, secret := range hide.secrets {
			if strings.Contains(lowered(got), secret) && !strings.Contains(redacted, secret) {
				t.Errorf("%q is shown in %q", secret, got)
			}
		}
	})
}

// TestRedirectToLogin: a redirect to where people log in is told from one to a path that only looks like it.
func TestRedirectToLogin(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		login    bool
	}{
		{"/hook", "/login", true},
		{"/hook", "/users/sign_in?return_to=%2Fhook", true},
		{"/hook", "/wp-login.php", true},
		{"/hook", "/log-in/", true},
		{"/hook", "/oauth2/authorize", true},
		{"/hook", "/app/auth", true},
		{"/hook", "/auth/realms/crm", true},
		{"/hook", "/authentication/start", true},
		{"/hook", "/authors", false},
		{"/hook", "/authority/hook", false},
		{"/hook", "/blog/in", false},
		{"/hook", "/catalog-in", false},
		{"/hook", "/login-events", false},
		{"/auth/hook", "/auth/hook/", false},
		{"/login/hook", "/login/hook/", false},
	} {
		from, err := url.Parse("https://crm.example.com" + tt.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := from.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		if detail, _ := redirectKind(from, to); (detail == detailLogin) != tt.login {
			t.Errorf("from %s to %s: %q", tt.from, tt.to, detail)
		}
	}
}
