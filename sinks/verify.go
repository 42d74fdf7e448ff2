package sinks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Why a request does not verify. All of them wrap ErrSignature.
var (
	ErrSignature          = errors.New("the signature does not verify")
	ErrSignatureMissing   = fmt.Errorf("%w: the request has no signature header", ErrSignature)
	ErrSignatureMalformed = fmt.Errorf("%w: what should sign it has another form", ErrSignature)
	ErrSignatureMismatch  = fmt.Errorf("%w: another key signed it, or the body is not the one that was signed", ErrSignature)
	ErrSignatureTime      = fmt.Errorf("%w: it is right, but its time is too far from now", ErrSignature)
)

// malformed says what form a dialect's header has instead.
func malformed(form string) error { return &malformedError{form} }

type malformedError struct{ form string }

func (e *malformedError) Error() string {
	return ErrSignature.Error() + ": the header is not " + e.form
}
func (e *malformedError) Unwrap() error { return ErrSignatureMalformed }

var errTimedHex = malformed("t=UNIXSECONDS,v1=HEX")

// What a signature header may hold at most: far more than any rotation of keys needs, and little to compare.
const (
	maxSignatureHeader = 4 << 10
	maxSignatures      = 16
)

// A Verifier checks requests of one dialect. It is safe for concurrent use.
type Verifier struct {
	dialect   *Dialect
	macs      []*mac
	tolerance time.Duration
}

// NewVerifier makes a Verifier that accepts requests signed with any of keys, no longer than tolerance ago or ahead;
// with a tolerance of 0 the time is not looked at, so that a request can be replayed for ever. That is so anyway in the
// dialects that sign no time: smartlook, smarterlaunch, smartsurvey, and own ones that sign in hex or base64.
func (r *Registry) NewVerifier(dialect string, keys []jobs.Secret, tolerance time.Duration) (*Verifier, error) {
	d, ok := r.Lookup(dialect)
	if !ok {
		return nil, fmt.Errorf("no dialect is called %q", dialect)
	}
	if len(keys) == 0 || !d.Signed {
		return nil, errors.New("a verifier needs a signed dialect and a sign key")
	}
	macs, err := d.macs(keys)
	if err != nil {
		return nil, err
	}
	return &Verifier{dialect: d, macs: macs, tolerance: tolerance}, nil
}

// Verify checks a request's headers against its body as it came over the wire. Errors wrap ErrSignature.
func (v *Verifier) Verify(h http.Header, body []byte, now time.Time) error {
	return v.dialect.signature.verify(h, body, v.macs, now, v.tolerance)
}

// verify is sign's counterpart at a receiver; its errors wrap ErrSignature.
func (f Signature) verify(h http.Header, body []byte, macs []*mac, now time.Time, tolerance time.Duration) error {
	switch f.Form {
	case Timed:
		return verifyTimed(f.Header, h, body, macs, now, tolerance)
	case StandardWebhooks:
		return verifyStandard(h, body, macs, now, tolerance)
	}
	return f.verifyOfBody(h, body, macs)
}

// Verify checks one request: see NewVerifier and Verifier.Verify.
func (r *Registry) Verify(dialect string, h http.Header, body []byte, keys []jobs.Secret, now time.Time, tolerance time.Duration) error {
	v, err := r.NewVerifier(dialect, keys, tolerance)
	if err != nil {
		return err
	}
	return v.Verify(h, body, now)
}

// verifyTimed accepts any of the header's v1, in constant time: while a key is rotated there are two. The time
// is judged last, so that ErrSignatureTime means that nothing else is wrong.
func verifyTimed(header string, h http.Header, body []byte, macs []*mac, now time.Time, tolerance time.Duration) error {
	values := headerValues(h, header)
	switch len(values) {
	case 0:
		return ErrSignatureMissing
	case 1:
	default:
		return errTimedHex
	}
	stamp, signatures, err := parseSignature(values[0])
	if err != nil {
		return err
	}
	matched := false
	for _, m := range macs {
		want := m.sum([]byte(stamp), dot, body)
		for i := range signatures {
			if hmac.Equal(want[:], signatures[i][:]) {
				matched = true
			}
		}
	}
	return judged(matched, stamp, now, tolerance)
}

// judged is the verdict on a request whose signature did or did not match and that was signed at stamp.
func judged(matched bool, stamp string, now time.Time, tolerance time.Duration) error {
	if !matched {
		return ErrSignatureMismatch
	}
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ErrSignatureMalformed
	}
	if age := now.Sub(time.Unix(at, 0)); tolerance > 0 && (age > tolerance || age < -tolerance) {
		return ErrSignatureTime
	}
	return nil
}

// verifyOfBody checks a header that holds one signature, of the body alone, in constant time.
func (f Signature) verifyOfBody(h http.Header, body []byte, macs []*mac) error {
	values := headerValues(h, f.Header)
	if len(values) == 0 {
		return ErrSignatureMissing
	}
	text, prefixed := strings.CutPrefix(values[0], f.Prefix)
	form, read := "HEX", hex.DecodeString
	if f.Form == Base64 {
		form, read = "BASE64", base64.StdEncoding.Strict().DecodeString
	}
	var sum []byte
	if len(text) <= hex.EncodedLen(sha256.Size) && !strings.ContainsAny(text, "\r\n") { // which base64 would step over
		if read, err := read(text); err == nil {
			sum = read
		}
	}
	if len(values) > 1 || !prefixed || len(sum) != sha256.Size {
		return malformed(f.Header + ": " + f.Prefix + form)
	}
	matched := false
	for _, m := range macs {
		if want := m.sum(body); hmac.Equal(want[:], sum) {
			matched = true
		}
	}
	if !matched {
		return ErrSignatureMismatch
	}
	return nil
}

// parseSignature reads t and every v1 of a signature header. Parts of other names are left for later versions; a t
// that is there twice, or is no plain number, is refused, because its text is what was signed.
func parseSignature(header string) (stamp string, signatures [][sha256.Size]byte, err error) {
	if len(header) > maxSignatureHeader {
		return "", nil, errTimedHex
	}
	for part := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		switch {
		case !ok:
			return "", nil, errTimedHex
		case name == "t":
			if stamp != "" || !isUnixSeconds(value) {
				return "", nil, errTimedHex
			}
			stamp = value
		case name == "v1":
			var sum [sha256.Size]byte
			if len(signatures) == maxSignatures || len(value) != hex.EncodedLen(len(sum)) {
				return "", nil, errTimedHex
			}
			if _, err := hex.Decode(sum[:], []byte(value)); err != nil {
				return "", nil, errTimedHex
			}
			signatures = append(signatures, sum)
		}
	}
	if stamp == "" || len(signatures) == 0 {
		return "", nil, errTimedHex
	}
	return stamp, signatures, nil
}

// isUnixSeconds reports whether s is a time that Sign could have written: ASCII digits, not more than a few.
func isUnixSeconds(s string) bool {
	if s == "" || len(s) > 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
