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
	sqlMoveBackfill = sqlText(`
		update subscriptions set backfill = $3, until_at = $4
		where webhook = $1 and type = $2 and backfill = $5 and until_at = $6`)
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

// Enter records new deliveries and moves the bookmark in one transaction. New deliveries have no attempts. It returns
// ErrLeaseLost, having done nothing, where some are sending and the lease ran out.
func (l *Ledger) Enter(ctx context.Context, e jobs.Entries) ([]bool, error) {
	news := make([]bool, len(e.Deliveries))
	order := make([]int, len(e.Deliveries)) // by id: two pages that overlap wait for each other in one order
	ids := make([]uuid.UUID, len(e.Deliveries))
	for i := range e.Deliveries {
		if order[i], ids[i] = i, e.Deliveries[i].ID; ids[i] == uuid.Nil {
			ids[i] = e.Deliveries[i].Key.ID()
		}
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(ids[a][:], ids[b][:]) })

	err := l.change(ctx, "enter a page of "+e.Type, func(ctx context.Context, t *tx) error {
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
		return t.countEntered(ctx, e, news, ids)
	})
	if err != nil {
		return nil, err
	}
	return news, nil
}

func (t *tx) moveBookmark(ctx context.Context, e jobs.Entries) error {
	var n int64
	var err error
	switch b := e.Backfill; {
	case b == nil:
		n, err = t.exec(ctx, sqlMoveBookmark, e.Type, e.Version, string(e.Bookmark))
	case e.Done:
		n, err = t.exec(ctx, sqlMoveBackfill, b.Webhook, b.Type, "", "", string(b.Backfill), string(b.Until))
	default:
		n, err = t.exec(ctx, sqlMoveBackfill, b.Webhook, b.Type, string(e.Bookmark), string(b.Until), string(b.Backfill), string(b.Until))
	}
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

// countEntered tells tallies, runs and claims of the deliveries that are new.
func (t *tx) countEntered(ctx context.Context, e jobs.Entries, news []bool, ids []uuid.UUID) error {
	sums, runs, due := tallies{}, runCounts{}, dues{}
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
	if _, err := t.tally(ctx, sums); err != nil {
		return err
	}
	if err := t.lower(ctx, due); err != nil {
		return err
	}
	return t.count(ctx, runs)
}
