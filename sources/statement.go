package sources

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// selects is the SELECT list and FROM of every statement that reads rows; key is how the id is given out.
func (s *Stream) selects(key string) string { return s.selectsAs(&s.conv, key) }

func (s *Stream) selectsAs(conv *converter, key string) string {
	eng := s.db.eng
	list := []string{eng.output(key), eng.output(eng.text(pq.QuoteIdentifier(s.cfg.Chatbot))), "null", "true"}
	if s.kind == CursorCreated {
		list[0] = eng.output(eng.text(key))
	}
	if s.cfg.Created != "" {
		list[2] = eng.output(pq.QuoteIdentifier(s.cfg.Created))
	}
	if s.cfg.Where != "" {
		list[3] = "(" + s.cfg.Where + "\n) is true"
	}
	if s.cfg.versioned() {
		deleted := "null"
		if s.cfg.Deleted != "" {
			deleted = eng.output(pq.QuoteIdentifier(s.cfg.Deleted))
		}
		list = append(list, eng.output(s.at.expr), deleted)
	}
	for i := range conv.fields {
		f := &conv.fields[i]
		if f.column == "" {
			continue
		}
		column := pq.QuoteIdentifier(f.column)
		expr := eng.output(column)
		if f.json {
			expr = eng.json(column, f.typ)
		}
		list = append(list, eng.unlessLarge(expr, column, conv.most()))
	}
	for i := range list { // or "order by id" would mean the text that is given out
		list[i] += " as leadrelay_" + strconv.Itoa(i)
	}
	if conv.reads() {
		list = append(list, s.sizes(conv)+" as "+sizeColumn)
	}
	return "select " + strings.Join(list, ", ") + " from " + s.shape.from
}

// A statement reads rows of a stream that meet all of its conditions.
type statement struct {
	s          *Stream
	conv       *converter
	conditions []string
	args       []any
	order      string
	limit      int
}

func newStatement(s *Stream) *statement { return &statement{s: s, conv: &s.conv} }

func (st *statement) add(condition string) { st.conditions = append(st.conditions, condition) }

// arg adds a value and returns its parameter.
func (st *statement) arg(v any) string {
	st.args = append(st.args, v)
	return st.s.db.eng.param(len(st.args))
}

// matching keeps to rows that meet the operator's `where`.
func (st *statement) matching() {
	if st.s.cfg.Where != "" {
		st.add("(" + st.s.cfg.Where + "\n)")
	}
}

func (st *statement) chatbots(list []string) {
	if list != nil {
		condition, args := st.s.db.eng.oneOf(pq.QuoteIdentifier(st.s.cfg.Chatbot), len(st.args)+1, list)
		st.add(condition)
		st.args = append(st.args, args...)
	}
}

func (st *statement) sql() string {
	return st.s.selectsAs(st.conv, st.s.shape.key) + " where " + strings.Join(st.conditions, " and ") +
		" order by " + st.order + " limit " + strconv.Itoa(st.limit)
}

// rows reads the rows: see Stream.rows.
func (st *statement) rows(ctx context.Context, q querier) (rows []row, cut bool, err error) {
	return st.s.rowsAs(ctx, q, st.conv, st.sql(), st.args...)
}

// A row is a record with what cursors need of it.
type row struct {
	jobs.Record
	id      int64 // gaps
	key     any   // as the database gave it
	created any   // likewise
	at      any   // what the created cursor orders by, likewise
	matches bool  // `where`
	nobody  bool  // it has no chatbot
	bytes   int   // its fields take; 0 where they were not read
}

// rows reads the rows that a statement of selects gives. cut says that their bytes filled the page, and that there may
// be more: those that were read come first in the statement's order.
func (s *Stream) rows(ctx context.Context, q querier, query string, args ...any) (rows []row, cut bool, err error) {
	return s.rowsAs(ctx, q, &s.conv, query, args...)
}

func (s *Stream) rowsAs(ctx context.Context, q querier, conv *converter, query string, args ...any) (rows []row, cut bool, err error) {
	if conv.reads() {
		query = s.db.eng.bounded(query, conv)
	}
	rs, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, masked(err)
	}
	defer rs.Close()
	values := make([]any, conv.columns(), conv.columns()+1)
	if conv.reads() {
		values = append(values, nil)
	}
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	bytes := 0
	for bytes < pageBytes && rs.Next() {
		if err := rs.Scan(into...); err != nil {
			return nil, false, err
		}
		r := conv.row(values)
		bytes += r.bytes
		rows = append(rows, r)
	}
	return rows, bytes >= pageBytes, masked(rs.Err())
}

// records appends what may be given out of rows to list.
func (s *Stream) records(list []jobs.Record, rows []row, matching bool) []jobs.Record {
	list = slices.Grow(list, len(rows))
	for i := range rows {
		if !rows[i].nobody && (rows[i].matches || !matching) {
			list = append(list, rows[i].Record)
		}
	}
	return list
}
