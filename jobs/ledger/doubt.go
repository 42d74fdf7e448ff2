package ledger

import (
	"context"
	"database/sql"
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
	some  atomic.Bool
	mu    sync.Mutex
	open  []doubt
	fires map[string]bool // ids of scheduled runs that are ours without our knowing
}

func (d *doubts) take() []doubt {
	if !d.some.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	open := d.open
	d.open = nil
	d.some.Store(false)
	return open
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
