package sources

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
)

// Cursors that a Config may name.
const (
	CursorAuto    = "auto"    // gaps where it applies, created elsewhere
	CursorGaps    = "gaps"    // integer keys from a sequence
	CursorCreated = "created" // any key, by the creation time
)

// DefaultGapKeep is how long a skipped id is looked for where the configuration does not say.
const DefaultGapKeep = 7 * 24 * time.Hour

// A Config says where the records of one stream stand. Table and Query exclude each other.
type Config struct {
	Type        string         // of its records, such as "Lead"
	Table       string         // may be schema-qualified; each part is quoted, so it is written as it is stored
	Query       string         // the operator's own SELECT; the names below are its columns
	ID          string         // column of the row's key
	Chatbot     string         // column of the chatbot; rows where it is NULL are passed over
	Created     string         // column of the creation time; "": the stream has none
	Updated     string         // column of the time of the last change, NULL before the first; "": none tells of changes
	Deleted     string         // column that marks rows as deleted: all but NULL, false, 0 and "" do; "": none does
	CreatedZone *time.Location // of times without a zone; nil: UTC
	Fields      []Mapping      // in the order they have in records
	Where       string         // the operator's own SQL expression; ""
	Settle      time.Duration
	Cursor      string        // CursorAuto ("" too), CursorGaps or CursorCreated
	GapKeep     time.Duration // gaps: how long a skipped id is looked for; 0: DefaultGapKeep
	MaxBody     int           // bytes that a row's fields may take: see jobs.TooLargeError; 0: jobs.MaxBody
	Lookback    time.Duration // created: rows may become visible this long after their creation time
}

// A Mapping gives one field of a record its value.
type Mapping struct {
	Name   string // on the wire
	Column string // "": the constant
	JSON   bool   // the column holds JSON texts, though its type may not say so
	Const  any    // nil, string, bool, or a number
}

// versioned reports whether the rows' changes are records too. Whether updated or deleted is named is the same to the
// cursor: rows are ordered by their last change.
func (c *Config) versioned() bool { return c.Updated != "" || c.Deleted != "" }

// wants is the cursor that is asked for.
func (c *Config) wants() string {
	switch {
	case c.versioned():
		return CursorCreated
	case c.Cursor == "":
		return CursorAuto
	}
	return c.Cursor
}

// validate finds what is wrong with c whatever the database holds, and fills in what was left out.
func (c *Config) validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("stream "+c.Type+": "+format, args...))
	}
	if c.Type == "" {
		errs = append(errs, errors.New("a stream has no type"))
	}
	if (c.Table == "") == (c.Query == "") {
		wrong("needs a table or a query, and not both")
	}
	if c.ID == "" {
		wrong("names no id column")
	}
	if c.Chatbot == "" {
		wrong("names no chatbot column")
	}
	switch c.Cursor {
	case "", CursorAuto, CursorCreated:
	case CursorGaps:
		if c.versioned() {
			wrong("cursor gaps finds new rows only; leave it out beside updated and deleted")
		}
	default:
		wrong("cursor %q is none of auto, gaps, created", c.Cursor)
	}
	c.Cursor = c.wants()
	switch {
	case c.Created != "":
	case c.versioned() && c.Updated == "":
		wrong("deleted needs a created or an updated column")
	case c.Cursor == CursorCreated && !c.versioned():
		wrong("cursor created needs a created column")
	}
	if c.Settle < 0 || c.GapKeep < 0 || c.Lookback < 0 {
		wrong("settle, gap_keep and lookback cannot be negative")
	}
	if c.GapKeep == 0 {
		c.GapKeep = DefaultGapKeep
	}
	for _, m := range c.Fields {
		switch m.Const.(type) {
		case nil, string, bool, int, int64, float64:
		default:
			wrong("field %s: a constant is text, a number or a truth value", m.Name)
		}
	}
	return errors.Join(errs...)
}

func (c *Config) zone() *time.Location {
	if c.CreatedZone == nil {
		return time.UTC
	}
	return c.CreatedZone
}

// columns are the names that the table or query must have, each once, with what uses it.
func (c *Config) columns() []usedColumn {
	var used []usedColumn
	add := func(name, use string) {
		if name == "" {
			return
		}
		for _, u := range used {
			if u.name == name {
				return
			}
		}
		used = append(used, usedColumn{name, use})
	}
	add(c.ID, "id")
	add(c.Chatbot, "chatbot")
	add(c.Created, "created")
	add(c.Updated, "updated")
	add(c.Deleted, "deleted")
	for _, m := range c.Fields {
		add(m.Column, "field "+m.Name)
	}
	return used
}

type usedColumn struct{ name, use string }

// quoteName quotes a table's name part by part. Parts may come quoted already, as for a name that holds a dot.
func quoteName(name string) string {
	parts := splitName(name)
	for i, p := range parts {
		parts[i] = pq.QuoteIdentifier(p)
	}
	return strings.Join(parts, ".")
}

// splitName is a table's name in parts, without quotes.
func splitName(name string) []string {
	var parts []string
	var part strings.Builder
	quoted := false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '"' && quoted && i+1 < len(name) && name[i+1] == '"':
			part.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == '.' && !quoted:
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	return append(parts, part.String())
}
