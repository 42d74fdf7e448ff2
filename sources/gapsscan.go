package sources

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A gapsScan is one page of the gaps cursor: it moves the mark and gathers rows, whether they match or not.
type gapsScan struct {
	c       *gapsCursor
	q       querier
	now     time.Time
	mark    gapsMark
	room    int
	rows    []row
	drained bool
}

// run looks up the gaps and reads the page above the highest id. While pages are full, gaps wait their turn.
func (s *gapsScan) run(ctx context.Context, peek bool) error {
	seq, known, err := s.c.s.db.eng.issued(ctx, s.q, s.c.s.shape)
	if err != nil {
		return err
	}
	if known {
		s.c.step.Store(seq.increment)
		if err := s.judge(seq); err != nil {
			return err
		}
	}
	due, full := s.c.due(s.now)
	due = due || s.mark.front != nil
	looked := false
	if due {
		if looked, err = s.look(ctx, full); err != nil {
			return err
		}
	}
	found := s.rows
	s.rows = nil
	short, err := s.page(ctx, seq, known)
	if err != nil {
		return err
	}
	above := s.rows
	s.rows = found
	if short && !due {
		if looked, err = s.look(ctx, full); err != nil {
			return err
		}
	}
	s.rows = append(s.rows, above...)
	s.drained = short && looked
	if looked && !peek {
		s.c.wasLooked(s.now, full)
	}
	return nil
}

// judge holds the mark against the sequence. Sequences never go back by themselves, so one that stands behind what it
// had given out is another one. Deleting the newest rows does not move it.
//
// Above the sequence stand ids that somebody chose. As the sequence passes them, what it gives out there is new,
// however long ago the gap was noticed: those ids are looked for as if they had just been skipped, and chosen rows
// among them are read twice.
func (s *gapsScan) judge(seq issued) error {
	if !s.mark.any {
		return nil
	}
	reached := s.mark.high
	if s.mark.front != nil {
		reached = *s.mark.front
	}
	if seq.last < reached {
		return restored(s.c.s.shape.sequence, seq.last, reached)
	}
	if s.mark.front == nil || seq.last == reached || !s.c.tracks {
		return nil
	}
	if seq.last >= s.mark.high {
		s.mark.gaps = s.mark.gaps.with(gap{reached, s.mark.high, s.now.Unix()})
		s.mark.front = nil
	} else {
		s.mark.gaps = s.mark.gaps.with(gap{reached, seq.last + 1, s.now.Unix()})
		s.mark.front = &seq.last
	}
	return nil
}

// look looks up the open gaps in one statement, the old ones only if full, and reports whether it had room for all
// that it found. Gaps that were looked for long enough are dropped after a last look, which may be the first in days.
func (s *gapsScan) look(ctx context.Context, full bool) (all bool, err error) {
	gaps := s.mark.gaps
	if !full {
		gaps = gaps.younger(s.now.Add(-gapYoung).Unix())
	}
	if len(gaps) > 0 {
		if s.room == 0 {
			return false, nil
		}
		seen, next := gaps.arrays()
		rows, cut, err := s.c.s.rows(ctx, s.q, s.c.gapsSQL, seen, next, s.room)
		if err != nil {
			return false, err
		}
		s.rows = append(s.rows, rows...)
		s.mark.gaps = s.mark.gaps.without(idsOf(rows), s.c.increment())
		if s.room -= len(rows); cut {
			s.room = 0
		}
		if s.room == 0 {
			return false, nil
		}
	}
	if full {
		s.mark.gaps = s.mark.gaps.younger(s.now.Add(-s.c.s.cfg.GapKeep).Unix())
	}
	return true, nil
}

// page reads rows above the highest id, opens gaps for what they skip, and reports whether none are left.
func (s *gapsScan) page(ctx context.Context, seq issued, known bool) (short bool, err error) {
	if s.room == 0 {
		return false, nil
	}
	from := int64(math.MinInt64)
	if s.mark.any {
		from = s.mark.high
	}
	rows, cut, err := s.c.s.rows(ctx, s.q, s.c.pageSQL, from, s.room)
	if err != nil || len(rows) == 0 {
		return true, err
	}
	short = len(rows) < s.room && !cut
	s.room -= len(rows)
	s.rows = rows
	for i := range rows {
		if _, ok := rows[i].key.(int64); !ok { // SQLite's columns hold anything
			return false, fmt.Errorf("cursor gaps needs integers as ids, and column %q holds something else: use cursor: created", s.c.s.cfg.ID)
		}
	}
	ids := idsOf(rows)
	if !s.mark.any {
		from = s.c.bottom(ids[0])
	}
	s.mark.any, s.mark.high = true, ids[len(ids)-1]
	if !s.c.tracks {
		return short, nil
	}
	s.c.grid(append([]int64{from}, ids...))
	s.mark.gaps = s.mark.gaps.with(between(from, ids, s.c.increment(), s.now.Unix())...)
	if known && s.mark.front == nil && s.mark.high > seq.last {
		// The sequence was read before the page; it must be read again to say that ids are above it.
		if seq, _, err = s.c.s.db.eng.issued(ctx, s.q, s.c.s.shape); err != nil {
			return false, err
		}
		if s.mark.high > seq.last {
			s.mark.front = &seq.last
		}
	}
	return short, nil
}

func idsOf(rows []row) []int64 {
	ids := make([]int64, len(rows))
	for i := range rows {
		ids[i] = rows[i].id
	}
	return ids
}

func restored(seq *sequence, last, before int64) error {
	return fmt.Errorf("%w: sequence %s is at %d, and %d was given out before", jobs.ErrRestored, seq.name, last, before)
}
