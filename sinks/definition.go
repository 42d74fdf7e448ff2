package sinks

import "time"

// A Definition is a dialect as data: what the built-in ones are made of, and those that an operator defines. A part that
// is left out is that of the dialect it extends, or what its comment says.
type Definition struct {
	Name    string
	Extends string // a built-in dialect; "": none

	Body  []Member // in their order; needed where the dialect extends none
	Time  TimeForm // of members that are times, and of Times; "": Milliseconds
	Times []string // last names of fields that are times: their text is rewritten where it can be read as one

	Names Names

	ContentType string            // "": application/json
	UserAgent   string            // "": leadrelay/VERSION
	Headers     map[string]string // further static ones, which a webhook's own cannot replace

	Signature Signature
	Key       KeyRule

	Ack      []string        // as jobs.Webhook.Ack, of webhooks that name none; nil: any 2xx
	RetryAt  []time.Duration // offsets from the first failure of a round; nil: 1 and 3 minutes
	OneRound *bool           // once a round is spent the record is not tried again: it is dead, exhausted; nil: it is
}

// A Member of a body.
type Member struct {
	Name string // Spread: the members of data stand where this one does
	Is   MemberKind
	// Field is the stream's field that fills it, of an object what the names of its fields begin with, before a dot; "":
	// Name.
	Field   string
	Const   any      // string, int64, float64 or bool
	Always  []string // of an object: members that it has even where the stream gives none of the name; null then
	Chatbot string   // of an object: the one of Always in whose place the chatbot stands
}

// Spread as a member's name says that it has none: what it holds stands in the object around it.
const Spread = "*"

// A MemberKind says what a member holds.
type MemberKind string

const (
	IsEvent   MemberKind = "event"   // what happened: note.created
	IsType    MemberKind = "type"    // the type's name: note
	IsAction  MemberKind = "action"  // the verb: created
	IsTime    MemberKind = "time"    // of the event: the stream's field of this name, or when the record was created or changed
	IsCreated MemberKind = "created" // when the record was created
	IsChatbot MemberKind = "chatbot"
	IsData    MemberKind = "data"    // an object of all fields that no other member takes
	IsField   MemberKind = "field"   // one field as it is; null where there is none
	IsCopy    MemberKind = "copy"    // the same, and it stands in data too
	IsText    MemberKind = "text"    // one field as a text; "" where there is none
	IsInteger MemberKind = "integer" // one field as a whole number; 0 where there is none
	IsObject  MemberKind = "object"  // of the fields whose names begin with Field and a dot
	IsConst   MemberKind = "const"
)

// MemberKinds are all of them.
var MemberKinds = []MemberKind{
	IsEvent, IsType, IsAction, IsTime, IsCreated, IsChatbot, IsData, IsField, IsCopy, IsText, IsInteger, IsObject, IsConst,
}

// A TimeForm is how a dialect writes times.
type TimeForm string

const (
	Milliseconds     TimeForm = "milliseconds" // 2006-01-02T15:04:05.000Z, as JavaScript's toISOString
	Microseconds     TimeForm = "microseconds" // 2006-01-02T15:04:05.000000Z
	Seconds          TimeForm = "seconds"      // 2006-01-02T15:04:05Z
	UnixSeconds      TimeForm = "unix"         // an integer
	UnixMilliseconds TimeForm = "unix-ms"      // an integer
)

var timeForms = []TimeForm{Milliseconds, Microseconds, Seconds, UnixSeconds, UnixMilliseconds}

// Names say what a dialect calls the things that happen. A stream's type is the operator's own word, such as feedback,
// or word and verb with a dot between, such as feedback.voted: then it says what happens, too.
type Names struct {
	Types   map[string]string   // the page's word for a type, by that type in whatever case; others stand as they are
	Verbs   map[string]string   // the page's verb, by a type's own, in whatever case; nil: any verb stands as it is
	New     map[string]string   // the verb for a new row by the page's word for its type, where it is another than by action
	Actions map[string]string   // the verb by jobs.Action…; those left out: created, updated, deleted
	Groups  map[string][]string // the page's words for types, by the word that stands for all of them
	Event   string              // how an event is written; "": {type}.{action}
}

// A Signature says how requests are signed.
type Signature struct {
	Form   SignatureForm // "": Hex where there is a header
	Header string        // as the vendor spells it; none in form StandardWebhooks, which has three of its own
	Prefix string        // before the signature, such as sha256= (Hex and Base64)
}

// A SignatureForm says what is signed, and how that is written.
type SignatureForm string

const (
	Unsigned         SignatureForm = "none"
	Hex              SignatureForm = "hex"               // HMAC-SHA256 of the body
	Base64           SignatureForm = "base64"            // likewise
	Timed            SignatureForm = "timed"             // t=UNIXSECONDS,v1=HEX, of time, dot and body: smarterbot's
	StandardWebhooks SignatureForm = "standard-webhooks" // webhook-id, webhook-timestamp, webhook-signature: v1,BASE64
)

var signatureForms = []SignatureForm{Unsigned, Hex, Base64, Timed, StandardWebhooks}

// A KeyRule says what keys a dialect's webhooks have. Where nothing is signed there are none.
type KeyRule struct {
	Use    KeyUse  // "": KeyRequired
	Form   KeyForm // of generated keys; "": KeyHex, with StandardWebhooks KeyWhsec
	Prefix string  // of generated keys, and part of them (KeyHex and KeyBase64)
}

// A KeyUse says whether a webhook has to have a key.
type KeyUse string

const (
	KeyRequired KeyUse = "required" // one is generated where none is given
	KeyOptional KeyUse = "optional" // without one, requests are not signed
)

// A KeyForm says how 32 random bytes are written as a key.
type KeyForm string

const (
	KeyHex    KeyForm = "hex"    // the text is the key
	KeyBase64 KeyForm = "base64" // the text is the key
	KeyWhsec  KeyForm = "whsec"  // whsec_BASE64, as Standard Webhooks says: the bytes are the key
)
