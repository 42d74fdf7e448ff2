package sources

import (
	"context"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

const (
	// The walk back from the highest id goes on until this many rows in succession are older than the window.
	endPatience = 1000
	endWindow   = 24 * time.Hour
	endPage     = 5000
)

// end is the highest id, with the ids as gaps that are missing among the rows of the last day. Which rows those are is
// only a matter of thrift, so their creation times are believed, and a thousand older rows in succession end the walk.
func (c *gapsCursor) end(ctx context.Context) (jobs.Bookmark, error) {
	m := &gapsMark{}
	err := c.s.db.eng.read(ctx, func(q querier) error {
		front, known, err := c.s.db.eng.issued(ctx, q, c.s.shape)
		if err != nil {
			return err
		}
		ids, err := c.walk(ctx, q, front, known)
		if err != nil || len(ids) == 0 {
			return err
		}
		m.any, m.high = true, ids[len(ids)-1]
		if !c.tracks {
			return nil
		}
		c.grid(ids)
		m.gaps = between(ids[0], ids[1:], c.increment(), c.s.db.now().Unix())
		last, known, err := c.s.db.eng.issued(ctx, q, c.s.shape)
		if known && last.last < m.high {
			m.front = &last.last
		}
		return err
	})
	return m.bookmark(), err
}

// walk returns, ascending, the ids of the last day's rows (of gap_keep's where sessions cache ids), of those the sequence has not reached,
// and the one below: the end of the gap below them.
func (c *gapsCursor) walk(ctx context.Context, q querier, front issued, known bool) ([]int64, error) {
	s := c.s
	size := endPage
	if !c.tracks {
		size = 1
	}
	query := c.walkSQL + strconv.Itoa(size)
	window := endWindow
	if seq := s.shape.sequence; seq != nil && seq.cache > 1 { // ids are used days after they were given out
		window = max(window, s.cfg.GapKeep)
	}
	cutoff := s.db.now().Add(-window)
	var ids []int64 // descending
	wanted, strangers := 0, 0
	for below := int64(math.MaxInt64); ; {
		rows, err := q.QueryContext(ctx, query, below)
		if err != nil {
			return nil, masked(err)
		}
		n := 0
		for rows.Next() {
			var raw any
			if err := rows.Scan(&below, &raw); err != nil {
				rows.Close()
				return nil, err
			}
			n++
			ids = append(ids, below)
			t, _ := s.conv.time(raw, s.conv.created)
			if t.After(cutoff) || known && below > front.last {
				wanted, strangers = len(ids), 0
			} else {
				strangers++
			}
		}
		if err := rows.Err(); err != nil {
			return nil, masked(err)
		}
		rows.Close()
		if n < size || size == 1 || strangers >= endPatience {
			break
		}
	}
	if wanted > 0 && wanted == len(ids) && c.tracks {
		ids = append(ids, c.bottom(ids[wanted-1]))
	}
	ids = ids[:min(len(ids), wanted+1)]
	slices.Reverse(ids)
	return ids, nil
}
