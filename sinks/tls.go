package sinks

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"
)

// tlsAlert is the Op of crypto/tls's errors for alerts that the server sent; the alert itself has no type of its own.
const tlsAlert = "remote error"

// tlsHint says what is wrong with a handshake where its error has a type.
func tlsHint(err error) string { return tlsHints[tlsFault(err)] }

// What is wrong with a handshake: jobs.Trial.Detail.
const (
	tlsPlain        = "no_tls"
	tlsName         = "wrong_name"
	tlsExpired      = "expired"
	tlsEarly        = "not_yet_valid"
	tlsSelfSigned   = "self_signed"
	tlsChain        = "incomplete_chain"
	tlsAuthority    = "unknown_authority"
	tlsBrokenOff    = "handshake_refused"
	tlsOtherInvalid = "invalid_certificate"
)

var tlsHints = map[string]string{
	tlsPlain:        "The port does not speak TLS: use the https port.",
	tlsName:         "The server's certificate is for another host name: install one for the URL's host, or write the host that it is for.",
	tlsExpired:      "The server's certificate has expired: renew it, and restart what serves it.",
	tlsEarly:        "The server's certificate is not valid yet: check the clocks of the machine that made it and of this one.",
	tlsSelfSigned:   "The server's certificate is signed by itself, so nobody vouches for it: install one of a public authority, or name it in http.ca_file.",
	tlsChain:        "The server leaves out the intermediate certificate that vouches for its own: serve the full chain (fullchain.pem); if the authority is your own, name it in http.ca_file.",
	tlsAuthority:    "The server's certificate comes from an unknown authority: if that is your own, name it in http.ca_file; if it is public, serve the full chain.",
	tlsBrokenOff:    "The server broke off the TLS handshake: it may ask for a client certificate (http.client_cert_file), or not speak TLS 1.2.",
	tlsOtherInvalid: "The server's certificate is not one that may be used for a server.",
}

// tlsFault is what is wrong with a handshake; "" where its error has no type.
func tlsFault(err error) string {
	var (
		plain     tls.RecordHeaderError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &plain):
		return tlsPlain
	case errors.As(err, &name):
		return tlsName
	case errors.As(err, &authority):
		return authorityFault(err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore) {
			return tlsEarly
		}
		return tlsExpired
	case errors.As(err, &invalid):
		return tlsOtherInvalid
	case errors.As(err, &op) && op.Op == tlsAlert:
		return tlsBrokenOff
	}
	return ""
}

// authorityFault tells the ways apart in which no chain leads to an authority that is known. A server that sends its own
// certificate alone, though that names where the one above it can be fetched, lacks the one between.
func authorityFault(err error) string {
	sent := sentCertificates(err)
	if len(sent) == 0 {
		return tlsAuthority
	}
	leaf := sent[0]
	switch {
	case bytes.Equal(leaf.RawSubject, leaf.RawIssuer):
		return tlsSelfSigned
	case len(leaf.IssuingCertificateURL) > 0 && !sentBy(sent, leaf.RawIssuer):
		return tlsChain
	}
	return tlsAuthority
}

// sentBy reports whether a certificate of this subject is among those sent.
func sentBy(sent []*x509.Certificate, subject []byte) bool {
	for _, c := range sent {
		if bytes.Equal(c.RawSubject, subject) {
			return true
		}
	}
	return false
}

// sentCertificates are those that a server sent and that were not believed, its own first.
func sentCertificates(err error) []*x509.Certificate {
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) {
		return unverified.UnverifiedCertificates
	}
	return nil
}
