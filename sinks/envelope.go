package sinks

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// An envelope is how a dialect makes bodies: its members, compiled.
type envelope struct {
	members []member
	spread  bool // the fields of data stand among the members
	tells   bool // a member says what happened to the record
	// fields names the fields that stand in the envelope and not in data; "project." stands for all that begin so.
	fields []string
	names  *naming
	form   TimeForm // of members that are times, and of fields that are
	layout string   // of form, where that is a text
	// times are the last names of fields that are times: their text is rewritten in form where it can be read as one.
	times []string
}

// A member of an envelope, in its order.
type member struct {
	Member
	label    []byte   // its name in quotes, and a colon
	constant []byte   // of IsConst
	always   []string // of an object: the fields that it has even where the stream gives none of the name
	chatbot  string   // that of them in whose place the chatbot stands
	prefix   string   // of an object: what the names of its fields begin with
}

// layouts of the forms that are texts.
var layouts = map[TimeForm]string{
	Milliseconds: "2006-01-02T15:04:05.000Z", Microseconds: "2006-01-02T15:04:05.000000Z", Seconds: "2006-01-02T15:04:05Z",
}

func (e *envelope) encode(dst []byte, rec *jobs.Record, created time.Time) (_ []byte, err error) {
	var spread []jobs.Field
	dst = append(dst, '{')
	empty := len(dst)
	if e.spread {
		// JavaScript puts what looks like an array index before everything else.
		var indexed []jobs.Field
		if indexed, spread, err = e.spreadFields(rec); err == nil {
			dst, err = e.appendMembers(dst, indexed, "", empty)
		}
	}
	for i := 0; i < len(e.members) && err == nil; i++ {
		m := &e.members[i]
		if m.Name == Spread {
			dst, err = e.appendMembers(dst, spread, "", empty)
			continue
		}
		if len(dst) > empty {
			dst = append(dst, ',')
		}
		dst, err = e.appendKind(append(dst, m.label...), m, rec, created)
	}
	if err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

// appendKind appends what a member holds.
func (e *envelope) appendKind(dst []byte, m *member, rec *jobs.Record, created time.Time) ([]byte, error) {
	switch m.Is {
	case IsText:
		dst, err := appendText(dst, rec.Field(m.Field))
		if err != nil {
			err = encodeError(m.Field, err)
		}
		return dst, err
	case IsInteger:
		n, err := integer(rec.Field(m.Field))
		if err != nil {
			err = encodeError(m.Field, err)
		}
		return strconv.AppendInt(dst, n, 10), err
	case IsChatbot:
		return appendString(dst, rec.Chatbot), nil
	case IsCreated:
		return e.appendTime(dst, m.Name, created)
	case IsTime:
		return e.appendTime(dst, m.Name, e.happened(m.Name, rec, created))
	case IsField, IsCopy:
		return e.appendValue(dst, m.Field, rec.Field(m.Field))
	case IsConst:
		return append(dst, m.constant...), nil
	case IsObject:
		return e.appendOwnObject(dst, m, rec)
	case IsData:
		return e.appendData(dst, rec)
	}
	noun, verb := e.names.of(rec.Type, rec.Action)
	switch m.Is {
	case IsType:
		verb = noun
	case IsEvent:
		verb = e.names.event(noun, verb)
	}
	return appendString(dst, verb), nil
}

// appendData appends the object of all fields that no other member takes.
func (e *envelope) appendData(dst []byte, rec *jobs.Record) ([]byte, error) {
	var room [32]jobs.Field
	data := room[:0]
	for _, f := range rec.Fields {
		if !e.owns(f.Name) {
			data = append(data, f)
		}
	}
	return e.appendObject(dst, data, "")
}

// appendOwnObject appends the object of the fields whose names begin with the member's: the ones that it always has, in
// their order, then what else the stream gives.
func (e *envelope) appendOwnObject(dst []byte, m *member, rec *jobs.Record) ([]byte, error) {
	var room [32]jobs.Field
	fields := room[:0]
	for _, name := range m.always {
		f := jobs.Field{Name: name, Value: rec.Field(name)}
		if name == m.chatbot && f.Value == nil {
			f.Value = rec.Chatbot
		}
		fields = append(fields, f)
	}
	prefix := m.prefix
	for _, f := range rec.Fields {
		if strings.HasPrefix(f.Name, prefix) && !slices.Contains(m.always, f.Name) {
			fields = append(fields, f)
		}
	}
	return e.appendObject(dst, fields, prefix)
}

// spreadFields are the fields that stand among the members, those first whose names look like array indexes. A field of
// a member's name is refused: one of the two would be lost.
func (e *envelope) spreadFields(rec *jobs.Record) (indexed, others []jobs.Field, err error) {
	for _, f := range rec.Fields {
		if e.owns(f.Name) {
			continue
		}
		name, _, _ := strings.Cut(f.Name, ".")
		if slices.ContainsFunc(e.members, func(m member) bool { return m.Name == name }) {
			return nil, nil, encodeError(f.Name, errNested)
		}
		if isIndex(name) {
			indexed = append(indexed, f)
		} else {
			others = append(others, f)
		}
	}
	return indexed, others, nil
}

// owns reports whether a field stands in the envelope and not in data.
func (e *envelope) owns(field string) bool {
	return slices.ContainsFunc(e.fields, func(own string) bool {
		return own == field || strings.HasSuffix(own, ".") && strings.HasPrefix(field, own)
	})
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
	if e.form == UnixSeconds || e.form == UnixMilliseconds {
		n, most := t.Unix(), int64(maxSafe)
		if e.form == UnixMilliseconds {
			n, most = t.UnixMilli(), maxSafe/1000 // of seconds: milliseconds may be too many for an int64
		}
		if t.Unix() > most || t.Unix() < -most {
			return dst, encodeError(name, errTooLarge)
		}
		return strconv.AppendInt(dst, n, 10), nil
	}
	if year := t.Year(); year < 0 || year > 9999 {
		return dst, encodeError(name, errYear)
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, e.layout)
	return append(dst, '"'), nil
}
