package sinks

import (
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
	"testing"
	"time"

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
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, good)
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

// http2Only acknowledges over HTTP/2, and says no otherwise.
var http2Only = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		w.WriteHeader(http.StatusHTTPVersionNotSupported)
	}
	_, _ = io.WriteString(w, good)
})

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
		{"HTTP/2", a.serve(fine, func(s *httptest.Server) { s.EnableHTTP2, s.Config.Handler = true, http2Only }).URL, "", ""},
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
