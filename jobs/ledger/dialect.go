package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/lib/pq"
)

// The statements of this package are written once, in PostgreSQL's words and without schemas. These rewrites make them
// SQLite's. They hold by convention: a batch (unnest) is named with `as`, its parameters are the statement's last, and on
// SQLite they are one parameter, a JSON array of rows.
var rewrites = []struct {
	from *regexp.Regexp
	to   func(groups []string) string
}{
	{regexp.MustCompile(`unnest\(\$(\d+)[^)]*\)\s+as (\w+)\(([^)]*)\)`), func(g []string) string {
		var cols []string
		for i, name := range strings.Split(g[3], ",") {
			cols = append(cols, "value->>"+strconv.Itoa(i)+" as "+strings.TrimSpace(name))
		}
		return "(select " + strings.Join(cols, ", ") + " from json_each($" + g[1] + ")) as " + g[2]
	}},
	{regexp.MustCompile(`= any\(\$(\d+)::\w+\[\]\)`), func(g []string) string {
		return "in (select value from json_each($" + g[1] + "))"
	}},
	{regexp.MustCompile(`<> all\(\$(\d+)::\w+\[\]\)`), func(g []string) string {
		return "not in (select value from json_each($" + g[1] + "))"
	}},
	// The one writer holds the whole file.
	{regexp.MustCompile(`\s+for (?:update|key share)(?: skip locked| nowait)?`), func([]string) string { return "" }},
	{regexp.MustCompile(`\bgreatest\(`), func([]string) string { return "max(" }},
	{regexp.MustCompile(`(\$\d+)::\w+`), func(g []string) string { return g[1] }},
}

// named finds the ledger's tables in a statement, to put their schema before them: no session's search_path names it.
var named = regexp.MustCompile(`\b(from|join|into|update|using)(\s+)` +
	`(attempts|deliveries|due|leases|registry|row_versions|runs|schedules|streams|subscriptions|tallies|tokens|webhooks|` + versions + `)\b`)

// text is a statement in the words of the ledger's database.
func (l *Ledger) text(statement string) string {
	if !l.lite {
		return named.ReplaceAllString(statement, "$1$2"+strings.ReplaceAll(l.schema, "$", "$$")+".$3")
	}
	for _, r := range rewrites {
		statement = r.from.ReplaceAllStringFunc(statement, func(s string) string {
			return r.to(r.from.FindStringSubmatch(s))
		})
	}
	return statement
}

// A statement is prepared on SQLite when the ledger is opened, so that a transaction never waits for a second connection
// to prepare one, and that a mistake in it shows at once. PostgreSQL gets its text each time, and plans it each time: a
// table grows a thousandfold within one connection's life, and a plan made while it was empty reads it whole.
type statement struct {
	text     string
	number   int
	postgres bool // only there
}

var statements []*statement

func sqlText(text string) *statement {
	s := &statement{text: text, number: len(statements)}
	statements = append(statements, s)
	return s
}

// postgresOnly is a statement that no rewrite can make SQLite's.
func postgresOnly(text string) *statement {
	s := sqlText(text)
	s.postgres = true
	return s
}

func (l *Ledger) prepare(ctx context.Context) error {
	for _, s := range statements {
		text := l.text(s.text)
		if !l.lite {
			l.texts = append(l.texts, text)
			continue
		}
		var write, read *sql.Stmt
		if !s.postgres {
			var err error
			if write, err = l.write.PrepareContext(ctx, text); err != nil {
				return fmt.Errorf("prepare %q: %w", text, err)
			}
			if read, err = l.read.PrepareContext(ctx, text); err != nil {
				return fmt.Errorf("prepare %q: %w", text, err)
			}
		}
		l.writing, l.reading = append(l.writing, write), append(l.reading, read)
	}
	return nil
}

// arg gives a value as the database takes it: times to the microsecond, zero as null, lists as arrays.
func (l *Ledger) arg(v any) any {
	switch v := v.(type) {
	case time.Time:
		switch {
		case v.IsZero():
			return nil
		case l.lite:
			return v.UnixMicro()
		}
		return v.UTC().Truncate(time.Microsecond)
	case time.Duration:
		return v.Microseconds()
	case uuid.UUID:
		return v.String()
	case string:
		return clean(v)
	case list:
		return v.String()
	case []string:
		cleaned := make([]string, len(v)) // of none, not null
		for i, text := range v {
			cleaned[i] = clean(text)
		}
		if l.lite {
			return list{&cleaned}.String()
		}
		return pq.Array(cleaned)
	}
	return v
}

// clean makes any text one that both databases store: a foreign database's text may be no UTF-8, and one record's
// odd key must not stop its stream.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// instant scans a time of either database; null is the zero time.
type instant struct{ *time.Time }

func (t instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*t.Time = time.Time{}
	case int64:
		*t.Time = time.UnixMicro(v).UTC()
	case time.Time:
		*t.Time = v.UTC()
	default:
		return fmt.Errorf("a %T in the ledger is no time", v)
	}
	return nil
}

// list stores and scans a list of texts as JSON; nil and empty stay apart.
type list struct{ texts *[]string }

func (l list) String() string {
	text, _ := json.Marshal(*l.texts, json.FormatNilSliceAsNull(true), jsontext.AllowInvalidUTF8(true)) // it cannot fail
	return string(text)
}

func (l list) Scan(v any) error {
	*l.texts = nil
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), l.texts)
	case []byte:
		return json.Unmarshal(v, l.texts)
	}
	return fmt.Errorf("a %T in the ledger is no list", v)
}

// A batch collects the rows of one statement, a value a call, for `unnest($1::text[], …) as e(…)`. It must not be
// empty. Writing text by hand costs a fifth of what boxing each value for database/sql does.
type batch interface {
	text(s string)
	id(u uuid.UUID)
	number(n int64)
	flag(b bool)
	time(t time.Time) // zero is null
	end()             // of a row
	args() []any      // one a column, or one for all
}

func (l *Ledger) batch(rows int) batch {
	if l.lite {
		return &jsonRows{buf: append(make([]byte, 0, rows*256), '[')}
	}
	return &columns{rows: rows}
}

// columns writes PostgreSQL array literals, one a column.
type columns struct {
	cols [][]byte
	col  int
	rows int
}

func (c *columns) next() *[]byte {
	if c.col == len(c.cols) {
		c.cols = append(c.cols, append(make([]byte, 0, c.rows*16), '{'))
	} else {
		c.cols[c.col] = append(c.cols[c.col], ',')
	}
	c.col++
	return &c.cols[c.col-1]
}

func (c *columns) text(s string) {
	b := c.next()
	*b = append(*b, '"')
	for s = clean(s); ; {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			break
		}
		*b = append(append(*b, s[:i]...), '\\', s[i])
		s = s[i+1:]
	}
	*b = append(append(*b, s...), '"')
}

func (c *columns) id(u uuid.UUID) { b := c.next(); t, _ := u.MarshalText(); *b = append(*b, t...) }
func (c *columns) number(n int64) { b := c.next(); *b = strconv.AppendInt(*b, n, 10) }
func (c *columns) flag(v bool)    { b := c.next(); *b = strconv.AppendBool(*b, v) }
func (c *columns) end()           { c.col = 0 }
func (c *columns) time(t time.Time) {
	b := c.next()
	if t.IsZero() {
		*b = append(*b, "NULL"...)
		return
	}
	*b = append(t.UTC().AppendFormat(append(*b, '"'), "2006-01-02 15:04:05.999999Z"), '"')
}

func (c *columns) args() []any {
	args := make([]any, len(c.cols))
	for i, col := range c.cols {
		args[i] = string(append(col, '}'))
	}
	return args
}

// jsonRows writes a JSON array of arrays, for SQLite's json_each.
type jsonRows struct {
	buf    []byte
	within bool // a row has begun
}

func (j *jsonRows) next() {
	switch {
	case j.within:
		j.buf = append(j.buf, ',')
	case len(j.buf) > 1:
		j.buf = append(j.buf, ',', '[')
	default:
		j.buf = append(j.buf, '[')
	}
	j.within = true
}

func (j *jsonRows) text(s string) {
	j.next()
	j.buf, _ = jsontext.AppendQuote(j.buf, clean(s)) // valid UTF-8: it cannot fail
}

func (j *jsonRows) id(u uuid.UUID) { j.text(u.String()) }
func (j *jsonRows) number(n int64) { j.next(); j.buf = strconv.AppendInt(j.buf, n, 10) }
func (j *jsonRows) flag(v bool)    { j.next(); j.buf = strconv.AppendBool(j.buf, v) }
func (j *jsonRows) end()           { j.buf = append(j.buf, ']'); j.within = false }
func (j *jsonRows) args() []any    { return []any{string(append(j.buf, ']'))} }
func (j *jsonRows) time(t time.Time) {
	if t.IsZero() {
		j.next()
		j.buf = append(j.buf, "null"...)
		return
	}
	j.number(t.UnixMicro())
}
