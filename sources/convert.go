package sources

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A converter makes rows of what a driver scanned: key, chatbot, creation time, whether `where` holds, in a stream with
// versions when the row changed and what marks it as deleted, and the fields' columns.
type converter struct {
	cfg     *Config
	created string // type of the column
	changed string // type of what says when a row changed
	strict  bool   // text must begin as a date to be a time that rows are ordered by: see sqlite.dating
	fields  []fieldOf
}

type fieldOf struct {
	name     string
	column   string // "": constant
	typ      string
	json     bool
	constant any
}

func newConverter(eng engine, sh *shape, cfg *Config, kind string, at instant) converter {
	c := converter{cfg: cfg, strict: eng.name() == "sqlite" && kind == CursorCreated, changed: at.typ}
	if eng.name() == "postgres" {
		c.created, _ = sh.columnType(cfg.Created)
	}
	for _, m := range cfg.Fields {
		typ, _ := sh.columnType(m.Column)
		f := fieldOf{name: m.Name, column: m.Column, constant: m.Const, json: m.Column != "" && (m.JSON || isJSON(typ))}
		if n, ok := m.Const.(int); ok {
			f.constant = int64(n)
		}
		if eng.name() == "postgres" {
			f.typ = typ
		}
		c.fields = append(c.fields, f)
	}
	return c
}

// before counts the columns before the fields'.
func (c *converter) before() int {
	if c.cfg.versioned() {
		return 6
	}
	return 4
}

// columns counts all columns but the size.
func (c *converter) columns() int {
	n := c.before()
	for i := range c.fields {
		if c.fields[i].column != "" {
			n++
		}
	}
	return n
}

// reads reports whether fields are read; then rows have a size, behind all other columns.
func (c *converter) reads() bool { return c.columns() > c.before() }

// most is how many bytes a row's fields may take.
func (c *converter) most() int { return cmp.Or(c.cfg.MaxBody, jobs.MaxBody) }

func (c *converter) row(values []any) row {
	r := row{Record: jobs.Record{Type: c.cfg.Type, Action: jobs.ActionCreate}, key: values[0], created: values[2], at: values[2]}
	if id, ok := values[0].(int64); ok {
		r.id = id
	}
	r.Row = keyText(values[0])
	r.nobody = values[1] == nil
	r.Chatbot = keyText(values[1])
	switch m := values[3].(type) {
	case bool:
		r.matches = m
	case int64:
		r.matches = m != 0
	}
	t, ok := c.read(values[2], c.created, c.strict && !c.cfg.versioned())
	r.Created = t
	if !ok {
		r.Err = fmt.Errorf("%w: column %s holds no time", jobs.ErrEncode, c.cfg.Created)
	}
	if c.cfg.versioned() {
		r.at = values[4]
		changed, _ := c.time(values[4], c.changed)
		version(&r.Record, changed)
		if isDeleted(values[5]) {
			r.Action = jobs.ActionRemove
		}
	}
	if c.reads() {
		size, _ := values[len(values)-1].(int64)
		if size > int64(c.most()) {
			r.Err = &jobs.TooLargeError{What: "its fields take", Bytes: int(size), Most: c.most()}
			return r
		}
		r.bytes = int(size)
	}
	r.Fields = make([]jobs.Field, len(c.fields))
	next := c.before()
	for i := range c.fields {
		f := &c.fields[i]
		value := f.constant
		if f.column != "" {
			if value = values[next]; f.json {
				value = jsonValue(value)
			} else {
				value = fieldValue(value, f.typ)
			}
			next++
		}
		r.Fields[i] = jobs.Field{Name: f.name, Value: value}
	}
	return r
}

// time reads the time that rows are ordered by, of a type; the zero Time is NULL.
func (c *converter) time(v any, typ string) (time.Time, bool) { return c.read(v, typ, c.strict) }

// read reads a time; strict: text must begin as a date.
func (c *converter) read(v any, typ string, strict bool) (time.Time, bool) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, true
	case time.Time:
		if typ != "timestamptz" { // its clock's hands were read as UTC
			v = time.Date(v.Year(), v.Month(), v.Day(), v.Hour(), v.Minute(), v.Second(), v.Nanosecond(), c.cfg.zone())
		}
		return inYears(v)
	case int64:
		return unixTime(v)
	case float64:
		return unixFloat(v)
	case string:
		return c.timeText(v, strict)
	case []byte:
		return c.timeText(string(v), strict)
	}
	return time.Time{}, false
}

func (c *converter) timeText(s string, strict bool) (time.Time, bool) {
	if strict && !isDate(s) {
		return time.Time{}, false
	}
	return parseTime(s, c.cfg.zone())
}

// keyText is a key or a chatbot as text: numbers in decimal, blobs in hexadecimal. PostgreSQL casts its own.
func keyText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		return hex.EncodeToString(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return ""
}

// fieldValue is a driver's value as a Field has it. Times are text in the form that CreateTime has, or as PostgreSQL
// writes them where they have no zone; blobs are text; decimals are numbers where that loses nothing.
func fieldValue(v any, typ string) any {
	switch v := v.(type) {
	case nil, int64, bool:
		return v
	case string:
		if typ == "bpchar" { // char(n): the blanks that fill it up mean nothing
			return strings.TrimRight(v, " ")
		}
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // no number in JSON
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
		return v
	case []byte:
		if typ == "numeric" {
			return decimal(string(v))
		}
		return string(v)
	case time.Time:
		if typ == "timestamptz" {
			return v.UTC().Format("2006-01-02T15:04:05.000000Z")
		}
		return v.Format(timeLayout(typ))
	}
	return fmt.Sprint(v)
}

func timeLayout(typ string) string {
	switch typ {
	case "date":
		return "2006-01-02"
	case "time":
		return "15:04:05.999999"
	case "timetz":
		return "15:04:05.999999Z07:00"
	}
	return "2006-01-02 15:04:05.999999"
}

// decimal is an int64 where s is a whole number that fits, a float64 where that prints as s does, and else s.
func decimal(s string) any {
	whole, frac, _ := strings.Cut(s, ".")
	if strings.Trim(frac, "0") == "" {
		if n, err := strconv.ParseInt(whole, 10, 64); err == nil {
			return n
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && !math.IsNaN(f) && strconv.FormatFloat(f, 'f', -1, 64) == strings.TrimRight(s, "0") {
		return f
	}
	return s
}
