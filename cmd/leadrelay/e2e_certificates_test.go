package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
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
	"syscall"
	"testing"
	"time"
)

// selfSigned makes a certificate that vouches for itself, for servers at 127.0.0.1 and for clients.
func selfSigned(t testing.TB, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "crm"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// keep writes a certificate, its key, or both, into files of the site's folder.
func (s *site) keep(c tls.Certificate, certFile, keyFile string) {
	s.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if file == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(s.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestRenewedCertificate: the client certificate is read again when the daemon reloads. A pair that does not fit is
// refused with the key that names the file, and the old one goes on.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	var shown atomic.Int64 // the serial number of the last client certificate
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(r.TLS.PeerCertificates[0].SerialNumber.Int64())
		_, _ = io.WriteString(w, `{"status":"success"}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	own := selfSigned(t, 1)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	app := newApplication(t, "sqlite")
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
immediate: true
http: {allow_cidrs: [127.0.0.1/32], ca_file: ca.pem, client_cert_file: cert.pem, client_key_file: key.pem}
webhooks: [{id: w, chatbot: a, url: %q, retry_at: []}]
`, app.source, server.URL))
	s.keep(own, "ca.pem", "")
	s.keep(selfSigned(t, 10), "cert.pem", "key.pem")
	p := s.serve()
	arrives := func(serial int64) {
		t.Helper()
		shown.Store(0)
		app.insert("a")
		s.soon(func() bool { return shown.Load() != 0 }, "the record is at the CRM")
		if got := shown.Load(); got != serial {
			t.Errorf("certificate %d was shown, want %d", got, serial)
		}
	}
	arrives(10)
	s.keep(selfSigned(t, 20), "cert.pem", "key.pem")
	p.signal(syscall.SIGHUP)
	p.says("the configuration was read again")
	arrives(20)

	s.keep(selfSigned(t, 30), "", "key.pem")
	const fault = "http.client_key_file: "
	p.signal(syscall.SIGHUP)
	p.says("the new configuration was refused, the old one goes on")
	if text := p.errs.String(); !strings.Contains(text, fault) || !strings.Contains(text, "key.pem is not the key of ") {
		t.Errorf("it said\n%s", text)
	}
	arrives(20)
	if _, stderr := s.run(2, "run-now"); !strings.Contains(stderr, "config.yaml: "+fault) {
		t.Errorf("run-now said %q", stderr)
	}
	if stdout, _ := s.run(1, "check"); !strings.Contains(stdout, "config.yaml: "+fault) {
		t.Errorf("check said %q", stdout)
	}
	p.stop()
}
