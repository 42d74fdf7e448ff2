package sources

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lib/pq"
)

// pageBytes is about how much of fields a read gives at once. A page ends with the row that passes it, so that one row
// more may be on it. Rows that are too large count nothing: their fields are not read.
const pageBytes = 8 << 20

// sizeColumn gives out how many bytes a row's fields take, behind all other columns.
const sizeColumn = "leadrelay_size"

// A size is in bytes of the text that a field gives; PostgreSQL says it of a text and of bytea without looking at the
// value, which may be compressed and stand elsewhere. What is always small has none.
func (p *postgres) size(expr, typ string) string {
	switch typ {
	case "bool", "int2", "int4", "int8", "float4", "float8", "date", "time", "timetz", "timestamp", "timestamptz", "uuid", "name", "oid":
		return ""
	case "text", "varchar", "bytea":
	default: // the blanks that fill up a char(n) are no part of its text
		expr = "(" + expr + ")::text"
	}
	return "coalesce(octet_length(" + expr + "), 0)::int8"
}

// bounded has PostgreSQL itself end the page: what it has begun to send is sent to the end. Until the outermost list,
// values go from one list to the next as pointers to where they stand.
func (p *postgres) bounded(query string, c *converter) string {
	most := strconv.Itoa(c.most())
	list := make([]string, c.before(), c.columns())
	for i := range list {
		list[i] = "leadrelay_" + strconv.Itoa(i)
	}
	for i := range c.fields {
		if c.fields[i].column != "" {
			list = append(list, fmt.Sprintf("case when %s <= %s then leadrelay_%d end", sizeColumn, most, len(list)))
		}
	}
	list = append(list, sizeColumn)
	// Without an order of its own a window takes the rows in the order in which they come.
	return "select " + strings.Join(list, ", ") + ` from (
select *, coalesce(sum(case when ` + sizeColumn + " <= " + most + " then " + sizeColumn + `::int4 end)
	over (rows between unbounded preceding and 1 preceding), 0) as leadrelay_before
from (` + query + `) as leadrelay_rows) as leadrelay_page where leadrelay_before < ` + strconv.Itoa(pageBytes)
}

func (p *postgres) unlessLarge(expr, _ string, _ int) string { return expr }

// A size on SQLite: it reads no value to say this of a column.
func (s *sqlite) size(column, _ string) string { return "ifnull(octet_length(" + column + "), 0)" }

// unlessLarge leaves out a value that is too large by itself; the driver would copy it.
func (s *sqlite) unlessLarge(expr, column string, most int) string {
	return fmt.Sprintf("case when octet_length(%s) <= %d then %s end", column, most, expr)
}

// bounded needs nothing: SQLite reads a row when it is asked for the next.
func (s *sqlite) bounded(query string, _ *converter) string { return query }

// sizes is the expression of a row's size.
func (s *Stream) sizes(c *converter) string {
	sizes := []string{"0"}
	for i := range c.fields {
		f := &c.fields[i]
		if f.column == "" {
			continue
		}
		expr := pq.QuoteIdentifier(f.column)
		if f.json && s.db.eng.name() == "postgres" {
			expr = s.db.eng.json(expr, f.typ)
		}
		if size := s.db.eng.size(expr, f.typ); size != "" {
			sizes = append(sizes, size)
		}
	}
	return strings.Join(sizes, " + ")
}
