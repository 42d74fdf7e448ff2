package sinks

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/leadrelay/leadrelay/jobs"
)

// judge says whether body acknowledges: one JSON object, UTF-8, alone but for white space, no name in it twice at
// any depth, with a member named exactly status that is exactly one of the accepted values. It returns the status
// word where there is one, accepted or not; nil is an acknowledgement.
func judge(body []byte, accepted []string) (word string, refusal *jobs.RefusedError) {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return "", refused(ReasonBOM, 0, "")
	case !utf8.Valid(body):
		return "", refused(ReasonNotUTF8, 0, "")
	case blank(body):
		return "", refused(ReasonEmpty, 0, "")
	}
	a := parse(body)
	switch {
	case a.reason != "":
		return "", refused(a.reason, 0, parseHint(body, a.reason))
	case !a.found && a.like:
		return "", refused(ReasonNoStatus, 0, "The answer's member must be named status, in lower case.")
	case !a.found:
		return "", refused(ReasonNoStatus, 0, "")
	case !a.text:
		return "", refused(ReasonStatusType, 0, "")
	case slices.Contains(accepted, a.word):
		return a.word, nil
	}
	for _, want := range accepted {
		if strings.EqualFold(strings.TrimSpace(a.word), want) {
			return a.word, refused(ReasonAckMismatch, 0, "The answer's status differs from an accepted value only in upper and lower case or in spaces, which count.")
		}
	}
	return a.word, refused(ReasonAckMismatch, 0, "")
}

// blank reports whether b is nothing but JSON's white space.
func blank(b []byte) bool { return len(bytes.Trim(b, " \t\r\n")) == 0 }

func parseHint(body []byte, reason string) string {
	if reason == ReasonNotJSON && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("<")) {
		return "The answer is HTML or XML, often an error or login page: answer {\"status\":\"success\"}."
	}
	return ""
}

// answer is what parse found.
type answer struct {
	reason string // why it is no JSON object; "": it is one
	found  bool   // it has a member status
	text   bool   // which is a string
	like   bool   // it has a member that differs from status in case alone
	word   string
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

func parse(body []byte) answer {
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	a, end, err := p.object(body)
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
			if _, _, err := p.object(body[i:]); err == nil {
				return answer{reason: ReasonLeadingText}
			}
		}
	}
	return answer{reason: ReasonNotJSON}
}

var errNotObject = errors.New("not an object")

// object reads the object that body begins with, and returns where it ends.
func (p *parser) object(body []byte) (a answer, end int64, err error) {
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
	if _, err := p.json.ReadToken(); err != nil {
		return a, 0, err
	}
	for p.json.PeekKind() != '}' {
		name, err := p.json.ReadToken()
		if err != nil {
			return a, 0, err
		}
		if n := name.String(); n != "status" {
			a.like = a.like || strings.EqualFold(n, "status")
			if err := p.json.SkipValue(); err != nil {
				return a, 0, err
			}
			continue
		}
		a.found = true
		if p.json.PeekKind() != '"' {
			if err := p.json.SkipValue(); err != nil {
				return a, 0, err
			}
			continue
		}
		word, err := p.json.ReadToken()
		if err != nil {
			return a, 0, err
		}
		a.text, a.word = true, word.String()
	}
	if _, err := p.json.ReadToken(); err != nil {
		return a, 0, err
	}
	return a, p.json.InputOffset(), nil
}
