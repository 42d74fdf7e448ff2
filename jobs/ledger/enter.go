package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"slices"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	sqlMoveBookmark = sqlText(`
		update streams set bookmark = $3, version = version + 1, fresh = false where type = $1 and version = $2`)
	sqlEnter = sqlText(`
		insert into deliveries (id, webhook, type, row_key, version, action, chatbot, state, reason, seen_at,
			not_before, next_at, last_error, settled_at, run, lease)
		select e.id, e.webhook, e.type, e.row_key, e.version, e.action, e.chatbot, e.state, e.reason, e.seen_at,
			e.not_before, e.next_at, e.last_error, e.settled_at, e.run, e.lease
		from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
			$9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::timestamptz[],
			$15::text[], $16::text[])
			as e(id, webhook, type, row_key, version, action, chatbot, state, reason, seen_at, not_before, next_at,
				last_error, settled_at, run, lease)
		where true
		on conflict (id) do nothing
		returning id`)
)

// Enter records new deliveries and moves the bookmark in one transaction; see jobs.Queue. New deliveries have no attempts. It returns
// ErrLeaseLost, having done nothing, where some are sending and the lease ran out.
func (l *Ledger) Enter(ctx context.Context, e jobs.Entries) ([]bool, error) {
	if e.Versioned {
		return l.enterVersions(ctx, e)
	}
	news := make([]bool, len(e.Deliveries))
	order := make([]int, len(e.Deliveries)) // by id: two pages that overlap wait for each other in one order
	ids := make([]uuid.UUID, len(e.Deliveries))
	for i := range e.Deliveries {
		if order[i], ids[i] = i, e.Deliveries[i].ID; ids[i] == uuid.Nil {
			ids[i] = e.Deliveries[i].Key.ID()
		}
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(ids[a][:], ids[b][:]) })

	err := l.lease(ctx, "enter a page of "+e.Type, func(ctx context.Context, t *tx) error {
		clear(news)
		if slices.ContainsFunc(e.Deliveries, func(d jobs.Delivery) bool { return d.State == jobs.Sending }) {
			if err := t.hold(ctx, e.Lease); err != nil {
				return err
			}
		}
		if err := t.moveBookmark(ctx, e); err != nil {
			return err
		}
		if len(order) == 0 {
			return nil
		}
		entered, err := t.insert(ctx, e, order, ids)
		if err != nil {
			return err
		}
		for i, id := range ids {
			news[i] = entered[id]
			delete(entered, id) // a key that a page names twice is new once
		}
		runs := runCounts{}
		if err := t.countEntered(ctx, e, news, ids, runs); err != nil {
			return err
		}
		return t.count(ctx, runs)
	})
	if err != nil {
		return nil, err
	}
	return news, nil
}

// enterVersions is Enter for a stream whose rows have versions.
func (l *Ledger) enterVersions(ctx context.Context, e jobs.Entries) ([]bool, error) {
	news := make([]bool, len(e.Deliveries))
	err := l.lease(ctx, "enter a page of "+e.Type, func(ctx context.Context, t *tx) error {
		clear(news)
		if err := t.moveBookmark(ctx, e); err != nil || len(e.Deliveries) == 0 {
			return err
		}
		keys, candidates := make([]rowKey, len(e.Deliveries)), make([]*jobs.Delivery, len(e.Deliveries))
		for i := range e.Deliveries {
			keys[i], candidates[i] = rowOf(&e.Deliveries[i]), &e.Deliveries[i]
		}
		v, err := t.holdRows(ctx, keys, true)
		if err != nil {
			return err
		}
		webhooks := v.webhooks()
		if !l.lite {
			if err := t.each(ctx, sqlLockTallies, []any{webhooks}, func(*sql.Rows) error { return nil }); err != nil {
				return err
			}
		}
		if err := t.lockDue(ctx, webhooks); err != nil {
			return err
		}
		if err := v.look(ctx, candidates); err != nil {
			return err
		}
		for i := range e.Deliveries {
			_, news[i] = v.enter(e.Deliveries[i])
		}
		if err := t.insertVersions(ctx, v); err != nil {
			return err
		}
		return t.count(ctx, v.runs)
	})
	if err != nil {
		return nil, err
	}
	return news, nil
}

// insertVersions inserts the versions that are entered and writes what became of the others.
func (t *tx) insertVersions(ctx context.Context, v *heldRows) error {
	e := jobs.Entries{Deliveries: v.entered}
	news, order, ids := make([]bool, len(v.entered)), make([]int, len(v.entered)), make([]uuid.UUID, len(v.entered))
	for i := range v.entered {
		news[i], order[i], ids[i] = true, i, v.entered[i].ID
	}
	if len(order) > 0 {
		if _, err := t.insert(ctx, e, order, ids); err != nil {
			return err
		}
	}
	if err := v.store(ctx); err != nil {
		return err
	}
	if err := t.lower(ctx, v.due); err != nil {
		return err
	}
	return t.countEntered(ctx, e, news, ids, v.runs)
}

func (t *tx) moveBookmark(ctx context.Context, e jobs.Entries) error {
	switch {
	case e.Missing:
		return t.unchanged(ctx, e)
	case e.Backfill != nil:
		return t.moveBackfill(ctx, e)
	}
	n, err := t.exec(ctx, sqlMoveBookmark, e.Type, e.Version, string(e.Bookmark))
	if err == nil && n == 0 {
		return jobs.ErrBookmarkMoved
	}
	return err
}

func (t *tx) insert(ctx context.Context, e jobs.Entries, order []int, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	b := t.l.batch(len(order))
	for _, i := range order {
		d := &e.Deliveries[i]
		seen, next, settled, lease := d.SeenAt, d.NextAt, d.SettledAt, ""
		if seen.IsZero() {
			seen = t.now
		}
		switch {
		case d.State == jobs.Sending:
			lease = e.Lease
		case d.State == jobs.Pending && next.IsZero():
			next = t.now
		case d.State == jobs.Dead && settled.IsZero():
			settled = t.now
		}
		b.id(ids[i])
		for _, s := range [...]string{d.Webhook, d.Type, d.Row, d.Version, d.Action, d.Chatbot, string(d.State), string(d.Reason)} {
			b.text(s)
		}
		b.time(seen)
		b.time(d.NotBefore)
		b.time(next)
		b.text(d.LastError)
		b.time(settled)
		b.text(d.Run)
		b.text(lease)
		b.end()
	}
	entered := make(map[uuid.UUID]bool, len(order))
	err := t.each(ctx, sqlEnter, b.args(), func(rows *sql.Rows) error {
		var id uuid.UUID
		err := rows.Scan(&id)
		entered[id] = true
		return err
	})
	return entered, err
}

// countEntered tells tallies and claims of the deliveries that are new, and counts them for their runs.
func (t *tx) countEntered(ctx context.Context, e jobs.Entries, news []bool, ids []uuid.UUID, runs runCounts) error {
	sums, due := tallies{}, dues{}
	for i := range e.Deliveries {
		if !news[i] {
			continue
		}
		d := &e.Deliveries[i]
		if d.Run != "" {
			runs.of(d.Run).gathered++
		}
		switch d.State {
		case jobs.Dead:
			s := sums.of(d.Webhook)
			s.dead++
			s.lastError = d.LastError
			if d.Run != "" {
				runs.of(d.Run).dead++
			}
		case jobs.Pending:
			at := d.NextAt
			if at.IsZero() {
				at = t.now
			}
			due.add(d.Webhook, at)
		case jobs.Sending:
			t.doubt.lease = e.Lease
			t.doubt.ids = append(t.doubt.ids, ids[i])
		}
	}
	if _, _, err := t.tally(ctx, sums); err != nil {
		return err
	}
	return t.lower(ctx, due)
}
