package sources

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A createdCursor finds rows by their creation time, for keys that say nothing of order. A row is created, at the
// earliest, when its transaction begins, and may become visible long after. So a pass first asks for the oldest open
// transaction, then reads all from where the last pass asked on: rows created before that one began are final, and the
// keys of the later ones are kept in the bookmark, so that each comes once.
//
// In a stream with versions the same goes for changes: a row changes, at the earliest, when the transaction that
// changes it begins, so its time of change is never before the low-water mark of a pass that did not see it. What is
// kept of rows is then which version of them was seen. Their times may go back, too: of two transactions that change a
// row, the one that began first may come second.
//
// Rows without such a time have no place in that order. Each pass reads all of them, and the bookmark keeps all
// their keys: right, but dear if they are many, so check warns.
type createdCursor struct {
	s     *Stream
	d     dating
	zoned bool
	marks cache[*createdMark]

	mu      sync.Mutex
	undated time.Time // when rows without a time were last read, where that takes a whole scan
}

// undatedEvery is how often SQLite is asked for rows whose time is none: no index can serve that.
const undatedEvery = time.Minute

// passPages is how many pages without a new row one call reads.
const passPages = 200

func (s *Stream) byCreated(ctx context.Context, q querier) error {
	c := &createdCursor{s: s, d: s.db.eng.dating(&s.cfg, s.at), zoned: s.at.typ == "timestamptz" && !s.at.wall}
	if p, ok := s.db.eng.(*postgres); ok {
		if !isTime(s.at.typ) {
			return fmt.Errorf("cursor created needs a created column that is a time, and column %q is %s: cast it in a query", s.cfg.Created, s.at.typ)
		}
		see, err := p.sight(ctx, q, s.shape.oid)
		if err != nil {
			return err
		}
		if err := see.blind(); err != nil && s.cfg.Lookback == 0 {
			return err
		}
	}
	s.cursor = c
	return nil
}

// old reports whether a row's time is surely before low.
func (c *createdCursor) old(at, low time.Time) bool {
	return !low.IsZero() && !at.Add(c.d.span(at)).After(low)
}

// lowWater begins a pass: see engine.lowWater.
func (c *createdCursor) lowWater(ctx context.Context, q querier, floor time.Time) (time.Time, error) {
	low, err := c.s.db.eng.lowWater(ctx, q, c.s, floor)
	if !c.zoned {
		low = unambiguous(low, c.s.cfg.zone())
	}
	return low.UTC().Truncate(time.Microsecond), err
}

func (c *createdCursor) after(ctx context.Context, b jobs.Bookmark, limit int, peek bool) (jobs.Page, error) {
	m, err := parseCreatedMark(b)
	if err != nil {
		return jobs.Page{}, err
	}
	began := m.pass == nil
	var page jobs.Page
	for range passPages {
		var fresh []row
		err := c.s.db.eng.read(ctx, func(q querier) error {
			if m.pass == nil {
				low, err := c.lowWater(ctx, q, m.low)
				if err != nil {
					return err
				}
				m.pass = &createdPass{next: low, undated: peek || c.readUndated()}
			}
			rows, drained, err := c.page(ctx, q, &m.pass.place, m.low, m.pass.undated, filter{}, limit)
			if err != nil {
				return err
			}
			fresh, page.Drained = c.fresh(m, rows), drained
			return c.judge(ctx, q, m, fresh)
		})
		if err != nil {
			return jobs.Page{}, err
		}
		page.Records = c.s.records(nil, fresh, true)
		if page.Drained || len(page.Records) > 0 {
			break
		}
	}
	page.Bookmark = m.bookmark()
	if page.Drained {
		undated := m.pass.undated
		if done := m.finish(); began && len(page.Records) == 0 && done.seen.equal(&m.seen) && !done.low.Before(m.low) {
			page.Bookmark = b // nothing came, nothing went: the mark may as well stand
		} else {
			page.Bookmark = done.bookmark()
		}
		if undated && !peek {
			c.readNow()
		}
	}
	return page, nil
}

// judge holds the mark against the sequence that feeds the ids, if one does. Times go on after a database was restored,
// but ids come again, and a row with an id that was sent counts as sent.
func (c *createdCursor) judge(ctx context.Context, q querier, m *createdMark, fresh []row) error {
	seq, known, err := c.s.db.eng.issued(ctx, q, c.s.shape)
	if err != nil || !known || seq.increment < 0 {
		return err
	}
	if m.top != nil && seq.last < *m.top {
		return restored(c.s.shape.sequence, seq.last, *m.top)
	}
	for i := range fresh {
		if id, err := strconv.ParseInt(fresh[i].Row, 10, 64); err == nil && id <= seq.last && (m.top == nil || id > *m.top) {
			m.top = &id
		}
	}
	return nil
}

// finish is the mark at a pass's end.
func (m *createdMark) finish() *createdMark {
	done := &createdMark{low: m.pass.next, seen: m.pass.seen, top: m.top}
	if !m.pass.undated {
		done.seen.undated = m.seen.undated.with(m.pass.seen.undated)
	}
	return done
}

// fresh notes the rows that a pass came by and returns those not seen before.
func (c *createdCursor) fresh(m *createdMark, rows []row) []row {
	fresh := rows[:0]
	for i := range rows {
		r := &rows[i]
		look := c.s.sight(&r.Record)
		if look.dated() && c.old(look.at, m.low) {
			continue
		}
		seen := m.seen.has(look) || m.pass.seen.has(look)
		if !look.dated() || !c.old(look.at, m.pass.next) {
			m.pass.seen.add(look)
		}
		if !seen {
			fresh = append(fresh, *r)
		}
	}
	return fresh
}

// page reads on from at, at most limit rows of one region, and reports whether the last region is at its end.
func (c *createdCursor) page(ctx context.Context, q querier, at *place, from time.Time, undated bool, f filter, limit int) (rows []row, drained bool, err error) {
	regions := c.d.regions(from)
	for ; at.region <= len(regions); *at = (place{region: at.region + 1}) {
		if at.region == 0 && !undated {
			continue
		}
		st := c.statement(regions, at, f, limit)
		var cut bool
		rows, cut, err = st.rows(ctx, q)
		if err != nil {
			return nil, false, err
		}
		switch {
		case len(rows) == 0:
			continue
		case len(rows) < limit && !cut:
			drained = at.region == len(regions)
			*at = place{region: at.region + 1}
			return rows, drained, nil
		}
		last := &rows[len(rows)-1]
		at.key = last.key
		if at.region > 0 {
			at.time = c.d.raw(last.at)
		}
		return rows, false, nil
	}
	return nil, true, nil
}

// statement reads one region behind a place.
func (c *createdCursor) statement(regions []region, at *place, f filter, limit int) *statement {
	st, d, key, keyCast := newStatement(c.s), &c.d, c.s.shape.key, c.s.shape.keyCast()
	if f.bare {
		st.conv = &c.s.bare
	}
	st.add(key + " is not null")
	if at.region == 0 {
		st.add(d.undated)
		if at.key != nil {
			st.add(key + " > " + st.arg(at.key) + keyCast)
		}
		st.order = key
	} else {
		r := regions[at.region-1]
		st.add(r.condition)
		if at.key != nil {
			if c.s.db.eng.name() == "sqlite" && len(c.s.at.columns) > 1 { // it finds no pairs by an expression's index
				st.add(d.at + " >= " + st.arg(at.time))
			}
			st.add("(" + d.at + ", " + key + ") > (" + st.arg(at.time) + d.cast + ", " + st.arg(at.key) + keyCast + ")")
		} else {
			st.add(d.at + " >= " + st.arg(r.low) + d.cast)
		}
		st.order = d.at + ", " + key
	}
	st.matching()
	st.chatbots(f.chatbots)
	st.limit = limit
	return st
}

// readUndated says whether a pass is to read the rows without a time.
func (c *createdCursor) readUndated() bool {
	if c.s.db.eng.name() == "postgres" { // an index serves
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.db.now().Sub(c.undated) >= undatedEvery
}

func (c *createdCursor) readNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undated = c.s.db.now()
}
