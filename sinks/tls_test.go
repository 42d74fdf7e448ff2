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
	"sync/atomic"
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
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA", OrganizationalUnit: []string{rand.Text()}}, IsCA: true, BasicConstraintsValid: true,
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
		{"TLS 1.0", a.serve(fine, func(s *httptest.Server) {
			s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
		}).URL, ReasonTLS, "TLS 1.2"},
		{"TLS 1.2", a.serve(fine, func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS12 }).URL, "", ""},
		{"not valid yet", a.serve(a.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), nil).URL, ReasonTLS, "not valid yet"},
		{"self-signed", a.serve(selfSigned(t), nil).URL, ReasonTLS, "signed by itself"},
		{"for clients", a.serve(a.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), nil).URL, ReasonTLS, "may be used for a server"},
		{"TLS 1.1", a.serve(fine, func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }).URL, ReasonTLS, "TLS 1.2"},
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

// writePair writes a certificate and its key into a folder.
func writePair(t *testing.T, dir string, pair tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", pair.Certificate[0])
	der, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "EC PRIVATE KEY", der)
	return certFile, keyFile
}

// TestClientCertificate: it is shown to servers that ask for one of its authority, or of any; and to no others.
func TestClientCertificate(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	var shown atomic.Value
	serve := func(mode tls.ClientAuthType, authorities ...*authority) string {
		return a.serve(a.issue(nil), func(s *httptest.Server) {
			s.TLS.ClientAuth = mode
			if len(authorities) > 0 {
				s.TLS.ClientCAs = x509.NewCertPool()
			}
			for _, a := range authorities {
				s.TLS.ClientCAs.AddCert(a.cert)
			}
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				shown.Store(len(r.TLS.PeerCertificates))
				_, _ = io.WriteString(w, good)
			})
		}).URL
	}
	o := local()
	o.CAFile = a.file
	o.ClientCertFile, o.ClientKeyFile = writePair(t, t.TempDir(), a.issue(func(c *x509.Certificate) { c.Subject.CommonName = "leadrelay" }))
	h := newSink(t, o)
	for name, tt := range map[string]struct {
		url   string
		shown int
	}{
		"one that wants it":              {serve(tls.RequireAndVerifyClientCert, a), 1},
		"one that asks for any":          {serve(tls.RequestClientCert), 1},
		"one that asks for another's":    {serve(tls.RequestClientCert, other), 0},
		"one that does not ask":          {serve(tls.NoClientCert), 0},
		"one that asks for one or other": {serve(tls.RequireAndVerifyClientCert, other, a), 1},
	} {
		if err := push(t, h, webhook(tt.url)); err != nil || shown.Load() != tt.shown {
			t.Errorf("%s: %v, %v certificates were shown", name, err, shown.Load())
		}
	}
}

// TestFiles: what is wrong with a file is said of the key that names it, in one line.
func TestFiles(t *testing.T) {
	a := newAuthority(t)
	dir, otherDir := t.TempDir(), t.TempDir()
	cert, key := writePair(t, dir, a.issue(nil))
	_, otherKey := writePair(t, otherDir, a.issue(nil))
	none, folder, text, broken := filepath.Join(dir, "none"), dir, filepath.Join(dir, "text"), filepath.Join(dir, "broken.pem")
	if err := os.WriteFile(text, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	writePEM(t, broken, "CERTIFICATE", []byte("s3cret"))
	for says, wrong := range map[string]Options{
		"ca_file: open " + none + ": no such file":                        {CAFile: none},
		"ca_file: read " + folder + ": is a directory":                    {CAFile: folder},
		"ca_file: " + key + " holds no certificate in PEM form":           {CAFile: key},
		"ca_file: " + broken + " holds no certificate in PEM form":        {CAFile: broken},
		"one is set, the other is not":                                    {ClientCertFile: cert},
		"client_cert_file: open " + none + ": no such file":               {ClientCertFile: none, ClientKeyFile: key},
		"client_cert_file: " + text + " holds no certificate in PEM form": {ClientCertFile: text, ClientKeyFile: key},
		"client_cert_file: " + key + " holds no certificate in PEM form":  {ClientCertFile: key, ClientKeyFile: cert},
		"client_cert_file: " + broken + " holds a broken certificate":     {ClientCertFile: broken, ClientKeyFile: key},
		"client_key_file: open " + none + ": no such file":                {ClientCertFile: cert, ClientKeyFile: none},
		"client_key_file: " + text + " is not the key of " + cert:         {ClientCertFile: cert, ClientKeyFile: text},
		"client_key_file: " + cert + " is not the key of " + cert:         {ClientCertFile: cert, ClientKeyFile: cert},
		"client_key_file: " + otherKey + " is not the key of " + cert:     {ClientCertFile: cert, ClientKeyFile: otherKey},
		"timeout: must be positive":                                       {Timeout: -1},
	} {
		_, err := New(wrong)
		if err == nil || !strings.Contains(err.Error(), says) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
	}
}
