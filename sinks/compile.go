package sinks

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Fault is what is wrong with a Definition.
type Fault struct {
	Dialect string
	// Part is the way to what is wrong, by the keys that a configuration has for it: signature, header.
	Part []string
	Text string // such as: is missing; write …
}

func (f Fault) Error() string {
	return strings.Join(append([]string{f.Dialect}, f.Part...), ".") + ": " + f.Text
}

// A compiler makes a Dialect of a Definition, and collects what is wrong with it.
type compiler struct {
	Definition
	faults []Fault
}

func (c *compiler) fail(part []string, format string, args ...any) {
	c.faults = append(c.faults, Fault{Dialect: c.Name, Part: part, Text: fmt.Sprintf(format, args...)})
}

// part names what a Fault is about.
func part(keys ...string) []string { return keys }

// compile makes a dialect; bases are those that it may extend.
func compile(d Definition, bases map[string]*Dialect) (*Dialect, []Fault) {
	c := &compiler{Definition: d}
	made := &Dialect{
		headers: http.Header{"Content-Type": {"application/json"}}, Ack: []string{jobs.Ack2xx}, RetryAt: quickRetries,
		signature: Signature{Form: Unsigned}, names: naming{Names{Actions: pastTense}}, body: envelope{form: Milliseconds},
	}
	if d.Extends != "" {
		base, ok := bases[d.Extends]
		if !ok {
			c.fail(part("extends"), "%q is no built-in dialect; write one of %s", d.Extends, strings.Join(slices.Sorted(maps.Keys(bases)), ", "))
			return nil, c.faults
		}
		copied := *base
		copied.headers = base.headers.Clone()
		made = &copied
	}
	made.Name = d.Name
	c.names(made)
	c.body(made)
	c.signature(made) // before the headers, which may not be its own
	c.headers(made)
	if d.Ack != nil {
		made.Ack = d.Ack
	}
	if d.RetryAt != nil {
		made.RetryAt = d.RetryAt
	}
	if d.OneRound != nil {
		made.OneRound = *d.OneRound
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return made, nil
}

func (c *compiler) names(made *Dialect) {
	n, own := made.names, c.Names
	if own.Types != nil {
		n.Types = lowerKeys(own.Types)
	}
	if own.Verbs != nil {
		n.Verbs = lowerKeys(own.Verbs)
	}
	if own.New != nil {
		n.New = own.New
	}
	if own.Actions != nil {
		n.Actions = maps.Clone(n.Actions)
		maps.Copy(n.Actions, own.Actions)
	}
	if own.Groups != nil {
		n.Groups = own.Groups
	}
	if own.Event != "" {
		n.Event = own.Event
		if !strings.Contains(n.Event, eventType) && !strings.Contains(n.Event, eventAction) {
			c.fail(part("names", "event"), "says nothing of what happened; write %s and %s where they are to stand, such as %[1]s.%[2]s", eventType, eventAction)
		}
	}
	made.names = n
}

func lowerKeys(all map[string]string) map[string]string {
	lower := make(map[string]string, len(all))
	for key, value := range all {
		lower[strings.ToLower(key)] = value
	}
	return lower
}

func (c *compiler) signature(made *Dialect) {
	s, own := made.signature, c.Signature
	here := func(key string) []string { return part("signature", key) }
	if own.Form != "" && own.Form != s.Form {
		s.Form = own.Form
		if own.Form == StandardWebhooks || own.Form == Unsigned {
			s.Header, s.Prefix = "", ""
		}
	} else if own.Header != "" && s.Form == Unsigned && own.Form == "" {
		s.Form = Hex
	}
	if own.Header != "" {
		s.Header = own.Header
	}
	if own.Prefix != "" {
		s.Prefix = own.Prefix
	}
	made.signature, made.Signed = s, s.Form != Unsigned
	switch {
	case !slices.Contains(signatureForms, s.Form):
		c.fail(here("form"), "%q is no form of signatures; write one of %s", s.Form, join(signatureForms))
	case s.Form == Unsigned && own.Header != "":
		c.fail(here("header"), "is of no use where nothing is signed")
	case s.Form == StandardWebhooks && own.Header != "":
		c.fail(here("header"), "cannot be chosen; Standard Webhooks has three headers of its own")
	case s.Form == Unsigned || s.Form == StandardWebhooks:
	case s.Header == "":
		c.fail(here("header"), "is missing; write the header's name, such as X-Signature")
	case !token(s.Header):
		c.fail(here("header"), "%q is no header's name", s.Header)
	case c.taken(s.Header) != "":
		c.fail(here("header"), "%s", c.taken(s.Header))
	}
	switch {
	case own.Prefix == "":
	case s.Form != Hex && s.Form != Base64:
		c.fail(here("prefix"), "is for the forms hex and base64 only")
	case !visible(own.Prefix):
		c.fail(here("prefix"), "has a character that a header should not have; write such as sha256=")
	}
	c.keys(made)
}

func (c *compiler) keys(made *Dialect) {
	k, own := made.key, c.Key
	if !made.Signed {
		if own != (KeyRule{}) {
			c.fail(part("key"), "is of no use where nothing is signed; give signature a header, or leave the key out")
		}
		made.key, made.KeyOptional = KeyRule{}, false
		return
	}
	if own.Use != "" {
		k.Use = own.Use
	}
	switch {
	case own.Form != "":
		if k.Form = own.Form; k.Form == KeyWhsec {
			k.Prefix = ""
		}
	case k.Form == "" && made.signature.Form == StandardWebhooks:
		k.Form = KeyWhsec
	case k.Form == "":
		k.Form = KeyHex
	}
	if own.Prefix != "" {
		k.Prefix = own.Prefix
	}
	made.key, made.KeyOptional = k, k.Use == KeyOptional
	switch {
	case k.Use != "" && k.Use != KeyRequired && k.Use != KeyOptional:
		c.fail(part("key", "use"), "%q is no rule for keys; write required or optional, or leave it out with signature: none", k.Use)
	case !slices.Contains([]KeyForm{KeyHex, KeyBase64, KeyWhsec}, k.Form):
		c.fail(part("key", "form"), "%q is no form of keys; write hex, base64 or whsec", k.Form)
	case own.Prefix != "" && k.Form == KeyWhsec:
		c.fail(part("key", "prefix"), "is for the forms hex and base64 only; such keys begin with whsec_")
	case !visible(k.Prefix):
		c.fail(part("key", "prefix"), "may have visible ASCII characters only")
	}
}

func (c *compiler) headers(made *Dialect) {
	if c.ContentType != "" {
		made.headers["Content-Type"] = []string{c.ContentType}
		if !fieldValue(c.ContentType) {
			c.fail(part("content_type"), "holds a line break or another control character, which no header can")
		}
	}
	if c.UserAgent != "" {
		made.headers["User-Agent"] = []string{c.UserAgent}
		if !fieldValue(c.UserAgent) {
			c.fail(part("user_agent"), "holds a line break or another control character, which no header can")
		}
	}
	own := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		here, value := part("headers", name), c.Headers[name]
		key := textproto.CanonicalMIMEHeaderKey(name)
		signs := slices.ContainsFunc(made.signature.headers(), func(h string) bool { return strings.EqualFold(h, name) })
		switch {
		case !token(name):
			c.fail(here, "is no header's name")
		case own[key]:
			c.fail(here, "is there twice (case makes no difference)")
		case signs:
			c.fail(here, "is the signature's header")
		case c.taken(name) != "":
			c.fail(here, "%s", c.taken(name))
		case key == SignatureHeader:
			c.fail(here, "is a signature's header; name it in signature")
		case !fieldValue(value):
			c.fail(here, "holds a line break or another control character, which no header can")
		}
		own[key] = true
		made.headers[key] = []string{value}
	}
}

// taken says what a header is already, where it is.
func (c *compiler) taken(name string) string {
	switch key := textproto.CanonicalMIMEHeaderKey(name); {
	case key == "Content-Type":
		return "is set by content_type"
	case key == "User-Agent":
		return "is set by user_agent"
	case strings.HasPrefix(key, "X-Webhook-") && key != SignatureHeader, key == "Host", slices.Contains(framing, key):
		return "is set by leadrelay itself"
	}
	return ""
}

// visible reports whether s has visible ASCII characters only.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func join[T ~string](words []T) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = string(word)
	}
	return strings.Join(all, ", ")
}
