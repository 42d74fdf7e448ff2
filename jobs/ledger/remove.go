package ledger

import (
	"context"
	"database/sql"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	sqlSpentOf = sqlText(`
		select run, count(*) from deliveries where webhook = $1 and state = 'pending' and spent_in_run group by run`)
	sqlRemoveOpen = sqlText(`
		update deliveries set state = 'dead', reason = $2, lease = '', settled_at = $3, spent_in_run = (1 = 0)
		where webhook = $1 and (state = 'pending' or state = 'sending')
		returning run`)
	sqlNoSubscriptions = sqlText(`delete from subscriptions where webhook = $1`)
	sqlMoreDead        = sqlText(`update tallies set dead = tallies.dead + $2 where webhook = $1`)
	sqlNothingDue      = sqlText(`update due set active = (1 = 0), due_at = null where webhook = $1`)
	sqlRemoveWebhook   = sqlText(`
		update webhooks set state = 'removed', state_reason = '', origin = '', url = $2, sign_key = $2, sign_key_of = '', old_key = $2,
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
		if _, err := t.exec(ctx, sqlMoreDead, id, 0); err != nil { // holds the tallies' row, which comes before due's
			return err
		}
		if _, err := t.exec(ctx, sqlFaultless, []string{id}); err != nil { // another of this id has failed nothing
			return err
		}
		if err := t.lockDue(ctx, []string{id}); err != nil {
			return err
		}
		undelivered = 0
		runs := runCounts{}
		// Spent ones are counted as failed, which are of the pending. They change under due's row alone, held here.
		err := t.each(ctx, sqlSpentOf, []any{id}, func(rows *sql.Rows) error {
			var run string
			var n int
			err := rows.Scan(&run, &n)
			runs.of(run).failed -= n
			return err
		})
		if err != nil {
			return err
		}
		// What is being sent may be settled until this statement holds it, and is counted only if it was not.
		err = t.each(ctx, sqlRemoveOpen, []any{id, string(jobs.Removed), t.now}, func(rows *sql.Rows) error {
			var run string
			err := rows.Scan(&run)
			undelivered++
			runs.of(run).dead++
			return err
		})
		if err != nil {
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
