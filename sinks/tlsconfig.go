package sinks

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

func newTLSConfig(o Options) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024), // connections are not kept for long: see idleFor
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM form", o.CAFile)
		}
	}
	if (o.ClientCertFile == "") != (o.ClientKeyFile == "") {
		return nil, errors.New("client_cert_file and client_key_file: one is set, the other is not")
	}
	if o.ClientCertFile != "" {
		pair, err := readPair(o.ClientCertFile, o.ClientKeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// readPair reads a client certificate and its key. The error names the one of the two files that is wrong.
func readPair(certFile, keyFile string) (pair tls.Certificate, err error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return pair, fmt.Errorf("client_cert_file: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return pair, fmt.Errorf("client_key_file: %w", err)
	}
	if fault := certificateFault(cert); fault != "" {
		return pair, fmt.Errorf("client_cert_file: %s %s", certFile, fault)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil { // its text tells nothing of the key
		return pair, fmt.Errorf("client_key_file: %s is not the key of %s: %w", keyFile, certFile, err)
	}
	return pair, nil
}

// certificateFault says what is wrong with a PEM file whose first certificate is to be shown to servers.
func certificateFault(text []byte) string {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "holds a broken certificate"
		}
		return ""
	}
	return "holds no certificate in PEM form"
}
