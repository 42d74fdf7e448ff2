package sinks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// authority makes certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve starts a quiet server with this certificate.
func (a *authority) serve(cert tls.Certificate, change func(*httptest.Server)) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","over":"`+r.Proto+`"}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if change != nil {
		change(s)
	}
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	fine := a.issue(nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	tests := []struct {
		name   string
		url    string
		reason string
		hint   string
	}{
		{"fine", a.serve(fine, nil).URL, "", ""},
		{"HTTP/2", a.serve(fine, func(s *httptest.Server) { s.EnableHTTP2 = true }).URL, "", ""},
		{"unknown authority", a.serve(stranger.issue(nil), nil).URL, ReasonTLS, "authority"},
		{"expired", a.serve(a.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil).URL, ReasonTLS, "expired"},
		{"another name", a.serve(a.issue(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"x.test"} }), nil).URL, ReasonTLS, "another host"},
		{"TLS 1.1", a.serve(fine, func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS11 }).URL, ReasonTLS, "TLS 1.2"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), ReasonTLS, "does not speak TLS"},
		{"wants a client certificate", a.serve(fine, func(s *httptest.Server) {
			s.TLS.ClientAuth, s.TLS.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}).URL, ReasonTLS, "client certificate"},
	}
	o := local()
	o.CAFile, o.AllowHTTP = a.file, false
	h := newSink(t, o)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := push(t, h, webhook(tt.url))
			if reason(err) != tt.reason || (err == nil) != (tt.reason == "") {
				t.Fatalf("got %v, want %q", err, tt.reason)
			}
			if refusal := (*jobs.RefusedError)(nil); errors.As(err, &refusal) && !strings.Contains(refusal.Hint, tt.hint) {
				t.Errorf("the hint %q says nothing of %q", refusal.Hint, tt.hint)
			}
		})
	}
	// With TLS 1.3 the alert comes after the handshake, and the reset behind it may overtake it.
	late := a.serve(fine, func(s *httptest.Server) { s.TLS.ClientAuth = tls.RequireAnyClientCert })
	if got := reason(push(t, h, webhook(late.URL))); got != ReasonTLS && got != ReasonReset {
		t.Errorf("wants a client certificate, TLS 1.3: %q", got)
	}
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	client := a.issue(nil)
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", client.Certificate[0])
	der, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", der)
	server := a.serve(a.issue(nil), func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(a.cert)
	})
	o := local()
	o.CAFile, o.ClientCertFile, o.ClientKeyFile = a.file, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := push(t, newSink(t, o), webhook(server.URL)); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string]Options{
		"ca_file: open":             {CAFile: filepath.Join(dir, "none")},
		"no certificate in PEM":     {CAFile: filepath.Join(dir, "key.pem")},
		"the other is not":          {ClientCertFile: filepath.Join(dir, "cert.pem")},
		"client_cert_file: ":        {ClientCertFile: filepath.Join(dir, "cert.pem"), ClientKeyFile: filepath.Join(dir, "none")},
		"timeout: must be positive": {Timeout: -1},
	} {
		if _, err := New(wrong); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error that says %q", err, name)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	h := newSink(t, local())
	if err := push(t, h, webhook("http://"+listener.Addr().String())); reason(err) != ReasonConnect {
		t.Errorf("nobody listens: %v", err)
	}
	if err := push(t, h, webhook("https://"+strings.Repeat("a", 64)+".example/")); reason(err) != ReasonDNS {
		t.Errorf("no such name: %v", err)
	}
}

// TestTimeout lets a CRM be slow at every stage; each costs the timeout and not more.
func TestTimeout(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "20")
		switch r.URL.Path {
		case "/head":
		case "/body":
			_, _ = io.WriteString(w, good[:5])
			_ = http.NewResponseController(w).Flush()
		case "/bytes":
			for _, b := range []byte(good) {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		case "/error-page":
			w.WriteHeader(http.StatusBadGateway)
			_ = http.NewResponseController(w).Flush()
		}
		<-stop
	}))
	defer server.Close()
	defer close(stop)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never says anything
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	o := local()
	o.Timeout = 400 * time.Millisecond
	h := newSink(t, o)
	for url, want := range map[string]string{
		server.URL + "/head":                ReasonTimeout,
		server.URL + "/body":                ReasonTimeout,
		server.URL + "/bytes":               ReasonTimeout,
		server.URL + "/error-page":          "http_502",
		"https://" + silent.Addr().String(): ReasonTimeout,
		"http://" + silent.Addr().String():  ReasonTimeout,
	} {
		t.Run(want+" "+url[len(url)-5:], func(t *testing.T) {
			began := time.Now()
			if err := push(t, h, webhook(url)); reason(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("called off", func(t *testing.T) {
		for _, path := range []string{"/head", "/body"} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := h.Push(ctx, jobs.Request{Webhook: webhook(server.URL + path), ID: uuid.New(), Body: []byte("{}")})
			if err != context.DeadlineExceeded {
				t.Errorf("%s: got %v, want the context's error", path, err)
			}
			cancel()
		}
	})
}

// TestConnectionsAreKept: neither acknowledgements nor refusals cost a connection each.
func TestConnectionsAreKept(t *testing.T) {
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			http.Error(w, strings.Repeat("not found ", 3000), http.StatusNotFound)
		case "/html":
			_, _ = io.WriteString(w, "<html>")
		default:
			_, _ = io.WriteString(w, good)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	h := newSink(t, local())
	const at = 16
	var group sync.WaitGroup
	for range at {
		group.Go(func() {
			for range 20 {
				for _, path := range []string{"/", "/404", "/html"} {
					_ = push(t, h, webhook(server.URL+path))
				}
			}
		})
	}
	group.Wait()
	if n := opened.Load(); n > 2*at {
		t.Errorf("%d connections were opened for %d at a time", n, at)
	}
}

// TestRedirectsAreNotFollowed: the place that a redirect names is never asked, whatever it is.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	if err := push(t, newSink(t, local()), webhook(server.URL)); reason(err) != ReasonRedirect {
		t.Error(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests came", n)
	}
}

func TestCheckHeaders(t *testing.T) {
	good := map[string]jobs.Secret{"Authorization": "Bearer x", "X-Tenant": "a\tb", "host": "crm", "user-agent": "Acme", "Content-Type": "application/json; charset=utf-8"}
	if err := CheckHeaders("smarterbot", good); err != nil {
		t.Error(err)
	}
	bad := map[string]jobs.Secret{
		"x-webhook-signature": "s3cret", "X-Webhook-Id": "s3cret", "Content-Length": "1", "transfer-encoding": "chunked",
		"A B": "s3cret", "": "s3cret", "X-Line": "s3cret\r\nX: y", "x-twice": "1", "X-Twice": "2",
	}
	err := CheckHeaders("smarterbot", bad)
	if err == nil {
		t.Fatal("taken")
	}
	for _, says := range []string{"X-Webhook-Signature is set", "X-Webhook-Id is set", "Content-Length is set", "Transfer-Encoding is set", `"A B" is no`, `"" is no`, "X-Line has a line break", "X-Twice is there twice"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not said", says)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Error("a value is shown")
	}
	w := webhook("https://crm.example.com/")
	w.Headers = map[string]jobs.Secret{"X-Webhook-Signature": "x"}
	if err := push(t, newSink(t, local()), w); reason(err) != ReasonHeader {
		t.Errorf("push: %v", err)
	}
}

// TestChangedWebhook: a webhook whose URL, key or header changes is pushed to as it is now.
func TestChangedWebhook(t *testing.T) {
	h := newSink(t, Options{})
	w := webhook("https://a.example.com/")
	now := time.Now()
	seen := map[string]bool{}
	for _, change := range []func(){
		func() {},
		func() { w.URL = "https://b.example.com/" },
		func() { w.SignKey = "other" },
		func() { w.Headers = map[string]jobs.Secret{"X": "1"} },
		func() { w.Headers = map[string]jobs.Secret{"X": "2"} },
	} {
		change()
		r, err := h.Request(w, uuid.Nil, []byte("{}"), now)
		if err != nil {
			t.Fatal(err)
		}
		seen[r.URL.Host+r.Header.Get("X")+r.Header.Get(SignatureHeader)] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different requests, want 5", len(seen))
	}
}
