package sources

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Keys implements jobs.Source. It is for asking what became of rows, of very many at once: no field is read, pages are
// found behind the last row of the one before, and nothing is open in the database between two.
//
// The rows of a window are read in the order of their times, which an index has to serve: without one each page would
// sort the whole table. Where none does they are read in the order of their ids, which comes by all that is older, once.
func (s *Stream) Keys(since time.Time) jobs.Keys {
	k := &keysScan{s: s, since: since.UTC()}
	switch c := s.cursor.(type) {
	case *createdCursor:
		k.times = c
	case *gapsCursor:
		if d, ok := s.windowDating(); ok {
			k.times = &createdCursor{s: s, d: d}
		}
	}
	return k
}

// windowDating is how rows are found by their creation time, where the database can tell.
func (s *Stream) windowDating() (d dating, ok bool) {
	if s.cfg.Created == "" || s.db.eng.name() == "postgres" && !isTime(s.conv.created) {
		return d, false
	}
	return s.db.eng.dating(&s.cfg, createdInstant(s.shape, &s.cfg)), true
}

// A keysScan is Keys under way.
type keysScan struct {
	s     *Stream
	since time.Time
	times *createdCursor // finds rows by their times; nil: nothing does

	begun  bool
	byTime bool
	place  place // of the last row read; by id only its key
	done   bool
}

// Next implements jobs.Keys.
func (k *keysScan) Next(ctx context.Context, limit int) ([]jobs.Record, error) {
	for !k.done {
		var records []jobs.Record
		err := k.s.db.eng.read(ctx, func(q querier) error {
			if !k.begun {
				served, err := k.served(ctx, q)
				if err != nil {
					return err
				}
				k.byTime, k.begun = served, true
				return nil // what planning was told about indexes ends with the transaction
			}
			at := k.place
			rows, done, err := k.page(ctx, q, &at, limit)
			if err != nil {
				return err
			}
			records, k.place, k.done = k.s.records(nil, k.within(rows), true), at, done
			return nil
		})
		if err != nil {
			return nil, k.s.wrap("read the keys of its rows", err)
		}
		if len(records) > 0 {
			return records, nil
		}
	}
	return nil, nil
}

// served reports whether an index serves the reading by time.
func (k *keysScan) served(ctx context.Context, q querier) (bool, error) {
	if k.times == nil {
		return false, nil
	}
	st := k.s.windowStatement(k.times, k.since)
	plan, err := k.s.plan(ctx, q, st.sql(), st.args, true)
	return !k.s.readsWhole(plan), err
}

// windowStatement reads the first page of what is not before since.
func (s *Stream) windowStatement(c *createdCursor, since time.Time) *statement {
	regions := c.d.regions(since)
	return c.statement(regions, &place{region: len(regions)}, filter{bare: true}, 500)
}

func (k *keysScan) page(ctx context.Context, q querier, at *place, limit int) (rows []row, done bool, err error) {
	if k.byTime {
		return k.times.page(ctx, q, at, k.since, true, filter{bare: true}, limit)
	}
	rows, _, err = k.statement(at, limit).rows(ctx, q) // keys alone cut no page
	if len(rows) > 0 {
		at.key = rows[len(rows)-1].key
	}
	return rows, len(rows) < limit, err
}

// statement reads by id.
func (k *keysScan) statement(at *place, limit int) *statement {
	st, key := newStatement(k.s), k.s.shape.key
	st.conv = &k.s.bare
	switch {
	case at.key != nil:
		st.add(key + " > " + st.arg(at.key) + k.s.shape.keyCast())
	case k.s.kind == CursorGaps: // so that the database sees a range of the index
		st.add(key + " >= " + st.arg(int64(math.MinInt64)) + k.s.shape.keyCast())
	default:
		st.add(key + " is not null")
	}
	if k.times != nil {
		d := &k.times.d
		any := []string{d.undated}
		for _, r := range d.regions(k.since) {
			any = append(any, r.condition+" and "+d.at+" >= "+st.arg(r.low)+d.cast)
		}
		st.add("(" + strings.Join(any, " or ") + ")")
	}
	st.matching()
	st.order, st.limit = key, limit
	return st
}

// within keeps the rows of the window; the database finds a few more.
func (k *keysScan) within(rows []row) []row {
	kept := rows[:0]
	for i := range rows {
		if at := rows[i].Stands(); at.IsZero() || !at.Before(k.since) {
			kept = append(kept, rows[i])
		}
	}
	return kept
}
