package sinks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// signing is what a signature may depend on.
type signing struct {
	id   string
	time time.Time
	body []byte
	macs []*mac // the new key's and, while a key is rotated, the old one's, in the order of this attempt
}

// last is the mac of a header that has room for one signature. Receivers that read several keep the last, so this is
// who verifies an attempt everywhere: the old key's receivers the first, the new key's the retry.
func (s *signing) last() *mac { return s.macs[len(s.macs)-1] }

// inOrder puts the macs of a webhook (new key, old key) in the order that an attempt signs with: the old one last, and
// swapped on every second attempt, so that receivers with either key verify one of two.
func inOrder(macs []*mac, attempt int) []*mac {
	if len(macs) < 2 || attempt <= 0 || attempt%2 == 1 {
		return macs
	}
	return []*mac{macs[1], macs[0]}
}

// Sign returns the value of X-Webhook-Signature: t=UNIXSECONDS,v1=HEX, where HEX is the lower-case HMAC-SHA256, under
// the sign key's bytes, of t, a dot and the body.
func Sign(key jobs.Secret, t time.Time, body []byte) string {
	return signature(t, body, newMAC([]byte(key.Reveal())))
}

// SignHeaders returns the headers that identify and sign an attempt at time t: with one key, or with the new one and
// the old one while a key is rotated. attempt is 1 for the first. Errors name what is wrong with a key and never show
// it.
func (r *Registry) SignHeaders(dialect string, keys []jobs.Secret, id uuid.UUID, t time.Time, body []byte, attempt int) (http.Header, error) {
	d, ok := r.Lookup(dialect)
	if !ok {
		return nil, fmt.Errorf("no dialect is called %q", dialect)
	}
	macs, err := d.macs(keys)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	d.sign(h, signing{id: id.String(), time: t, body: body, macs: inOrder(macs, attempt)})
	return h, nil
}

// sign sets what identifies and signs one attempt.
func (d *Dialect) sign(h http.Header, s signing) {
	h[IDHeader] = []string{s.id}
	if len(s.macs) > 0 {
		d.signature.sign(h, s)
	}
}

// headers are those that sign a request.
func (f Signature) headers() []string {
	switch f.Form {
	case Unsigned:
		return nil
	case StandardWebhooks:
		return []string{standardID, standardTime, standardSignature}
	}
	return []string{f.Header}
}

// sign sets the headers that sign one attempt. In the forms that say nothing of the time, who has a request can send it
// again for ever.
func (f Signature) sign(h http.Header, s signing) {
	switch f.Form {
	case Hex:
		sum := s.last().sum(s.body)
		h[f.Header] = []string{f.Prefix + hex.EncodeToString(sum[:])}
	case Base64:
		sum := s.last().sum(s.body)
		h[f.Header] = []string{f.Prefix + base64.StdEncoding.EncodeToString(sum[:])}
	case Timed:
		h[f.Header] = []string{signature(s.time, s.body, s.macs...)}
	case StandardWebhooks:
		signStandard(h, s)
	}
}

func signature(t time.Time, body []byte, macs ...*mac) string {
	var room [256]byte
	out := append(room[:0], "t="...)
	out = strconv.AppendInt(out, t.Unix(), 10)
	stamp := out[len("t="):]
	for _, m := range macs {
		sum := m.sum(stamp, dot, body)
		out = append(out, ",v1="...)
		out = hex.AppendEncode(out, sum[:])
	}
	return string(out)
}

var dot = []byte{'.'}

// A mac is HMAC-SHA256 under one key. It keeps keyed states: keying anew for every request costs more than the
// digest of a small body.
type mac struct{ states sync.Pool }

func newMAC(key []byte) *mac {
	m := new(mac)
	m.states.New = func() any { return hmac.New(sha256.New, key) }
	return m
}

func (m *mac) sum(parts ...[]byte) (sum [sha256.Size]byte) {
	h := m.states.Get().(hash.Hash)
	h.Reset()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	m.states.Put(h)
	return sum
}
