package sinks

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// An envelope is the body of a dialect that puts a record's fields into an object of its own, as data.
type envelope struct {
	members []member
	// fields names the fields that stand in the envelope and not in data; "project." stands for all that begin so.
	fields []string
	names  *naming
	form   timeForm // of timestamp, and of fields that are times
	// times are the last names of fields that are times: their text is rewritten in form where it can be read as one.
	times []string
}

// A member of an envelope, in its order.
type member struct {
	name string
	is   memberKind
	// object: the fields it has when the stream gives none of that name. Their values are null, but for chatbot.
	shape []shape
}

type shape struct {
	field   string
	chatbot bool // the chatbot stands in for the field
}

type memberKind int

const (
	isEvent  memberKind = iota // noun and verb: note.created
	isNoun                     // note
	isVerb                     // created
	isTime                     // of the event: the stream's field of this name, or when the record was created
	isField                    // the stream's field of this name, null where there is none
	isObject                   // of the stream's fields that begin with this name and a dot
	isData                     // of all fields that are not the envelope's
)

// A timeForm is how a dialect writes times.
type timeForm string

const (
	milliseconds timeForm = "2006-01-02T15:04:05.000Z" // as JavaScript's toISOString
	microseconds timeForm = "2006-01-02T15:04:05.000000Z"
	unixSeconds  timeForm = "" // an integer
)

func (e *envelope) encode(dst []byte, _ *jobs.Webhook, rec *jobs.Record, created time.Time) ([]byte, error) {
	noun, verb := e.names.of(rec.Type, rec.Action)
	var room [32]jobs.Field
	dst = append(dst, '{')
	for i := range e.members {
		m := &e.members[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, m.name)
		dst = append(dst, ':')
		var err error
		switch m.is {
		case isEvent:
			dst = appendString(dst, noun+"."+verb)
		case isNoun:
			dst = appendString(dst, noun)
		case isVerb:
			dst = appendString(dst, verb)
		case isTime:
			dst, err = e.appendTime(dst, m.name, e.happened(m.name, rec, created))
		case isField:
			dst, err = e.appendValue(dst, m.name, rec.Field(m.name))
		case isObject:
			dst, err = e.appendObject(dst, m.fields(room[:0], rec), m.name+".")
		case isData:
			data := room[:0]
			for _, f := range rec.Fields {
				if !e.owns(f.Name) {
					data = append(data, f)
				}
			}
			dst, err = e.appendObject(dst, data, "")
		}
		if err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// owns reports whether a field stands in the envelope and not in data.
func (e *envelope) owns(field string) bool {
	return slices.ContainsFunc(e.fields, func(own string) bool {
		return own == field || strings.HasSuffix(own, ".") && strings.HasPrefix(field, own)
	})
}

// fields are those of an object member: the ones it always has, in their order, then what else the stream gives.
func (m *member) fields(dst []jobs.Field, rec *jobs.Record) []jobs.Field {
	for _, s := range m.shape {
		f := jobs.Field{Name: s.field, Value: rec.Field(s.field)}
		if s.chatbot && f.Value == nil {
			f.Value = rec.Chatbot
		}
		dst = append(dst, f)
	}
	for _, f := range rec.Fields {
		if strings.HasPrefix(f.Name, m.name+".") && !slices.ContainsFunc(m.shape, func(s shape) bool { return s.field == f.Name }) {
			dst = append(dst, f)
		}
	}
	return dst
}

// happened is when an event happened: what the stream says in a field of this name; else, for a change, the version of
// the row where that is a time; else when the record was created.
func (e *envelope) happened(field string, rec *jobs.Record, created time.Time) time.Time {
	if t, ok := readTime(rec.Field(field)); ok {
		return t
	}
	if rec.Action == jobs.ActionUpdate || rec.Action == jobs.ActionRemove {
		if t, ok := readTime(rec.Version); ok {
			return t
		}
	}
	return created
}

// readTime reads a field that is a time: RFC 3339, a date and a time as databases write them (UTC), or unix seconds.
func readTime(value any) (time.Time, bool) {
	switch v := value.(type) {
	case int64:
		return time.Unix(v, 0).UTC(), true
	case string:
		for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
			if t, err := time.Parse(layout, v); err == nil {
				return t.UTC(), true
			}
		}
	}
	return time.Time{}, false
}

func (e *envelope) appendTime(dst []byte, name string, t time.Time) ([]byte, error) {
	if e.form == unixSeconds {
		return strconv.AppendInt(dst, t.Unix(), 10), nil
	}
	if year := t.Year(); year < 0 || year > 9999 {
		return dst, encodeError(name, errYear)
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, string(e.form))
	return append(dst, '"'), nil
}

// appendObject appends the object of all fields whose names begin with prefix, which ends in a dot or is "". Names with
// further dots make objects within. Members stand in the order of the fields, but integer-like names first and
// ascending, for that is the order JavaScript gives them.
func (e *envelope) appendObject(dst []byte, fields []jobs.Field, prefix string) ([]byte, error) {
	dst = append(dst, '{')
	empty := len(dst)
	indexed := integerLike(fields, prefix)
	for _, i := range indexed {
		var err error
		if dst, err = e.appendMember(dst, fields, i, prefix, empty); err != nil {
			return dst, err
		}
	}
	for i := range fields {
		if len(indexed) > 0 && slices.Contains(indexed, i) {
			continue
		}
		var err error
		if dst, err = e.appendMember(dst, fields, i, prefix, empty); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// integerLike are the fields whose members' names look like array indexes, ascending.
func integerLike(fields []jobs.Field, prefix string) []int {
	var found []int
	for i := range fields {
		if rest, ok := strings.CutPrefix(fields[i].Name, prefix); ok {
			if name, _, _ := strings.Cut(rest, "."); isIndex(name) {
				found = append(found, i)
			}
		}
	}
	if len(found) > 1 {
		slices.SortStableFunc(found, func(a, b int) int {
			x, _, _ := strings.Cut(fields[a].Name[len(prefix):], ".")
			y, _, _ := strings.Cut(fields[b].Name[len(prefix):], ".")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return strings.Compare(x, y)
		})
	}
	return found
}

// isIndex reports whether ECMAScript takes a member's name for an array index: 0 to 2^32 − 2, in plain decimal.
func isIndex(name string) bool {
	if name == "" || len(name) > 10 || name[0] == '0' && name != "0" {
		return false
	}
	var n uint64
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return false
		}
		n = 10*n + uint64(name[i]-'0')
	}
	return n < 1<<32-1
}

// appendMember appends the member that the field i begins, unless one before it did.
func (e *envelope) appendMember(dst []byte, fields []jobs.Field, i int, prefix string, empty int) ([]byte, error) {
	full := fields[i].Name
	rest, ok := strings.CutPrefix(full, prefix)
	if !ok {
		return dst, nil
	}
	name, _, object := strings.Cut(rest, ".")
	path := full[:len(prefix)+len(name)]
	for j := range fields {
		other := fields[j].Name
		if j == i || !strings.HasPrefix(other, path) {
			continue
		}
		switch within := len(other) > len(path) && other[len(path)] == '.'; {
		case within && object && j < i:
			return dst, nil // it is there
		case within && !object, len(other) == len(path):
			return dst, encodeError(path, errNested)
		}
	}
	if len(dst) > empty {
		dst = append(dst, ',')
	}
	dst = appendString(dst, name)
	dst = append(dst, ':')
	if object {
		return e.appendObject(dst, fields, full[:len(path)+1])
	}
	return e.appendValue(dst, full, fields[i].Value)
}

// appendValue appends a field's value as what it is: NULL is null, a number a number.
func (e *envelope) appendValue(dst []byte, field string, value any) ([]byte, error) {
	if len(e.times) > 0 && slices.Contains(e.times, field[strings.LastIndexByte(field, '.')+1:]) {
		if t, ok := readTime(value); ok {
			return e.appendTime(dst, field, t)
		}
	}
	dst, err := appendJSON(dst, value)
	if err != nil {
		return dst, encodeError(field, err)
	}
	return dst, nil
}
