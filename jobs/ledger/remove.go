package ledger

import (
	"context"
	"database/sql"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	sqlOpenOf = sqlText(`
		select run, spent_in_run, count(*) from deliveries
		where webhook = $1 and (state = 'pending' or state = 'sending') group by run, spent_in_run`)
	sqlRemoveOpen = sqlText(`
		update deliveries set state = 'dead', reason = $2, lease = '', settled_at = $3, spent_in_run = (1 = 0)
		where webhook = $1 and (state = 'pending' or state = 'sending')`)
	sqlNoSubscriptions = sqlText(`delete from subscriptions where webhook = $1`)
	sqlMoreDead        = sqlText(`update tallies set dead = tallies.dead + $2 where webhook = $1`)
	sqlNothingDue      = sqlText(`update due set active = (1 = 0), due_at = null where webhook = $1`)
	sqlRemoveWebhook   = sqlText(`
		update webhooks set state = 'removed', state_reason = '', origin = '', url = $2, sign_key = $2, old_key = $2,
			headers = $2, stopped_at = null, state_at = $3 where id = $1`)
)

// RemoveWebhook forgets a webhook and its secrets. What is owed to it, being sent or not, is dead, removed, and counted.
// Its deliveries' keys stay: a webhook of the same id that is entered later is not sent them again.
func (l *Ledger) RemoveWebhook(ctx context.Context, c jobs.Change, id string) (undelivered int, err error) {
	err = l.change(ctx, "remove webhook "+id, func(ctx context.Context, t *tx) error {
		if err := t.nextGeneration(ctx, c); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlNoSubscriptions, id); err != nil {
			return err
		}
		if err := t.lockDue(ctx, []string{id}); err != nil {
			return err
		}
		undelivered = 0
		runs := runCounts{}
		err := t.each(ctx, sqlOpenOf, []any{id}, func(rows *sql.Rows) error {
			var run string
			var spent bool
			var n int
			err := rows.Scan(&run, &spent, &n)
			undelivered += n
			runs.of(run).dead += n
			if spent { // it was counted as failed, which is one of the pending
				runs.of(run).failed -= n
			}
			return err
		})
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlRemoveOpen, id, string(jobs.Removed), t.now); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlMoreDead, id, undelivered); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlNothingDue, id); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlRemoveWebhook, id, []byte{}, t.now); err != nil {
			return err
		}
		return t.count(ctx, runs)
	})
	return undelivered, err
}
