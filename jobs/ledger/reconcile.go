package ledger

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	// What is delivered, which is nearly all, is not given out.
	sqlNotDelivered = sqlText(`
		select e.place, coalesce(deliveries.state, '')
		from unnest($1::uuid[], $2::bigint[]) as e(key, place) left join deliveries on deliveries.id = e.key
		where deliveries.state is null or deliveries.state <> 'delivered'`)
	// Holds off changes of the webhooks, and neither scans nor outcomes.
	sqlShareStream = sqlText(`select version from streams where type = $1 for key share`)
	sqlUnfire      = sqlText(`update schedules set last_fire_at = $3 where schedule = $1 and last_fire_at = $2`)
)

// States returns each delivery's state; "" where there is no such delivery.
func (l *Ledger) States(ctx context.Context, ids []uuid.UUID) ([]jobs.State, error) {
	states := make([]jobs.State, len(ids))
	if len(ids) == 0 {
		return states, nil
	}
	b := l.batch(len(ids))
	for i, id := range ids {
		b.id(id)
		b.number(int64(i))
		b.end()
	}
	args := b.args()
	err := l.view("look up deliveries", func(t *tx) error {
		for i := range states {
			states[i] = jobs.Delivered
		}
		return t.each(ctx, sqlNotDelivered, args, func(rows *sql.Rows) error {
			var place int
			var state jobs.State
			err := rows.Scan(&place, &state)
			if err == nil {
				states[place] = state
			}
			return err
		})
	})
	return states, err
}

// unchanged is ErrBookmarkMoved where the webhooks are no longer those that e was made for; until the transaction ends
// they stay.
func (t *tx) unchanged(ctx context.Context, e jobs.Entries) error {
	var version int64
	var generation jobs.Generation
	err := t.one(ctx, sqlShareStream, []any{e.Type}, &version)
	if err == nil {
		generation, err = t.generation(ctx)
	}
	if err == nil && generation != e.Generation {
		return jobs.ErrBookmarkMoved
	}
	return err
}

// Fire notes a fire of a schedule that begins no runs; mine: nobody did before.
func (l *Ledger) Fire(ctx context.Context, schedule string, at time.Time) (mine bool, err error) {
	err = l.change(ctx, "note a fire", func(ctx context.Context, t *tx) error {
		n, err := t.exec(ctx, sqlFired, schedule, at)
		mine = n > 0
		return err
	})
	return mine, err
}

// Unfire takes a fire back.
func (l *Ledger) Unfire(ctx context.Context, schedule string, at, before time.Time) error {
	return l.change(ctx, "take a fire back", func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, sqlUnfire, schedule, at, before)
		return err
	})
}
