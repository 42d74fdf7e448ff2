package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Stream is the records of one type in one table or query. It implements jobs.Source.
type Stream struct {
	db     *Database
	cfg    Config
	shape  *shape
	cursor cursor
	kind   string  // CursorGaps or CursorCreated
	at     instant // that the created cursor orders rows by
	conv   converter
	bare   converter // without fields

	prepareds prepareds
	scanned   atomic.Uint64 // the wake's count when the last scan began
}

var _ jobs.Source = (*Stream)(nil)

// A cursor finds new rows.
type cursor interface {
	end(ctx context.Context) (jobs.Bookmark, error)
	// after is Source.After. A peek leaves no trace in when things were last looked for.
	after(ctx context.Context, b jobs.Bookmark, limit int, peek bool) (jobs.Page, error)
	older(ctx context.Context, at, until jobs.Bookmark, f filter, limit int) (jobs.Page, error)
	// count counts what older would give in all; not ok: only reading it all would tell.
	count(ctx context.Context, until jobs.Bookmark, f filter) (n int, ok bool, err error)
	past(b jobs.Bookmark, rec *jobs.Record) (bool, error)
	describe(b jobs.Bookmark) (position string, gaps int)
	at(ctx context.Context, id string) (jobs.Bookmark, error)
	// scanSQL is a statement whose plan shows whether an index serves the scans.
	scanSQL() (query string, args []any)
	// latest orders rows so that the newest come first.
	latest() string
}

// A missingError says which table or columns the database does not have.
type missingError struct {
	table   string
	columns []usedColumn
}

func (e *missingError) Error() string {
	if len(e.columns) == 0 {
		return fmt.Sprintf("there is no table %q, or this user may not see it", e.table)
	}
	var names []string
	for _, c := range e.columns {
		names = append(names, fmt.Sprintf("%q (%s)", c.name, c.use))
	}
	what := "column"
	if len(names) > 1 {
		what = "columns"
	}
	if e.table == "" {
		return fmt.Sprintf("the query gives no %s %s", what, strings.Join(names, ", "))
	}
	return fmt.Sprintf("table %q has no %s %s", e.table, what, strings.Join(names, ", "))
}

// IsMissing reports whether err says that a stream's table does not exist. A table that lacks columns is there: leaving
// its stream out would leave its rows unsent.
func IsMissing(err error) bool {
	missing, ok := errors.AsType[*missingError](err)
	return ok && len(missing.columns) == 0
}

// Stream opens a stream: it looks at the table or query and settles on the cursor. Errors name the stream and what is
// wrong; IsUnavailable says which of them may pass, IsMissing that the table is not there.
func (d *Database) Stream(ctx context.Context, cfg Config) (*Stream, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Stream{db: d, cfg: cfg}
	err := d.eng.read(ctx, func(q querier) (err error) {
		if s.shape, err = d.eng.inspect(ctx, q, &cfg); err != nil {
			return err
		}
		if err := missingColumns(&cfg, s.shape); err != nil {
			return err
		}
		return s.choose(ctx, q)
	})
	if err != nil {
		return nil, s.wrap("open", err)
	}
	return s, nil
}

func missingColumns(cfg *Config, sh *shape) error {
	var missing []usedColumn
	for _, c := range cfg.columns() {
		if _, ok := sh.columnType(c.name); !ok {
			missing = append(missing, c)
		}
	}
	if missing == nil {
		return nil
	}
	return &missingError{cfg.Table, missing}
}

// choose settles on the cursor and what goes with it.
func (s *Stream) choose(ctx context.Context, q querier) error {
	s.kind = s.cfg.Cursor
	if s.kind == CursorAuto {
		s.kind = CursorCreated
		if s.shape.integerKey {
			s.kind = CursorGaps
		}
	}
	switch {
	case s.cfg.versioned():
		var err error
		if s.at, err = s.db.eng.changed(s.shape, &s.cfg); err != nil {
			return err
		}
	case s.kind == CursorCreated && s.cfg.Created == "":
		return fmt.Errorf("its ids come from no sequence, so cursor created applies, and that needs a created column")
	case s.kind == CursorCreated:
		s.at = createdInstant(s.shape, &s.cfg)
	}
	s.conv = newConverter(s.db.eng, s.shape, &s.cfg, s.kind, s.at)
	s.bare = s.conv
	s.bare.fields = nil
	if s.kind == CursorGaps {
		return s.byGaps(ctx, q)
	}
	return s.byCreated(ctx, q)
}

// Type is the type of the stream's records.
func (s *Stream) Type() string { return s.cfg.Type }

// Cursor is CursorGaps or CursorCreated: what auto came to.
func (s *Stream) Cursor() string { return s.kind }

// Versioned reports whether the rows' changes are records too.
func (s *Stream) Versioned() bool { return s.cfg.versioned() }

// Settle is how long after its creation a record is pushed at the earliest.
func (s *Stream) Settle() time.Duration { return s.cfg.Settle }

// Definition changes when a bookmark would mean something else. What a query says is part of it under the gaps cursor
// alone: its ids may be another table's, while times stay times.
func (s *Stream) Definition() string {
	from := s.cfg.Table
	if s.cfg.Query != "" {
		from = "query"
		if s.kind == CursorGaps {
			from += fmt.Sprintf(" %016x", hashKey(strings.Join(strings.Fields(s.cfg.Query), " ")))
		}
	}
	definition := strings.Join([]string{s.db.eng.name(), s.kind, from, s.cfg.ID}, " ")
	if s.kind == CursorCreated {
		definition += " " + s.cfg.Created
	}
	if s.cfg.versioned() { // columns may have any name, but "" none has
		definition += fmt.Sprintf(" updated %q deleted %q", s.cfg.Updated, s.cfg.Deleted)
	}
	return definition
}

// End implements jobs.Source.
func (s *Stream) End(ctx context.Context) (jobs.Bookmark, error) {
	b, err := s.cursor.end(ctx)
	return b, s.wrap("find the end", err)
}

// At is the position behind the row with this id, for `stream reset`: rows past it are read again.
func (s *Stream) At(ctx context.Context, id string) (jobs.Bookmark, error) {
	b, err := s.cursor.at(ctx, id)
	return b, s.wrap("find row "+id, err)
}

// After implements jobs.Source.
func (s *Stream) After(ctx context.Context, b jobs.Bookmark, limit int) (jobs.Page, error) {
	count := s.db.wake.now()
	p, err := s.cursor.after(ctx, b, limit, false)
	if err == nil {
		s.scanned.Store(count)
	}
	return p, s.wrap("read new rows", err)
}

// Wait implements jobs.Source.
func (s *Stream) Wait(ctx context.Context, poll time.Duration) error {
	count := s.db.wake.now()
	if err := s.db.wake.wait(ctx, s.scanned.Load(), poll); err != nil {
		return err
	}
	s.scanned.Store(count) // a caller that does not scan waits for the next occasion
	return nil
}

// A filter narrows what older returns.
type filter struct {
	chatbots []string // nil: all
	since    time.Time
	before   time.Time // zero: no such bound
	bare     bool      // records without fields
}

func newFilter(chatbots []string, since, before time.Time) filter {
	if slices.Equal(chatbots, []string{jobs.AllChatbots}) {
		chatbots = nil
	}
	return filter{chatbots: chatbots, since: since, before: before}
}

// passes reports whether a row's creation lies within the bounds; its chatbot was asked for in SQL.
func (f *filter) passes(r *row) bool {
	return r.Created.IsZero() || !r.Created.Before(f.since) && (f.before.IsZero() || r.Created.Before(f.before))
}

// Older implements jobs.Source.
func (s *Stream) Older(ctx context.Context, at, until jobs.Bookmark, chatbots []string, since, before time.Time, limit int) (jobs.Page, error) {
	if chatbots != nil && len(chatbots) == 0 || until == "" {
		return jobs.Page{Bookmark: at, Drained: true}, nil
	}
	p, err := s.cursor.older(ctx, at, until, newFilter(chatbots, since, before), limit)
	return p, s.wrap("read older rows", err)
}

// CountOlder implements jobs.Source.
func (s *Stream) CountOlder(ctx context.Context, until jobs.Bookmark, chatbots []string, since, before time.Time) (int, error) {
	if chatbots != nil && len(chatbots) == 0 || until == "" {
		return 0, nil
	}
	f := newFilter(chatbots, since, before)
	f.bare = true
	count, ok, err := s.cursor.count(ctx, until, f)
	if ok || err != nil {
		return count, s.wrap("count older rows", err)
	}
	for at, drained := jobs.Bookmark(""), false; !drained; {
		p, err := s.cursor.older(ctx, at, until, f, 5000)
		if err != nil {
			return 0, s.wrap("count older rows", err)
		}
		count += len(p.Records)
		at, drained = p.Bookmark, p.Drained
	}
	return count, nil
}

// Past implements jobs.Source.
func (s *Stream) Past(b jobs.Bookmark, rec *jobs.Record) (bool, error) {
	past, err := s.cursor.past(b, rec)
	return past, s.wrap("place a record", err)
}

// Describe implements jobs.Source. The position is an id that `stream reset` takes, or a time; a bookmark that cannot
// be read is described as "unreadable".
func (s *Stream) Describe(b jobs.Bookmark) (position string, gaps int) { return s.cursor.describe(b) }

// Lag implements jobs.Source. Rows without a time have no age; a changed one's is that of the change.
func (s *Stream) Lag(ctx context.Context, b jobs.Bookmark) (time.Duration, error) {
	p, err := s.cursor.after(ctx, b, 500, true)
	if err != nil {
		return 0, s.wrap("read its lag", err)
	}
	var oldest time.Time
	for i := range p.Records {
		if at := s.sight(&p.Records[i]).at; !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return 0, nil
	}
	return max(0, s.db.now().Sub(oldest)), nil
}

// readAtOnce is how many keys a statement of Read names at most.
const readAtOnce = 500

// Read implements jobs.Source.
func (s *Stream) Read(ctx context.Context, keys []string) (records []jobs.Record, left []string, err error) {
	keys, left = keys[:min(len(keys), readAtOnce)], keys[min(len(keys), readAtOnce):]
	condition, args := s.db.eng.byKey(s.shape, &s.cfg, keys)
	var rows []row
	var cut bool
	err = s.db.eng.read(ctx, func(q querier) (err error) {
		rows, cut, err = s.rows(ctx, q, s.selects(s.shape.key)+" where "+condition, args...)
		return err
	})
	if err != nil {
		return nil, nil, s.wrap("read rows again", err)
	}
	if cut {
		left = append(without(keys, rows), left...)
	}
	return s.records(nil, rows, false), left, nil
}

// without are the keys that are not these rows'; none where that would be all: then no key is one of a row.
func without(keys []string, rows []row) []string {
	read := make(map[string]bool, len(rows))
	for i := range rows {
		read[rows[i].Row] = true
	}
	var left []string
	for _, key := range keys {
		if !read[key] {
			left = append(left, key)
		}
	}
	if len(left) == len(keys) {
		return nil
	}
	return left
}

// Latest returns the keys of the newest n rows, whatever they are: what `check` tries to encode. Rows that belong to
// nobody are left out.
func (s *Stream) Latest(ctx context.Context, n int) (keys []string, err error) {
	rows, err := s.latest(ctx, &s.bare, n)
	for i := range rows {
		if !rows[i].nobody {
			keys = append(keys, rows[i].Row)
		}
	}
	return keys, err
}

// latest reads the newest n rows, or as many as a page may hold.
func (s *Stream) latest(ctx context.Context, conv *converter, n int) (rows []row, err error) {
	err = s.db.eng.read(ctx, func(q querier) (err error) {
		rows, _, err = s.rowsAs(ctx, q, conv, fmt.Sprintf("%s %s limit %d", s.selectsAs(conv, s.shape.key), s.cursor.latest(), n))
		return err
	})
	return rows, s.wrap("read the latest rows", err)
}

func (s *Stream) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stream %s: %s: %w", s.cfg.Type, doing, masked(err))
}
