package ledger

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// A commit that fails may have been done all the same: the server fell after it wrote and before it answered. The
// caller then hears of an error and never learns that deliveries are leased to it; they would be sending for as long
// as it lives. So what such a transaction took is remembered, and the next one puts it back first.
type doubt struct {
	lease string
	ids   []uuid.UUID // leased to the caller
	run   string      // begun for the caller
	fire  bool        // it is a scheduled one, which cannot be begun again
}

type doubts struct {
	some  atomic.Bool // open, or taken to be cleared
	mu    sync.Mutex
	open  []doubt
	taken int                    // by transactions that have not ended yet
	given map[uuid.UUID]struct{} // leased meanwhile to callers who know of it
	fires map[string]bool        // ids of scheduled runs that are ours without our knowing
}

// take gives a transaction what it is to clear; it calls cleared, or back, when it has ended.
func (d *doubts) take() []doubt {
	if !d.some.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	open := d.open
	d.open = nil
	if len(open) > 0 {
		d.taken++
	}
	return open
}

// cleared ends a transaction that has committed.
func (d *doubts) cleared(open []doubt) {
	if len(open) > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.returned()
	}
}

// back ends a transaction that failed. It may have been committed all the same: what was leased since to callers who know
// of it is in doubt no more.
func (d *doubts) back(open []doubt) {
	if len(open) == 0 {
		return
	}
	d.mu.Lock()
	for i := range open {
		open[i].ids = slices.DeleteFunc(open[i].ids, func(id uuid.UUID) bool { _, ok := d.given[id]; return ok })
	}
	d.returned()
	d.mu.Unlock()
	d.put(open...)
}

// returned needs d.mu.
func (d *doubts) returned() {
	if d.taken--; d.taken == 0 {
		d.given = nil
	}
	d.some.Store(d.taken > 0 || len(d.open) > 0)
}

// give says that a caller knows of what is leased to it.
func (d *doubts) give(ids []uuid.UUID) {
	if !d.some.Load() || len(ids) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.given == nil {
		d.given = map[uuid.UUID]struct{}{}
	}
	for _, id := range ids {
		d.given[id] = struct{}{}
	}
	for i := range d.open {
		d.open[i].ids = slices.DeleteFunc(d.open[i].ids, func(id uuid.UUID) bool { _, ok := d.given[id]; return ok })
	}
	if d.taken == 0 {
		d.given = nil
	}
}

func (d *doubts) put(open ...doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range open {
		if o.fire {
			if d.fires == nil {
				d.fires = map[string]bool{}
			}
			d.fires[o.run] = true
		} else if o.run != "" || len(o.ids) > 0 {
			d.open = append(d.open, o)
			d.some.Store(true)
		}
	}
}

// ours reports, once, whether a scheduled run was begun by a transaction of ours that reported a failure.
func (d *doubts) ours(run string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	ours := d.fires[run]
	delete(d.fires, run)
	return ours
}

var (
	sqlUnlease = sqlText(`
		update deliveries set state = 'pending', next_at = $1, lease = ''
		where id = any($3::uuid[]) and lease = $2 and state = 'sending'
		returning webhook`)
	sqlEndRun = sqlText(`update runs set ended_at = $1 where id = $2 and ended_at is null`)
)

func (t *tx) resolve(ctx context.Context, d doubt) error {
	if len(d.ids) > 0 {
		ids := make([]string, len(d.ids))
		for i, id := range d.ids {
			ids[i] = id.String()
		}
		if _, err := t.putBack(ctx, sqlUnlease, t.now, d.lease, ids); err != nil {
			return err
		}
	}
	if d.run != "" {
		_, err := t.exec(ctx, sqlEndRun, t.now, d.run)
		return err
	}
	return nil
}

// putBack runs a statement that makes deliveries pending now and returns their webhooks, and counts them.
func (t *tx) putBack(ctx context.Context, s *statement, args ...any) (int, error) {
	n, due := 0, dues{}
	err := t.each(ctx, s, args, func(rows *sql.Rows) error {
		var webhook string
		n++
		err := rows.Scan(&webhook)
		due.add(webhook, t.now)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, t.lower(ctx, due)
}
