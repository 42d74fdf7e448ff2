package sources

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// A gapsCursor finds rows by an integer key that a sequence feeds. A transaction takes its id before it commits, so
// rows become visible out of order; but every id that is missing below the highest seen was either rolled back or is
// still to come, and is looked for until gap_keep has passed. Nothing else is assumed: neither clocks nor what
// transactions are open.
//
// A page is read without `where`, and rows that fail it are dropped here: the id is then seen, and leaves no gap.
//
// On SQLite a transaction takes its id while it alone may write, so ids become visible in order and there are no gaps.
type gapsCursor struct {
	s      *Stream
	tracks bool // gaps are kept

	pageSQL, gapsSQL, walkSQL string
	idCast                    string
	dating                    *dating // PostgreSQL, where created is a time

	step    atomic.Int64 // the sequence's increment
	offGrid atomic.Bool  // ids were seen that are not in whole increments
	marks   cache[*gapsMark]

	mu         sync.Mutex
	looked     time.Time // when gaps were last looked up
	lookedFull time.Time // old ones, too
}

const (
	// While pages are full, gaps can wait a moment: a backlog of pages is not to look up all of them for each.
	lookEvery = time.Second
	// A gap that is older than this is rarely filled, and thousands of rolled-back ids are to cost nothing.
	gapYoung      = 10 * time.Minute
	lookFullEvery = time.Minute
	// How many pages of rows that all fail `where` are read before the caller may note the bookmark.
	emptyPages = 20
)

func (s *Stream) byGaps(ctx context.Context, q querier) error {
	if t, _ := s.shape.columnType(s.cfg.ID); s.db.eng.name() == "postgres" && s.shape.keyType != "int8" {
		return fmt.Errorf("cursor gaps needs an integer id, and column %q is %s", s.cfg.ID, t)
	}
	if s.shape.sequence != nil && s.shape.sequence.increment < 0 {
		return fmt.Errorf("cursor gaps needs ids that grow, and sequence %s counts down: use cursor: created", s.shape.sequence.name)
	}
	c := &gapsCursor{s: s, tracks: s.db.eng.name() == "postgres"}
	s.cursor = c
	id, param := s.shape.key, s.db.eng.param
	if c.tracks { // or the type would be the column's, and ends that it cannot hold an error
		c.idCast = "::int8"
		c.dating = s.createdDating()
	}
	selects := s.selects(id)
	created := "null"
	if s.cfg.Created != "" {
		created = s.db.eng.output(pq.QuoteIdentifier(s.cfg.Created))
	}
	c.pageSQL = selects + " where " + id + " > " + param(1) + c.idCast + " order by " + id + " limit " + param(2)
	c.gapsSQL = `select found.* from unnest($1::int8[], $2::int8[]) as leadrelay_gap(leadrelay_seen, leadrelay_next)
cross join lateral (` + selects + ` where ` + id + ` > leadrelay_seen and ` + id + ` < leadrelay_next order by ` + id + ` limit $3) as found
order by 1 limit $3`
	c.walkSQL = "select " + id + ", " + created + " from " + s.shape.from + " where " + id + " < " + param(1) + c.idCast + " order by " + id + " desc limit "
	if s.shape.sequence != nil {
		c.step.Store(s.shape.sequence.increment)
	}
	if c.tracks && c.increment() > 1 {
		ids, err := c.ids(ctx, q, "select "+id+" from "+s.shape.from+" order by "+id+" desc limit 1000")
		if err != nil {
			return masked(err)
		}
		c.grid(ids)
	}
	return nil
}

func (c *gapsCursor) ids(ctx context.Context, q querier, query string, args ...any) ([]int64, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// increment is what separates ids of the sequence: 1 where they are not all the sequence's.
func (c *gapsCursor) increment() int64 {
	if c.offGrid.Load() {
		return 1
	}
	return max(1, c.step.Load())
}

// due says whether gaps are to be looked up now though the page may be full, and whether a look takes in the old ones.
func (c *gapsCursor) due(now time.Time) (due, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.looked) >= lookEvery, now.Sub(c.lookedFull) >= lookFullEvery
}

func (c *gapsCursor) wasLooked(now time.Time, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = now
	if full {
		c.lookedFull = now
	}
}

// bottom is the end of the gap below the lowest row: a transaction may hold a lower id still.
func (c *gapsCursor) bottom(lowest int64) int64 {
	start := int64(1)
	if c.s.shape.sequence != nil {
		start = c.s.shape.sequence.start
	}
	if start > lowest {
		return lowest
	}
	return max(start, math.MinInt64+c.increment()) - c.increment()
}

func (c *gapsCursor) after(ctx context.Context, b jobs.Bookmark, limit int, peek bool) (jobs.Page, error) {
	m, err := parseGapsMark(b)
	if err != nil {
		return jobs.Page{}, err
	}
	var page jobs.Page
	for range emptyPages {
		err := c.s.db.eng.read(ctx, func(q querier) (err error) {
			scan := &gapsScan{c: c, q: q, now: c.s.db.now(), mark: *m, room: limit}
			if err = scan.run(ctx, peek); err != nil {
				return err
			}
			page.Records = c.s.records(nil, scan.rows, true)
			page.Drained = scan.drained
			m = &scan.mark
			return nil
		})
		if err != nil {
			return jobs.Page{}, err
		}
		if len(page.Records) > 0 || page.Drained {
			break
		}
	}
	page.Bookmark = m.bookmark()
	return page, nil
}

// grid notes ids that are not of the sequence.
func (c *gapsCursor) grid(ids []int64) {
	if !onGrid(ids, c.increment()) {
		c.offGrid.Store(true)
	}
}

func (c *gapsCursor) older(ctx context.Context, at, until jobs.Bookmark, f filter, limit int) (jobs.Page, error) {
	end, err := c.marks.get(until, parseGapsMark)
	if err != nil {
		return jobs.Page{}, err
	}
	m, err := parseGapsMark(at)
	if err != nil {
		return jobs.Page{}, err
	}
	if !m.any {
		m.high = math.MinInt64
	}
	page := jobs.Page{Drained: !end.any}
	for i := 0; i < emptyPages && len(page.Records) == 0 && !page.Drained; i++ {
		st := c.olderStatement(m.high, end.high, f, limit)
		err := c.s.db.eng.read(ctx, func(q querier) error {
			rows, cut, err := st.rows(ctx, q)
			page.Drained = len(rows) < limit && !cut
			kept := rows[:0]
			for i := range rows {
				m.any, m.high = true, rows[i].id
				if !end.gaps.holds(rows[i].id) && f.passes(&rows[i]) {
					kept = append(kept, rows[i])
				}
			}
			page.Records = c.s.records(nil, kept, true)
			return err
		})
		if err != nil {
			return jobs.Page{}, err
		}
	}
	page.Bookmark = at
	if m.any {
		page.Bookmark = (&gapsMark{any: true, high: m.high}).bookmark()
	}
	return page, nil
}

func (c *gapsCursor) olderStatement(from, to int64, f filter, limit int) *statement {
	st, id := newStatement(c.s), c.s.shape.key
	if f.bare {
		st.conv = &c.s.bare
	}
	st.add(id + " > " + st.arg(from) + c.idCast)
	st.add(id + " <= " + st.arg(to) + c.idCast)
	st.matching()
	st.chatbots(f.chatbots)
	if c.dating != nil && !f.since.IsZero() { // spares most of the reading; passes says for certain
		st.add("(" + c.dating.undated + " or " + c.dating.at + " >= " + st.arg(c.dating.regions(f.since)[0].low) + c.dating.cast + ")")
	}
	if c.dating != nil {
		st.before(c.dating, f.before) // where the database can tell
	}
	st.order, st.limit = id, limit
	return st
}

func (c *gapsCursor) past(b jobs.Bookmark, rec *jobs.Record) (bool, error) {
	m, err := c.marks.get(b, parseGapsMark)
	if err != nil {
		return false, err
	}
	id, err := strconv.ParseInt(rec.Row, 10, 64)
	if err != nil {
		return false, fmt.Errorf("row %q is none of an integer id", rec.Row)
	}
	return !m.any || id > m.high || m.gaps.holds(id), nil
}

func (c *gapsCursor) describe(b jobs.Bookmark) (string, int) {
	m, err := c.marks.get(b, parseGapsMark)
	switch {
	case err != nil:
		return "unreadable", 0
	case !m.any:
		return "beginning", 0
	}
	return strconv.FormatInt(m.high, 10), m.gaps.count(c.increment())
}

func (c *gapsCursor) at(ctx context.Context, id string) (jobs.Bookmark, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return "", noRow(fmt.Sprintf("%q is no integer id", id))
	}
	m := &gapsMark{any: true, high: n}
	err = c.s.db.eng.read(ctx, func(q querier) error {
		last, known, err := c.s.db.eng.issued(ctx, q, c.s.shape)
		if known && last.last < n {
			m.front = &last.last
		}
		return err
	})
	return m.bookmark(), err
}

func (c *gapsCursor) scanSQL() (string, []any) { return c.pageSQL, []any{0, 500} }

func (c *gapsCursor) latest() string { return "order by " + c.s.shape.key + " desc" }
