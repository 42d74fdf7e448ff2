package sinks

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// IDHeader is the delivery's id, the same in every attempt, in requests of every dialect.
const IDHeader = "X-Webhook-Id"

// A Dialect is a vendor's wire format: what a record's body and headers look like, how it is signed, what answer
// acknowledges it, and when it is tried again.
type Dialect struct {
	Name        string
	Signed      bool            // its requests are signed with the webhook's key
	KeyOptional bool            // a webhook may have no key, and is not signed then: none is generated
	Fields      []string        // names a stream's fields may have to be sent; nil: any
	Ack         []string        // Webhook.Ack of webhooks that name none
	RetryAt     []time.Duration // offsets from the first failure of a round
	OneRound    bool            // once a round is spent the record is not tried again: it is dead, exhausted

	contentType string
	userAgent   string   // "": leadrelay/VERSION
	signature   string   // the header that says who sent it, as the vendor spells it; "" where none does
	reserved    []string // further headers, canonical, that a webhook's static headers may not replace
	public      []string // top-level members of a body that are no personal data, and need no masking
	names       naming

	// encode appends the body of rec. It must be what JSON.stringify(JSON.parse(body)) gives: a vendor's verifier
	// signs that, and not the bytes that came.
	encode func(dst []byte, w *jobs.Webhook, rec *jobs.Record, created time.Time) ([]byte, error)
	// sign sets the headers that sign one attempt; it is not called without a key.
	sign func(h http.Header, s signing)
	// verify is sign's counterpart at a receiver; its errors wrap ErrSignature.
	verify func(h http.Header, body []byte, macs []*mac, now time.Time, tolerance time.Duration) error
	// key gives the bytes of a key as it is written; nil: its text is the key.
	key func(jobs.Secret) ([]byte, error)
	// newKey writes random bytes as a key that receivers can enter; nil: in hex.
	newKey func(random []byte) jobs.Secret
}

var dialects = func() map[string]*Dialect {
	all := map[string]*Dialect{}
	for _, d := range []*Dialect{&smarterbot, &smartlook, &smarterlaunch, &smartsurvey, &userback, &standardWebhooks} {
		all[d.Name] = d
	}
	return all
}()

// DefaultDialect is the dialect of webhooks that name none.
const DefaultDialect = "smarterbot"

// Dialects returns the names of all dialects, sorted.
func Dialects() []string { return slices.Sorted(maps.Keys(dialects)) }

// LookupDialect returns the dialect named name; it must not be changed.
func LookupDialect(name string) (*Dialect, bool) {
	d, ok := dialects[name]
	return d, ok
}

// NeedsKey reports whether every request is signed, so that a webhook without a key gets one.
func (d *Dialect) NeedsKey() bool { return d.Signed && !d.KeyOptional }

// reserves reports whether a header, in canonical form, is set by the dialect itself.
func (d *Dialect) reserves(header string) bool {
	return header == IDHeader || header == textproto.CanonicalMIMEHeaderKey(d.signature) || slices.Contains(d.reserved, header)
}

// headerValues returns a header's values whatever case its name has: requests that we make spell names as the vendors
// do, and net/http's server spells them its own way.
func headerValues(h http.Header, name string) []string {
	if values, ok := h[textproto.CanonicalMIMEHeaderKey(name)]; ok {
		return values
	}
	for key, values := range h {
		if strings.EqualFold(key, name) {
			return values
		}
	}
	return nil
}
