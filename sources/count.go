package sources

import (
	"context"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// count counts the rows that meet conditions.
func (st *statement) count(ctx context.Context, q querier, from string) (n int, err error) {
	st.add(pq.QuoteIdentifier(st.s.cfg.Chatbot) + " is not null")
	err = q.QueryRowContext(ctx, "select count(*) from "+from+" where "+strings.Join(st.conditions, " and "), st.args...).Scan(&n)
	return n, masked(err)
}

// createdDating is how rows are found by their creation time, where PostgreSQL can tell.
func (s *Stream) createdDating() *dating {
	if s.db.eng.name() != "postgres" || !isTime(s.conv.created) {
		return nil
	}
	d := s.db.eng.dating(&s.cfg, createdInstant(s.shape, &s.cfg))
	return &d
}

// since adds that a row was created at or after a time, or at no time; exact says whether the database can tell.
func (st *statement) since(d *dating, since time.Time) (exact bool) {
	if since.IsZero() {
		return true
	}
	if d == nil || d.span(since) > time.Microsecond {
		return false
	}
	st.add("(" + d.undated + " or " + d.at + " >= " + st.arg(d.regions(since)[0].low) + d.cast + ")")
	return true
}

// before adds that a row was created before a time, or at no time, likewise.
func (st *statement) before(d *dating, before time.Time) (exact bool) {
	if before.IsZero() {
		return true
	}
	if d == nil || d.span(before) > time.Microsecond {
		return false
	}
	st.add("(" + d.undated + " or " + d.at + " < " + st.arg(d.regions(before)[0].low) + d.cast + ")")
	return true
}

// count lets the database count, where it can: what was visible and is not in a gap.
func (c *gapsCursor) count(ctx context.Context, until jobs.Bookmark, f filter) (n int, ok bool, err error) {
	end, err := c.marks.get(until, parseGapsMark)
	if err != nil || !end.any {
		return 0, true, err
	}
	rows := func() (st *statement, ok bool) {
		st = newStatement(c.s)
		st.matching()
		st.chatbots(f.chatbots)
		return st, st.since(c.dating, f.since) && st.before(c.dating, f.before)
	}
	all, ok := rows()
	if !ok {
		return 0, false, nil
	}
	all.add(c.s.shape.key + " <= " + all.arg(end.high) + c.idCast)
	err = c.s.db.eng.read(ctx, func(q querier) error {
		if n, err = all.count(ctx, q, c.s.shape.from); err != nil || len(end.gaps) == 0 {
			return err
		}
		seen, next := end.gaps.arrays()
		late, _ := rows()
		gap := "unnest(" + late.arg(seen) + "::int8[], " + late.arg(next) + "::int8[]) as leadrelay_gap(leadrelay_seen, leadrelay_next)"
		late.add(c.s.shape.key + " > leadrelay_seen and " + c.s.shape.key + " < leadrelay_next")
		filled, err := late.count(ctx, q, gap+", "+c.s.shape.from)
		n -= filled
		return err
	})
	return n, true, err
}

// count lets the database count what was final; the rows since then are looked at one by one. f is bare.
func (c *createdCursor) count(ctx context.Context, until jobs.Bookmark, f filter) (n int, ok bool, err error) {
	end, err := c.marks.get(until, parseCreatedMark)
	if err != nil {
		return 0, false, err
	}
	if c.s.db.eng.name() != "postgres" || end.pass != nil || end.low.IsZero() {
		return 0, false, nil
	}
	final := newStatement(c.s)
	final.matching()
	final.chatbots(f.chatbots)
	created := c.s.createdDating()
	if f.since.After(end.low) || !final.since(created, f.since) || !final.before(created, f.before) {
		return 0, false, nil
	}
	final.add(c.s.shape.key + " is not null and not " + c.d.undated)
	low := c.d.regions(end.low)[0].low // where the looking begins, so that each row is counted once
	final.add(c.d.at + " < " + final.arg(low) + c.d.cast)
	err = c.s.db.eng.read(ctx, func(q querier) error {
		n, err = final.count(ctx, q, c.s.shape.from)
		return err
	})
	for at, drained := (place{}), false; err == nil && !drained; {
		err = c.s.db.eng.read(ctx, func(q querier) (err error) {
			var rows []row
			rows, drained, err = c.page(ctx, q, &at, end.low, true, f, endPage)
			for i := range rows {
				if !rows[i].nobody && f.passes(&rows[i]) && c.visible(end, &rows[i].Record) {
					n++
				}
			}
			return err
		})
	}
	return n, true, err
}
