package ledger

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"time"
)

// dues are webhooks and when something of theirs falls due that was not pending, or not so early, before.
type dues map[string]time.Time

func (d dues) add(webhook string, at time.Time) {
	if known, ok := d[webhook]; !ok || at.Before(known) {
		d[webhook] = at
	}
}

var (
	sqlLockDue = sqlText(`
		select webhook from due where webhook = any($1::text[]) order by webhook for update`)
	sqlLower = sqlText(`
		update due set due_at = greatest(e.at, coalesce(due.probe_at, e.at), coalesce(due.rate_at, e.at))
		from unnest($1::text[], $2::timestamptz[]) as e(name, at)
		where due.webhook = e.name and due.active and (due.due_at is null or due.due_at > e.at)`)
	sqlRecount = sqlText(`
		update due set due_at = ` + dueAfter("due.probe_at", "due.rate_at") + `
		where webhook = any($1::text[]) and active`)
)

// dueAfter is due_at anew from what is pending, for these values of probe_at and rate_at. What was tried of a held
// webhook is due for its probe whenever its own time may be.
func dueAfter(probe, rate string) string {
	return strings.NewReplacer("PROBE", probe, "RATE", rate).Replace(`(
			select case when min(next_at) is not null then greatest(
				case when PROBE is not null and exists (
					select 1 from deliveries as tried where tried.webhook = due.webhook and tried.state = 'pending'
						and tried.attempts > 0 and tried.next_at is not null)
				then PROBE else min(next_at) end,
				coalesce(PROBE, min(next_at)), coalesce(RATE, PROBE, min(next_at))) end
			from deliveries where deliveries.webhook = due.webhook and state = 'pending')`)
}

// lockDue takes the right to change these webhooks' pending deliveries. SQLite's one writer has it already.
func (t *tx) lockDue(ctx context.Context, webhooks []string) error {
	if t.l.lite || len(webhooks) == 0 {
		return nil
	}
	return t.each(ctx, sqlLockDue, []any{webhooks}, func(*sql.Rows) error { return nil })
}

// lower tells claims of what became due earlier than they know. It must lock even where due_at is early enough: a
// claim under way may be about to put it later, not seeing what this transaction has written.
func (t *tx) lower(ctx context.Context, due dues) error {
	if len(due) == 0 {
		return nil
	}
	webhooks := slices.Sorted(maps.Keys(due))
	if err := t.lockDue(ctx, webhooks); err != nil {
		return err
	}
	b := t.l.batch(len(due))
	for _, w := range webhooks {
		b.text(w)
		b.time(due[w])
		b.end()
	}
	_, err := t.exec(ctx, sqlLower, b.args()...)
	return err
}
