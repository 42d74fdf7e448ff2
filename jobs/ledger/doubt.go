package ledger

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"golang.org/x/sync/semaphore"
)

// A commit that fails may have been done all the same: the server fell after it wrote and before it answered. The
// caller then hears of an error and never learns that deliveries are leased to it; they would be sending for as long
// as it lives. So what such a transaction took is remembered, and is put back before the process leases anything again;
// or by a later try, where the commit may still be under way: until that ends nobody can lease what it took.
// SQLite rolls back what it says it could not commit.
type doubt struct {
	lease string
	ids   []uuid.UUID // leased to the caller
	run   string      // by hand, begun for the caller
}

type doubts struct {
	// leasing is held by each transaction that leases, one of all, and whole while doubts are cleared: what is leased to a
	// caller who knows of it is in doubt no more when that begins, and nothing is leased until it has ended.
	leasing *semaphore.Weighted
	some    atomic.Bool
	mu      sync.Mutex
	open    map[string]*openDoubt // by lease
}

type openDoubt struct{ ids, runs map[string]struct{} }

const (
	allLeasing = 1 << 30
	clearing   = time.Second // how long to wait for transactions that lease; the next may clear the doubts as well
)

func newDoubts() *doubts {
	return &doubts{leasing: semaphore.NewWeighted(allLeasing), open: map[string]*openDoubt{}}
}

// put remembers what a transaction took whose commit failed.
func (d *doubts) put(o doubt) {
	if len(o.ids) == 0 && o.run == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	open := d.open[o.lease]
	if open == nil {
		open = &openDoubt{ids: map[string]struct{}{}, runs: map[string]struct{}{}}
		d.open[o.lease] = open
	}
	for _, id := range o.ids {
		open.ids[id.String()] = struct{}{}
	}
	if o.run != "" {
		open.runs[o.run] = struct{}{}
	}
	d.some.Store(true)
}

// give says that a caller knows of what is leased to it.
func (d *doubts) give(o doubt) {
	if !d.some.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if open := d.open[o.lease]; open != nil {
		for _, id := range o.ids {
			delete(open.ids, id.String())
		}
	}
}

// errInDoubt is of a run by hand that is begun while another, which its caller knows nothing of, may still be.
var errInDoubt = errors.New("a run that was begun before may still be recorded")

// run reports whether a run of this lease's process is in doubt.
func (d *doubts) run(lease string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[lease] != nil && len(d.open[lease].runs) > 0
}

// lease is change for what leases deliveries to the caller, or begins a run for it.
func (l *Ledger) lease(ctx context.Context, what string, f func(ctx context.Context, t *tx) error) error {
	if l.lite {
		return l.change(ctx, what, f)
	}
	return l.persist(ctx, what, func(ctx context.Context) error {
		if l.doubts.some.Load() {
			if err := l.clearDoubts(ctx); err != nil {
				return err
			}
		}
		if err := l.doubts.leasing.Acquire(ctx, 1); err != nil {
			return err
		}
		defer l.doubts.leasing.Release(1)
		return l.once(ctx, f)
	})
}

// clearDoubts puts back what is in doubt, but for what a transaction may still be about to commit: that stays in doubt,
// and nobody else can lease it.
func (l *Ledger) clearDoubts(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, clearing)
	defer cancel()
	if l.doubts.leasing.Acquire(waiting, allLeasing) != nil {
		return ctx.Err()
	}
	defer l.doubts.leasing.Release(allLeasing)
	for lease, open := range l.doubts.open { // which only those change who hold leasing
		err := l.once(ctx, func(ctx context.Context, t *tx) error { return t.resolve(ctx, lease, open) })
		if e, ok := errors.AsType[*pq.Error](err); ok && e.Code == "55P03" {
			continue
		}
		if err != nil {
			return err
		}
		l.doubts.mu.Lock()
		delete(l.doubts.open, lease)
		l.doubts.some.Store(len(l.doubts.open) > 0)
		l.doubts.mu.Unlock()
	}
	return nil
}

var (
	// Whoever leases holds its lease's row; see tx.hold.
	sqlLockLease = sqlText(`select token from leases where token = $1 for update nowait`)
	sqlUnlease   = sqlText(`
		update deliveries set state = 'pending', next_at = $1, lease = ''
		where id = any($3::uuid[]) and lease = $2 and state = 'sending'
		returning webhook`)
	sqlEndDoubted = sqlText(`update runs set ended_at = $1 where id = any($2::text[]) and ended_at is null`)
)

func (t *tx) resolve(ctx context.Context, lease string, d *openDoubt) error {
	if err := t.each(ctx, sqlLockLease, []any{lease}, func(*sql.Rows) error { return nil }); err != nil {
		return err
	}
	if len(d.ids) > 0 {
		if _, err := t.putBack(ctx, sqlUnlease, t.now, lease, slices.Collect(maps.Keys(d.ids))); err != nil {
			return err
		}
	}
	if len(d.runs) > 0 {
		if _, err := t.exec(ctx, sqlEndDoubted, t.now, slices.Collect(maps.Keys(d.runs))); err != nil {
			return err
		}
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
