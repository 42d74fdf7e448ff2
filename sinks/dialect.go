package sinks

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// IDHeader is the delivery's id, the same in every attempt, in requests of every dialect.
const IDHeader = "X-Webhook-Id"

// DefaultDialect is the dialect of webhooks that name none.
const DefaultDialect = "smarterbot"

// A Dialect is a vendor's wire format: what a record's body and headers look like, how it is signed, what answer
// acknowledges it, and when it is tried again. It is made of a Definition.
type Dialect struct {
	Name        string
	Signed      bool            // its requests are signed with the webhook's key
	KeyOptional bool            // a webhook may have no key, and is not signed then: none is generated
	Fields      []string        // names a stream's fields may have to be sent; nil: any
	Ack         []string        // Webhook.Ack of webhooks that name none
	RetryAt     []time.Duration // offsets from the first failure of a round
	OneRound    bool            // once a round is spent the record is not tried again: it is dead, exhausted

	body      envelope
	names     naming
	headers   http.Header // content type and further static ones; each value is shared by all requests
	signature Signature
	key       KeyRule
	public    []string // top-level members of a body that are no personal data, and need no masking
}

// NeedsKey reports whether every request is signed, so that a webhook without a key gets one.
func (d *Dialect) NeedsKey() bool { return d.Signed && !d.KeyOptional }

// SignatureHeaders are the headers that sign a request, as the vendor spells them.
func (d *Dialect) SignatureHeaders() []string { return d.signature.headers() }

// Example is an answer that acknowledges a record.
func (d *Dialect) Example() string {
	r := ruleOf(d.Ack)
	return r.whole()
}

// Labels are the names that lead to what a body says of itself: the outermost member that says what came, "" for none,
// and the one that says whose it is, perhaps one within another.
func (d *Dialect) Labels() (typ string, chatbot []string) {
	for _, m := range d.body.members {
		switch {
		case m.Is == IsEvent, m.Is == IsType && typ == "":
			typ = m.Name
		case m.Is == IsChatbot:
			chatbot = []string{m.Name}
		case m.Is == IsObject && m.Chatbot != "" && chatbot == nil:
			chatbot = []string{m.Name, m.Chatbot}
		}
	}
	return typ, chatbot
}

// reserves reports whether a header, in canonical form, is set by the dialect itself.
func (d *Dialect) reserves(header string) bool {
	if header == IDHeader || header != "Content-Type" && d.headers[header] != nil {
		return true
	}
	return slices.ContainsFunc(d.signature.headers(), func(own string) bool {
		return header == textproto.CanonicalMIMEHeaderKey(own)
	})
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
