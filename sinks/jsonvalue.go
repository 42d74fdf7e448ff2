package sinks

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/leadrelay/leadrelay/jobs"
)

// What a JSON column may hold at most. Receivers have bounds of their own: .NET reads 64 levels, PHP 512.
const (
	maxJSON      = 4 << 20 // bytes
	maxJSONDepth = 100     // objects and lists within each other

	maxKept = 64 << 10 // bytes; who rewrote more is not used again, for its buffers would stay as large
)

// Why a JSON column's value cannot be sent.
var (
	errNotJSON     = errors.New("is no JSON")
	errJSONSize    = errors.New("holds more than 4 MiB of JSON")
	errJSONDepth   = errors.New("holds JSON of more than 100 levels")
	errJSONInteger = errors.New("holds a number beyond ±(2^53−1), the integers that JSON receivers read exactly")
	errJSONNumber  = errors.New("holds a number beyond what JSON receivers can read")
)

// rewriter makes of a JSON text what JSON.stringify(JSON.parse(text)) gives. Rewriters are used again.
type rewriter struct {
	source bytes.Buffer
	json   *jsontext.Decoder
	dst    []byte
	depth  int
	moved  []byte // room for an object whose members change places
}

// Doubled names are JSON, and so are lone surrogates in escapes: JSON.parse takes both. What is no UTF-8 in a text
// becomes U+FFFD, as in all texts.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

var rewriters = sync.Pool{New: func() any {
	r := new(rewriter)
	r.json = jsontext.NewDecoder(&r.source, lenient...)
	return r
}}

// appendRewritten appends a JSON text as JSON.stringify prints it once JSON.parse has read it: without white space,
// members that look like array indexes first, doubled names once, numbers as JavaScript prints them. The errors show
// nothing of the text.
func appendRewritten(dst []byte, text jobs.JSON) ([]byte, error) {
	if len(text) > maxJSON {
		return dst, errJSONSize
	}
	r := rewriters.Get().(*rewriter)
	if len(text) <= maxKept {
		defer rewriters.Put(r)
	}
	r.source.Reset()
	r.source.WriteString(string(text))
	r.json.Reset(&r.source, lenient...)
	r.dst, r.depth = dst, 0
	err := r.value()
	if err == nil {
		if _, end := r.json.ReadToken(); !errors.Is(end, io.EOF) {
			err = errNotJSON
		}
	}
	out := r.dst
	r.dst = nil
	if err != nil {
		return dst, err
	}
	return out, nil
}

func (r *rewriter) value() error {
	kind := r.json.PeekKind()
	switch kind {
	case '{', '[':
		if r.depth++; r.depth > maxJSONDepth {
			return errJSONDepth
		}
		defer func() { r.depth-- }()
		if _, err := r.json.ReadToken(); err != nil {
			return errNotJSON
		}
		if kind == '{' {
			return r.object()
		}
		return r.array()
	}
	raw, err := r.json.ReadValue()
	if err != nil {
		return errNotJSON
	}
	switch kind {
	case '"':
		r.dst = appendRequoted(r.dst, raw)
	case '0':
		r.dst, err = appendRenumbered(r.dst, raw)
	default:
		r.dst = append(r.dst, raw...)
	}
	return err
}

func (r *rewriter) array() error {
	r.dst = append(r.dst, '[')
	for first := true; r.json.PeekKind() != ']'; first = false {
		if !first {
			r.dst = append(r.dst, ',')
		}
		if err := r.value(); err != nil {
			return err
		}
	}
	r.dst = append(r.dst, ']')
	return r.end()
}

func (r *rewriter) end() error {
	if _, err := r.json.ReadToken(); err != nil {
		return errNotJSON
	}
	return nil
}

// A span is a member of an object in dst: its name in quotes, and name, colon and value.
type span struct {
	begin, name, end int    // name is the name's end
	index            uint64 // of names that look like array indexes: one more than that; 0: another name
}

func (r *rewriter) object() error {
	begin := len(r.dst)
	r.dst = append(r.dst, '{')
	var room [16]span
	members := room[:0]
	var known map[string]int // by name, once there are many
	changes := false         // the members stand in another order, or one is there twice
	for r.json.PeekKind() != '}' {
		if len(members) > 0 {
			r.dst = append(r.dst, ',')
		}
		raw, err := r.json.ReadValue()
		if err != nil {
			return errNotJSON
		}
		m := span{begin: len(r.dst)}
		r.dst = appendRequoted(r.dst, raw)
		m.name = len(r.dst)
		r.dst = append(r.dst, ':')
		if err := r.value(); err != nil {
			return err
		}
		m.end = len(r.dst)
		name := r.dst[m.begin:m.name]
		m.index = indexOf(name)
		twin := -1
		if len(members) < len(room) {
			twin = slices.IndexFunc(members, func(o span) bool { return bytes.Equal(r.dst[o.begin:o.name], name) })
		} else {
			if known == nil {
				known = make(map[string]int, 4*len(room))
				for i, o := range members {
					known[string(r.dst[o.begin:o.name])] = i
				}
			}
			if i, ok := known[string(name)]; ok {
				twin = i
			}
		}
		switch {
		case twin >= 0: // the first one's place, and the last one's value
			members[twin].begin, members[twin].name, members[twin].end = m.begin, m.name, m.end
			changes = true
			continue
		case known != nil:
			known[string(name)] = len(members)
		}
		if n := len(members); m.index > 0 && n > 0 && (members[n-1].index == 0 || members[n-1].index > m.index) {
			changes = true
		}
		members = append(members, m)
	}
	if changes {
		r.rearrange(begin, members)
	}
	r.dst = append(r.dst, '}')
	return r.end()
}

// rearrange writes the object that begins at begin anew: names that look like array indexes ascending, then the others
// in the order in which they came.
func (r *rewriter) rearrange(begin int, members []span) {
	slices.SortStableFunc(members, func(a, b span) int {
		switch x, y := a.index-1, b.index-1; { // no index is the largest
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	r.moved = r.moved[:0]
	for i, m := range members {
		if i > 0 {
			r.moved = append(r.moved, ',')
		}
		r.moved = append(r.moved, r.dst[m.begin:m.end]...)
	}
	r.dst = append(append(r.dst[:begin], '{'), r.moved...)
}

// indexOf is one more than the array index that a name in quotes is, or 0.
func indexOf(quoted []byte) uint64 {
	name := quoted[1 : len(quoted)-1]
	if len(name) == 0 || len(name) > 10 || name[0] > '9' || !isIndex(string(name)) {
		return 0
	}
	n, _ := strconv.ParseUint(string(name), 10, 64)
	return n + 1
}

// appendRequoted appends a JSON string, as it stands in a JSON text, as JSON.stringify prints what it means. Half of a
// surrogate pair alone, which no UTF-8 can say, stays an escape, in lower case.
func appendRequoted(dst, raw []byte) []byte {
	if s := raw[1 : len(raw)-1]; bytes.IndexByte(s, '\\') < 0 && utf8.Valid(s) {
		return append(dst, raw...) // what has to be escaped would be
	}
	dst = append(dst, '"')
	s := raw[1 : len(raw)-1]
	for len(s) > 0 {
		if s[0] != '\\' {
			n := bytes.IndexByte(s, '\\')
			if n < 0 {
				n = len(s)
			}
			for part := s[:n]; len(part) > 0; {
				c, size := utf8.DecodeRune(part)
				dst = utf8.AppendRune(dst, c) // U+FFFD for what is no UTF-8
				part = part[size:]
			}
			s = s[n:]
			continue
		}
		if s[1] != 'u' {
			if s[1] == '/' {
				dst = append(dst, '/')
			} else {
				dst = append(dst, s[:2]...)
			}
			s = s[2:]
			continue
		}
		c := hex4(s[2:])
		s = s[6:]
		switch {
		case !utf16.IsSurrogate(c):
			quoted, _ := jsontext.AppendQuote(nil, string(c))
			dst = append(dst, quoted[1:len(quoted)-1]...)
		case len(s) >= 6 && s[0] == '\\' && s[1] == 'u' && utf16.DecodeRune(c, hex4(s[2:])) != utf8.RuneError:
			dst = utf8.AppendRune(dst, utf16.DecodeRune(c, hex4(s[2:])))
			s = s[6:]
		default:
			dst = append(dst, `\u`...)
			dst = strconv.AppendInt(dst, int64(c), 16) // four digits: surrogates begin at d800
		}
	}
	return append(dst, '"')
}

// hex4 reads the four digits of an escape, which the decoder has looked at.
func hex4(s []byte) rune {
	n, _ := strconv.ParseUint(string(s[:4]), 16, 16)
	return rune(n)
}

// appendRenumbered appends a JSON number as JavaScript prints it. A number that is written in full and is beyond what
// doubles hold exactly, as ids are, is refused; one with an exponent was a double before.
func appendRenumbered(dst, raw []byte) ([]byte, error) {
	if len(raw) <= 15 && bytes.IndexFunc(raw, func(c rune) bool { return c < '0' || c > '9' }) < 0 {
		return append(dst, raw...), nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case err != nil:
		return dst, errJSONNumber
	case (f > maxSafe || f < -maxSafe) && !strings.ContainsAny(string(raw), "eE"):
		return dst, errJSONInteger
	}
	return appendNumber(dst, f), nil
}
