package sources

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// end is the rows that are now visible: those created before the oldest open transaction began, and the keys of the
// later ones.
func (c *createdCursor) end(ctx context.Context) (jobs.Bookmark, error) {
	m := &createdMark{}
	for drained := false; !drained; {
		err := c.s.db.eng.read(ctx, func(q querier) (err error) {
			if m.pass == nil {
				if m.low, err = c.lowWater(ctx, q, time.Time{}); err != nil {
					return err
				}
				m.pass = &createdPass{next: m.low, undated: true}
			}
			var rows []row
			rows, drained, err = c.page(ctx, q, &m.pass.place, m.low, true, filter{bare: true}, endPage)
			if err != nil {
				return err
			}
			return c.judge(ctx, q, m, c.fresh(m, rows))
		})
		if err != nil {
			return "", err
		}
	}
	return m.finish().bookmark(), nil
}

func (c *createdCursor) older(ctx context.Context, at, until jobs.Bookmark, f filter, limit int) (jobs.Page, error) {
	end, err := c.marks.get(until, parseCreatedMark)
	if err != nil {
		return jobs.Page{}, err
	}
	m, err := parseCreatedMark(at)
	if err != nil {
		return jobs.Page{}, err
	}
	if m.pass == nil {
		m.pass = &createdPass{undated: true}
	}
	var page jobs.Page
	for i := 0; i < passPages && len(page.Records) == 0 && !page.Drained; i++ {
		err := c.s.db.eng.read(ctx, func(q querier) error {
			rows, drained, err := c.page(ctx, q, &m.pass.place, f.since, true, f, limit)
			kept := rows[:0]
			for i := range rows {
				if f.passes(&rows[i]) && c.visible(end, &rows[i].Record) {
					kept = append(kept, rows[i])
				}
			}
			page.Records, page.Drained = c.s.records(nil, kept, true), drained
			return err
		})
		if err != nil {
			return jobs.Page{}, err
		}
	}
	page.Bookmark = m.bookmark()
	return page, nil
}

// visible reports whether a row had been seen at m.
func (c *createdCursor) visible(m *createdMark, rec *jobs.Record) bool {
	look := c.s.sight(rec)
	if m.seen.has(look) || look.dated() && c.old(look.at, m.low) {
		return true
	}
	if m.pass == nil {
		return false
	}
	return m.pass.seen.has(look) || look.dated() && c.old(look.at, m.pass.next) && c.passed(&m.pass.place, rec)
}

// passed reports whether a pass at p has come by a row.
func (c *createdCursor) passed(p *place, rec *jobs.Record) bool {
	if p.region == 0 || p.key == nil {
		return false
	}
	t, _ := c.s.conv.time(p.time, c.s.at.typ)
	if at := c.s.sight(rec).at; !at.Equal(t) {
		return at.Before(t)
	}
	key := keyText(p.key)
	a, errA := strconv.ParseInt(rec.Row, 10, 64)
	b, errB := strconv.ParseInt(key, 10, 64)
	if errA == nil && errB == nil {
		return a <= b
	}
	return rec.Row <= key
}

func (c *createdCursor) past(b jobs.Bookmark, rec *jobs.Record) (bool, error) {
	m, err := c.marks.get(b, parseCreatedMark)
	if err != nil {
		return false, err
	}
	return !c.visible(m, rec), nil
}

func (c *createdCursor) describe(b jobs.Bookmark) (string, int) {
	m, err := c.marks.get(b, parseCreatedMark)
	switch {
	case err != nil:
		return "unreadable", 0
	case m.low.IsZero():
		return "beginning", 0
	}
	return m.low.Format(time.RFC3339Nano), 0
}

func (c *createdCursor) at(ctx context.Context, id string) (jobs.Bookmark, error) {
	records, _, err := c.s.Read(ctx, []string{id})
	if err != nil {
		return "", err
	}
	if len(records) == 0 {
		return "", noRow(fmt.Sprintf("there is no row %q", id))
	}
	look := c.s.sight(&records[0])
	if !look.dated() {
		return "", noRow(fmt.Sprintf("row %q has no time in %s", id, quotedNames(c.s.at.columns)))
	}
	m := &createdMark{low: look.at}
	m.seen.add(look)
	return m.bookmark(), nil
}

func (c *createdCursor) scanSQL() (string, []any) {
	regions := c.d.regions(c.s.db.now())
	st := c.statement(regions, &place{region: len(regions)}, filter{}, 500)
	return st.sql(), st.args
}

func (c *createdCursor) latest() string {
	return "where " + c.d.at + " is not null order by " + c.d.at + " desc"
}
