package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// smarterbot is the dialect that a webhook has where it names none.
const smarterbot = "smarterbot"

// A Cursor is how a stream's new rows are found.
type Cursor string

const (
	CursorAuto    Cursor = "auto" // gaps where the key allows it, else created
	CursorGaps    Cursor = "gaps"
	CursorCreated Cursor = "created"
)

// A Stream is where records of one type come from.
type Stream struct {
	Type        string
	Table       string // as written, perhaps with a schema; or
	Query       string // a SELECT without a semicolon
	ID          string // columns
	Chatbot     string
	Created     string         // "": the stream has none
	Updated     string         // of the last change; "": changes are no records
	Deleted     string         // marks rows as deleted; "": none does
	CreatedZone *time.Location // of time columns without a zone
	Fields      []Field        // in the file's order
	Where       string         // an SQL condition, "" for none
	Settle      time.Duration
	Cursor      Cursor
	GapKeep     time.Duration
	Lookback    time.Duration // of CursorCreated
	Optional    bool          // one of the two default streams, of which one may be without its table
}

// A Field is what one of a record's fields is filled from: a column, or a constant.
type Field struct {
	Name   string
	Column string // "": Const
	JSON   bool   // the column holds JSON texts, whatever its type
	Const  any    // string, int64, float64 or bool
}

// fieldsOf the dialect smarterbot, with their columns in the default streams.
var fieldsOf = []Field{
	{Name: "FirstName", Column: "first_name"},
	{Name: "LastName", Column: "last_name"},
	{Name: "Email", Column: "email"},
	{Name: "PhoneNumber", Column: "phone_number"},
	{Name: "Content", Column: "content"},
	{Name: "SessionID", Column: "session_id"},
	{Name: "URI", Column: "uri"},
}

// sessionID is the only number among smarterbot's fields.
const sessionID = "SessionID"

// defaultStream is a stream of which the file says no more than its type and table.
func defaultStream(typ, table string) Stream {
	return Stream{
		Type: typ, Table: table, ID: "id", Chatbot: "chatbot_id", Created: "created_at", CreatedZone: time.UTC,
		Fields: slices.Clone(fieldsOf), Cursor: CursorAuto, GapKeep: 7 * day,
	}
}

// A streamed is a decoded stream with what webhooks are checked against.
type streamed struct {
	typeKnown bool
	typeShown bool    // it was written as it is
	names     []entry // of fields the file gives
}

// streams decodes the streams, or gives the defaults.
func (d *decoder) streams(s *Settings, v value) []streamed {
	if !v.given() {
		for _, pair := range [][2]string{{"Lead", "leads"}, {"Appointment", "appointments"}} {
			stream := defaultStream(pair[0], pair[1])
			stream.Optional = true
			s.Streams = append(s.Streams, stream)
		}
		return []streamed{{typeKnown: true, typeShown: true}, {typeKnown: true, typeShown: true}}
	}
	s.StreamsGiven = true
	entries, ok := v.list("a list of streams")
	if !ok {
		return []streamed{{}} // of unknown types
	}
	if len(entries) == 0 {
		v.fail("is empty; leave the key out for Lead and Appointment")
		return []streamed{{}}
	}
	var all []streamed
	first := map[string]string{}
	for _, e := range entries {
		stream, more := d.stream(e)
		if more.typeKnown {
			if other, twice := first[stream.Type]; twice {
				typ := e.at("type")
				typ.fail("%s is %s's already; a type has one stream", typ.show(), other)
			} else {
				first[stream.Type] = e.path
			}
		}
		s.Streams = append(s.Streams, stream)
		all = append(all, more)
	}
	return all
}

// at is the place of a key in a mapping that was decoded before.
func (v value) at(key string) value {
	if v.n != nil && v.n.kind == mapping {
		for _, p := range v.n.pairs {
			if p.key.text == key {
				return value{d: v.d, path: keyPath(v.path, key), root: v.root, n: p.value, line: p.value.line, col: p.value.col}
			}
		}
	}
	return v
}

var typeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)

func (d *decoder) stream(v value) (Stream, streamed) {
	s := defaultStream("", "")
	var more streamed
	f, ok := v.fields("streams[]")
	if !ok {
		return s, more
	}
	if typ := f.at("type"); typ.require("write the records' type, such as Lead") {
		s.Type, more.typeKnown = typ.word("a type, such as Lead")
		more.typeShown = more.typeKnown && s.Type == typ.n.text
		if more.typeKnown && !typeForm.MatchString(s.Type) {
			typ.fail("%s is no type; it begins with a letter and has letters, digits, - _ and . only", typ.show())
		}
	}
	table, query := f.at("table"), f.at("query")
	switch {
	case table.given() && query.given():
		query.fail("is given beside table; a stream has one of them")
	case !table.given() && !query.given():
		table.fail("is missing; write table: NAME or query: SELECT …")
	}
	s.Table, _ = table.word("a table's name")
	s.Query = query.sql()
	s.ID = f.at("id").column(s.ID)
	s.Chatbot = f.at("chatbot").column(s.Chatbot)
	created := f.at("created")
	if created.empty() {
		s.Created = "" // it has none
	} else {
		s.Created = created.column(s.Created)
	}
	updated, deleted := f.at("updated"), f.at("deleted")
	s.Updated, s.Deleted = updated.columnOrNone(), deleted.columnOrNone()
	if s.Created == "" && s.Updated == "" && s.Deleted != "" {
		deleted.fail("needs updated or created beside it, and this stream has neither")
	}
	if zone, err := time.LoadLocation(f.at("created_zone").timezone("UTC")); err == nil {
		s.CreatedZone = zone
	}
	if fields := f.at("fields"); fields.given() {
		s.Fields, more.names = fields.fieldMap()
	}
	s.Where, _ = f.at("where").text("an SQL condition")
	settle := f.at("settle")
	s.Settle = settle.duration(0, 0, longest)
	cursor := f.at("cursor")
	way, known := cursor.oneOf([]string{"auto", "gaps", "created"}, "auto", "cursor")
	s.Cursor = Cursor(way)
	s.GapKeep = f.at("gap_keep").duration(s.GapKeep, time.Second, longest)
	lookback := f.at("lookback")
	s.Lookback = lookback.duration(0, 0, longest)
	versioned := s.Updated != "" || s.Deleted != ""
	if known && s.Lookback > 0 && s.Cursor != CursorCreated && !versioned {
		lookback.fail("is for cursor: created only, or beside updated and deleted")
	}
	if known && versioned && s.Cursor == CursorGaps {
		cursor.fail("%s finds new rows only, and updated and deleted are for changes; leave it out", cursor.show())
	}
	if created.empty() {
		if s.Settle > 0 {
			settle.fail("counts from created, and this stream has no such column")
		}
		if known && s.Cursor == CursorCreated && !versioned {
			cursor.fail("%s needs created, and this stream has no such column", cursor.show())
		}
	}
	return s, more
}

// empty reports whether a text was given, and is "".
func (v value) empty() bool { return v.given() && v.n.kind == scalar && v.n.text == "" }

// columnOrNone is a column that may be left out, or "".
func (v value) columnOrNone() string {
	if v.empty() {
		return ""
	}
	return v.column("")
}

func (v value) column(otherwise string) string {
	if !v.given() {
		return otherwise
	}
	s, _ := v.word("a column's name")
	return s
}

// sql is a query, which is put into brackets.
func (v value) sql() string {
	const wanted = "SELECT …"
	s, settled := v.text(wanted)
	if !settled {
		return s
	}
	switch trimmed := strings.TrimSpace(s); {
	case trimmed == "":
		v.fail("is empty; write %s", wanted)
	case strings.HasSuffix(trimmed, ";"):
		v.fail("ends in a semicolon; leave it out")
	default:
		return trimmed
	}
	return ""
}

// fieldMap decodes fields: {NAME: COLUMN, NAME: {json: COLUMN}, NAME: {const: VALUE}}.
func (v value) fieldMap() ([]Field, []entry) {
	names, ok := v.entries("NAME: COLUMN lines")
	if !ok {
		return nil, nil
	}
	var all []Field
	values, objects := map[string]bool{}, map[string]bool{}
	for _, e := range names {
		e.nested(values, objects)
		field := Field{Name: e.name}
		if e.n.kind == mapping {
			f, _ := e.fields("streams[].fields.*")
			constant, json := f.at("const"), f.at("json")
			switch {
			case constant.given() && json.given():
				json.fail("is given beside const; a field has one of them")
			case json.given():
				field.JSON = true
				field.Column = json.column("")
			case constant.require("write {const: VALUE}, {json: COLUMN}, or a column's name"):
				field.Const = constant.constant(e.name)
			}
		} else {
			field.Column, _ = e.word("a column's name or {const: VALUE}")
		}
		all = append(all, field)
	}
	return all, names
}

// nested says what is wrong with a name with dots, which is a member of an object: author.name. values and objects are
// what the names before it are, and what they are within.
func (e entry) nested(values, objects map[string]bool) {
	taken := ""
	if objects[e.name] {
		taken = e.name
	}
	for i := range len(e.name) {
		if e.name[i] == '.' {
			objects[e.name[:i]] = true
			if values[e.name[:i]] {
				taken = e.name[:i]
			}
		}
	}
	values[e.name] = true
	switch {
	case slices.Contains(strings.Split(e.name, "."), ""):
		e.key.fail("has an empty name beside a dot; write it as author.name")
	case taken != "":
		e.key.fail("%s is a value here and an object of further fields there; it can be one of them", quote(taken))
	}
}

var (
	wholeForm  = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
)

// constant is a field's fixed value. smarterbot's fields are texts, whatever the value looks like, and SessionID a
// whole number; other dialects' are what they look like.
func (v value) constant(field string) any {
	s, settled := v.text("a text or a number")
	if !settled {
		return s
	}
	n, err := strconv.ParseInt(s, 10, 64)
	whole := err == nil && wholeForm.MatchString(s)
	if field == sessionID {
		if const53 := int64(1)<<53 - 1; !whole || n > const53 || n < -const53 {
			v.fail("%s is no whole number that JSON can hold", v.show())
		}
		return n
	}
	if isSmarterbot(field) || !v.n.plain {
		return s
	}
	switch {
	case whole:
		return n
	case numberForm.MatchString(s):
		if x, err := strconv.ParseFloat(s, 64); err == nil {
			return x
		}
	case s == "true" || s == "false":
		return s == "true"
	}
	return s
}

func isSmarterbot(field string) bool {
	return slices.ContainsFunc(fieldsOf, func(f Field) bool { return f.Name == field })
}

// ours are smarterbot's other members, which are no fields.
var ours = map[string]string{"SerialNumber": "chatbot", "Type": "type", "CreateTime": "created"}

// fieldNames looks for mistyped fields: smarterbot has a fixed set, so where all webhooks that want a stream speak it
// another name would never be sent.
func (d *decoder) fieldNames(s *Settings, streams []streamed) {
	known := make([]string, len(fieldsOf))
	for i, f := range fieldsOf {
		known[i] = f.Name
	}
	for i, stream := range streams {
		if i >= len(s.Streams) || slices.ContainsFunc(s.Webhooks, func(w jobs.Webhook) bool {
			return w.WantsType(s.Streams[i].Type) && w.Dialect != smarterbot
		}) {
			continue
		}
		for _, e := range stream.names {
			if isSmarterbot(e.name) {
				continue
			}
			text := fmt.Sprintf("dialect smarterbot has no such field; its fields are %s", strings.Join(known, ", "))
			if key := ours[e.name]; key != "" {
				text = fmt.Sprintf("is no field; it is filled from the stream's %s", key)
			} else if meant := near(e.name, known); meant != "" {
				text = fmt.Sprintf("dialect smarterbot has no such field; did you mean %s?", meant)
			}
			e.key.fail("%s", text)
		}
	}
}
