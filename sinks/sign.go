package sinks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Sign returns the value of X-Webhook-Signature: t=UNIXSECONDS,v1=HEX, where HEX is the lower-case HMAC-SHA256, under
// the sign key's bytes, of t, a dot and the body.
func Sign(key jobs.Secret, t time.Time, body []byte) string { return signature(newMAC(key), t, body) }

func signature(m *mac, t time.Time, body []byte) string {
	var room [128]byte
	out := append(room[:0], "t="...)
	out = strconv.AppendInt(out, t.Unix(), 10)
	stamp := out[len("t="):]
	sum := m.sum(stamp, dot, body)
	out = append(out, ",v1="...)
	return string(hex.AppendEncode(out, sum[:]))
}

var dot = []byte{'.'}

// A mac is HMAC-SHA256 under one key. It keeps keyed states: keying anew for every request costs more than the
// digest of a small body.
type mac struct{ states sync.Pool }

func newMAC(key jobs.Secret) *mac {
	m := new(mac)
	m.states.New = func() any { return hmac.New(sha256.New, []byte(key.Reveal())) }
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
