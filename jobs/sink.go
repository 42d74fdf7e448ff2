package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ErrEncode says that a record cannot be encoded for a webhook, now or ever: it is dead, rejected. Errors that wrap it
// name the field and never its value.
var ErrEncode = errors.New("record cannot be encoded")

// MaxBody is how large a body may be where the configuration does not say, in bytes.
const MaxBody = 5 << 20

// A TooLargeError says that a record is larger than what is sent. It is an ErrEncode. Unlike others, it tells nothing of
// the records beside this one.
type TooLargeError struct {
	What        string // "its body takes"
	Bytes, Most int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%v: %s %d bytes, more than push.max_body, %s", ErrEncode, e.What, e.Bytes, SpellSize(e.Most))
}

func (e *TooLargeError) Unwrap() error { return ErrEncode }

// A Request is one attempt to push one record.
type Request struct {
	Webhook *Webhook
	ID      uuid.UUID // X-Webhook-Id
	Body    []byte
	Attempt int // 1 for the delivery's first
}

// An Answer is a CRM's acknowledgement.
type Answer struct {
	Status int    // HTTP status
	Word   string // the accepted word
	Test   bool   // the word that CRMs give to test requests
}

// A Fault says what a failed attempt tells of the endpoint, beyond its one record.
type Fault string

const (
	FaultRecord    Fault = ""          // the record was refused; others may do better
	FaultDown      Fault = "down"      // whatever had been sent would have failed: connect, TLS, timeout, 5xx, 429
	FaultUnmatched Fault = "unmatched" // a 2xx answer that acknowledges nothing
	FaultGone      Fault = "gone"      // 410: the endpoint asks for no more
)

// A RefusedError says that an attempt was no delivery, and why.
type RefusedError struct {
	Status int    // HTTP status; 0 where no answer came
	Reason string // a code: ack_mismatch, not_json, timeout, tls, http_413 …
	Word   string // the answer's status word, the record's own values masked
	Hint   string // a sentence for people; never text from the answer
	Fault  Fault
	// RetryAfter is how long the endpoint asks to be left alone (429 and 503); 0: it does not.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string { return e.Reason }

// A Sink writes records to CRMs. All methods are safe for concurrent use.
type Sink interface {
	// Encode gives the body that w's dialect makes of rec; created stands in where the record has no creation time.
	// An error wraps ErrEncode.
	Encode(w *Webhook, rec *Record, created time.Time) ([]byte, error)
	// Push signs, posts and judges the answer. The error is a *RefusedError, or ctx's where the push was called off.
	Push(ctx context.Context, req Request) (Answer, error)
	// Event is what a dialect calls what a record of this type and action tells, such as note.updated; "" where it has
	// no such names. told is false where a body of the dialect cannot say that a record was changed in this way.
	Event(dialect, typ, action string) (event string, told bool)
	// OneRound reports whether a dialect allows no further round: a record whose round is spent is dead, Exhausted.
	OneRound(dialect string) bool
}
