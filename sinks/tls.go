package sinks

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// tlsAlert is the Op of crypto/tls's errors for alerts that the server sent; the alert itself has no type of its own.
const tlsAlert = "remote error"

// tlsHint says what is wrong with a handshake where its error has a type.
func tlsHint(err error) string {
	var (
		plain     tls.RecordHeaderError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &plain):
		return "The port does not speak TLS: use the https port."
	case errors.As(err, &name):
		return "The server's certificate is for another host name."
	case errors.As(err, &authority):
		return "The server's certificate comes from an unknown authority, or its chain lacks the intermediate certificate."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "The server's certificate has expired, or is not valid yet."
	case errors.As(err, &op) && op.Op == tlsAlert:
		return "The server broke off the TLS handshake: it may ask for a client certificate, or not speak TLS 1.2."
	}
	return ""
}
