package sinks

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Dialect is a vendor's wire format: what a record's body and headers look like, how it is signed, what answer
// acknowledges it, and when it is tried again.
type Dialect struct {
	Name    string
	Signed  bool            // its requests are signed: a webhook needs a sign key
	Fields  []string        // names a stream's fields may have to be sent; nil: any
	Ack     []string        // Webhook.Ack of webhooks that name none
	RetryAt []time.Duration // offsets from the first failure of a round

	contentType string
	reserved    []string // headers, canonical, that a webhook's static headers may not replace
	tests       []string // accepted words that CRMs give to test requests
	public      []string // top-level members of a body that are no personal data, and need no masking

	// encode appends the body of rec. It must be what JSON.stringify(JSON.parse(body)) gives: a vendor's verifier
	// signs that, and not the bytes that came.
	encode func(dst []byte, w *jobs.Webhook, rec *jobs.Record, created time.Time) ([]byte, error)
	// sign sets the headers that identify and sign one attempt.
	sign func(h http.Header, s signing)
	// verify is sign's counterpart at a receiver; its errors wrap ErrSignature.
	verify func(h http.Header, body []byte, macs []*mac, now time.Time, tolerance time.Duration) error
}

// signing is what a signature may depend on.
type signing struct {
	id   string
	time time.Time
	body []byte
	mac  *mac // of the webhook's sign key
}

var dialects = map[string]*Dialect{
	smarterbot.Name: &smarterbot,
}

// DefaultDialect is the dialect of webhooks that name none.
const DefaultDialect = "smarterbot"

// Dialects returns the names of all dialects, sorted.
func Dialects() []string { return slices.Sorted(maps.Keys(dialects)) }

// LookupDialect returns the dialect named name; it must not be changed.
func LookupDialect(name string) (*Dialect, bool) {
	d, ok := dialects[name]
	return d, ok
}
