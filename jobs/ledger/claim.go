package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// deliveryColumns are those of jobs.Delivery, in the order of scanDelivery.
const deliveryColumns = `id, webhook, type, row_key, version, action, chatbot, state, reason, attempts, rounds, in_round,
	first_failed_at, round_failed_at, seen_at, not_before, next_at, last_error, settled_at, test_answer, run, lease`

func scanDelivery(row *sql.Rows) (jobs.Delivery, error) {
	var d jobs.Delivery
	err := row.Scan(&d.ID, &d.Webhook, &d.Type, &d.Row, &d.Version, &d.Action, &d.Chatbot, &d.State, &d.Reason,
		&d.Attempts, &d.Rounds, &d.InRound, instant{&d.FirstFailedAt}, instant{&d.RoundFailedAt}, instant{&d.SeenAt},
		instant{&d.NotBefore}, instant{&d.NextAt}, &d.LastError, instant{&d.SettledAt}, &d.TestAnswer, &d.Run, &d.Lease)
	return d, err
}

var (
	// Who waited longest for a claim goes first, so that webhooks whose backlog never ends take turns with the rest.
	sqlCandidates = sqlText(`
		select webhook from due
		where due_at <= $1 and webhook <> all($2::text[])
		order by served_at nulls first, due_at, webhook limit $3
		for update skip locked`)
	sqlCandidatesOf = sqlText(`
		select webhook from due
		where due_at <= $1 and webhook <> all($2::text[]) and webhook = any($4::text[])
		order by served_at nulls first, due_at, webhook limit $3
		for update skip locked`)
	sqlDueOf = sqlText(`
		select id, next_at, run, spent_in_run from deliveries
		where webhook = $1 and state = 'pending' and next_at <= $2
		order by next_at limit $3`)
	sqlLease = sqlText(`
		update deliveries set state = 'sending', lease = $1, spent_in_run = $2
		where id = any($3::uuid[]) and state = 'pending'
		returning ` + deliveryColumns)
	sqlServed = sqlText(`
		update due set served_at = $1, due_at = (
			select min(next_at) from deliveries where deliveries.webhook = due.webhook and state = 'pending')
		where webhook = any($2::text[])`)

	sqlNextDue   = sqlText(`select min(due_at) from due where due_at is not null`)
	sqlNextDueOf = sqlText(`select min(due_at) from due where webhook = any($1::text[])`)
)

// Claim leases what is due. Webhooks that another process claims from at this moment are passed over.
func (l *Ledger) Claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	var claimed []jobs.Delivery
	if c.Limit <= 0 {
		return nil, nil
	}
	err := l.change(ctx, "claim what is due", func(ctx context.Context, t *tx) error {
		claimed = nil
		if err := t.hold(ctx, c.Lease); err != nil {
			return err
		}
		webhooks, err := t.candidates(ctx, c)
		if err != nil || len(webhooks) == 0 {
			return err
		}
		picked, err := t.pick(ctx, c, webhooks)
		if err != nil {
			return err
		}
		if claimed, err = t.lease(ctx, c.Lease, picked); err != nil {
			return err
		}
		_, err = t.exec(ctx, sqlServed, t.now, webhooks)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(claimed, func(a, b jobs.Delivery) int { return a.NextAt.Compare(b.NextAt) })
	return claimed, nil
}

// room is how many of the webhook's deliveries c may take.
func room(c *jobs.Claim, webhook string) int {
	if n, ok := c.Room[webhook]; ok {
		return n
	}
	return c.Each
}

// candidates locks the webhooks that have something due and room.
func (t *tx) candidates(ctx context.Context, c jobs.Claim) ([]string, error) {
	full := []string{}
	for webhook, n := range c.Room {
		if n <= 0 {
			full = append(full, webhook)
		}
	}
	s, args := sqlCandidates, []any{t.now, full, c.Limit}
	wanted := c.Webhooks
	if c.Each <= 0 && wanted == nil { // only those that have a room of their own
		wanted = []string{}
		for webhook := range c.Room {
			wanted = append(wanted, webhook)
		}
	}
	if wanted != nil {
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return room(&c, w) <= 0 })
		s, args = sqlCandidatesOf, append(args, wanted)
	}
	var webhooks []string
	err := t.each(ctx, s, args, func(rows *sql.Rows) error {
		var w string
		err := rows.Scan(&w)
		webhooks = append(webhooks, w)
		return err
	})
	return webhooks, err
}

// A pick is a delivery that may be claimed. rank counts those of its webhook that come before it.
type pick struct {
	id    string
	next  time.Time
	rank  int
	run   string
	spent bool // counted in run's failed
}

// pick chooses at most Limit: the first of every webhook, then the second of every webhook …
func (t *tx) pick(ctx context.Context, c jobs.Claim, webhooks []string) ([]pick, error) {
	var all []pick
	for _, w := range webhooks {
		rank := 0
		err := t.each(ctx, sqlDueOf, []any{w, t.now, min(room(&c, w), c.Limit)}, func(rows *sql.Rows) error {
			p := pick{rank: rank}
			rank++
			err := rows.Scan(&p.id, instant{&p.next}, &p.run, &p.spent)
			all = append(all, p)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b pick) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.next.Compare(b.next)) })
	return all[:min(len(all), c.Limit)], nil
}

// lease makes them sending. A record whose round was spent begins another, so it is under way in its run again.
func (t *tx) lease(ctx context.Context, lease string, picked []pick) ([]jobs.Delivery, error) {
	if len(picked) == 0 {
		return nil, nil
	}
	ids, runs := make([]string, len(picked)), runCounts{}
	for i, p := range picked {
		ids[i] = p.id
		if p.spent {
			runs.of(p.run).failed--
		}
	}
	var claimed []jobs.Delivery
	err := t.each(ctx, sqlLease, []any{lease, false, ids}, func(rows *sql.Rows) error {
		d, err := scanDelivery(rows)
		claimed = append(claimed, d)
		t.doubt.ids = append(t.doubt.ids, d.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.doubt.lease = lease
	return claimed, t.count(ctx, runs)
}

// NextDue is when the next pending delivery falls due: a lower bound that a claim makes exact.
func (l *Ledger) NextDue(ctx context.Context, webhooks []string) (time.Time, error) {
	var at time.Time
	err := l.view("look for the next due delivery", func(t *tx) error {
		if webhooks == nil {
			return t.one(ctx, sqlNextDue, nil, instant{&at})
		}
		return t.one(ctx, sqlNextDueOf, []any{webhooks}, instant{&at})
	})
	return at, err
}
