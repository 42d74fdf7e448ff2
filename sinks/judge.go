package sinks

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/leadrelay/leadrelay/jobs"
)

// judge says whether body acknowledges: one JSON object, UTF-8, alone but for white space, no name in it twice at
// any depth, with a member where the rule says that is what the rule accepts. It returns the member's word where it has
// one, accepted or not; nil is an acknowledgement.
func judge(body []byte, r *rule) (word string, refusal *jobs.RefusedError) {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return "", refused(ReasonBOM, 0, "")
	case !utf8.Valid(body):
		return "", refused(ReasonNotUTF8, 0, "")
	case blank(body):
		return "", refused(ReasonEmpty, 0, r.advice(ReasonEmpty))
	}
	a := parse(body, r)
	switch {
	case a.reason != "":
		return "", refused(a.reason, 0, parseHint(body, a.reason, r))
	case !a.found:
		return "", refused(ReasonNoStatus, 0, r.missing(a.like))
	case a.kind != '"' && r.texts:
		return "", refused(ReasonStatusType, 0, r.advice(ReasonStatusType))
	}
	return a.word, r.refusal(a)
}

// blank reports whether b is nothing but JSON's white space.
func blank(b []byte) bool { return len(bytes.Trim(b, " \t\r\n")) == 0 }

func parseHint(body []byte, reason string, r *rule) string {
	if reason == ReasonNotJSON && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("<")) {
		return "The answer is HTML or XML, often an error or login page: answer " + r.example() + "."
	}
	return r.advice(reason)
}

// answer is what parse found.
type answer struct {
	reason string        // why it is no JSON object; "": it is one
	found  bool          // it has the rule's member
	kind   jsontext.Kind // of it
	like   bool          // it has a member that differs from the rule's in case alone
	word   string        // the member's string; true, false and numbers as JavaScript prints them
	has    bool          // it has the further member that the rule wants, with something in it
}

// parser is a decoder over one buffered answer; parsers are used again.
type parser struct {
	source bytes.Reader
	json   *jsontext.Decoder
}

// Lone surrogates in escapes are JSON all the same, and JSON.parse takes them; bytes that are no UTF-8 never come
// here.
var parsers = sync.Pool{New: func() any {
	p := new(parser)
	p.json = jsontext.NewDecoder(&p.source, jsontext.AllowInvalidUTF8(true))
	return p
}}

func parse(body []byte, r *rule) answer {
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	a, end, err := p.object(body, r)
	switch {
	case err == nil && blank(body[end:]):
		return a
	case err == nil:
		return answer{reason: ReasonTrailingText}
	case errors.Is(err, errNotObject):
		return answer{reason: ReasonNotObject}
	case errors.Is(err, jsontext.ErrDuplicateName):
		return answer{reason: ReasonDoubledKey}
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return answer{reason: ReasonTruncated}
	}
	// An object may follow what is no JSON: where it begins is tried at the two likeliest places.
	for _, brace := range [...]string{"{", `{"`} {
		if i := bytes.Index(body, []byte(brace)); i > 0 {
			if _, _, err := p.object(body[i:], r); err == nil {
				return answer{reason: ReasonLeadingText}
			}
		}
	}
	return answer{reason: ReasonNotJSON}
}

var errNotObject = errors.New("not an object")

// object reads the object that body begins with, and returns where it ends.
func (p *parser) object(body []byte, r *rule) (a answer, end int64, err error) {
	p.source.Reset(body)
	p.json.Reset(&p.source, jsontext.AllowInvalidUTF8(true))
	if p.json.PeekKind() != '{' {
		if err := p.json.SkipValue(); err != nil {
			return a, 0, err
		}
		if !blank(body[p.json.InputOffset():]) {
			return a, 0, errors.New("a value and more") // such as "[ok] {…}", or "200 OK"
		}
		return a, 0, errNotObject
	}
	if err := p.members(&a, r, r.path); err != nil {
		return a, 0, err
	}
	return a, p.json.InputOffset(), nil
}

// members reads an object, and looks in it for the member that path leads to.
func (p *parser) members(a *answer, r *rule, path []string) error {
	if _, err := p.json.ReadToken(); err != nil {
		return err
	}
	outermost := p.json.StackDepth() == 1
	for p.json.PeekKind() != '}' {
		name, err := p.json.ReadToken()
		if err != nil {
			return err
		}
		n := name.String()
		kind := p.json.PeekKind()
		switch {
		case n == path[0] && len(path) > 1 && kind == '{':
			err = p.members(a, r, path[1:])
		case n == path[0] && len(path) == 1:
			a.found, a.kind = true, kind
			err = p.word(a)
		case outermost && r.with != "" && n == r.with:
			a.has = kind != 'n'
			err = p.json.SkipValue()
		default:
			a.like = a.like || n != path[0] && strings.EqualFold(n, path[0])
			err = p.json.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := p.json.ReadToken()
	return err
}

// word reads a value that is a word.
func (p *parser) word(a *answer) error {
	switch a.kind {
	case '{', '[', 'n':
		return p.json.SkipValue()
	}
	value, err := p.json.ReadToken()
	if err != nil {
		return err
	}
	if a.kind == '0' {
		n, _ := value.Float() // ±Inf beyond all doubles, as in JavaScript
		a.word = string(appendNumber(nil, n))
		return nil
	}
	a.word = value.String()
	return nil
}
