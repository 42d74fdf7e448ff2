package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
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
		select webhook, probe_at is not null from due
		where due_at <= $1 and webhook <> all($2::text[])
		order by served_at nulls first, due_at, webhook limit $3
		for update skip locked`)
	sqlCandidatesOf = sqlText(`
		select webhook, probe_at is not null from due
		where due_at <= $1 and webhook <> all($2::text[]) and webhook = any($4::text[])
		order by served_at nulls first, due_at, webhook limit $3
		for update skip locked`)
	// One question for all webhooks; SQLite, which knows no lateral, is asked once for each, and is not far away.
	sqlDueOfAll = postgresOnly(`
		select d.id, d.webhook, d.next_at, d.run, d.spent_in_run
		from unnest($2::text[], $3::int[]) as w(name, room)
		cross join lateral (
			select id, webhook, next_at, run, spent_in_run from deliveries
			where webhook = w.name and state = 'pending' and next_at <= $1
			order by next_at limit w.room) as d`)
	sqlDueOf = sqlText(`
		select id, webhook, next_at, run, spent_in_run from deliveries
		where webhook = $2 and state = 'pending' and next_at <= $1
		order by next_at limit $3`)
	// They were pending when due was locked, so they are. Naming the state would let the planner look through all
	// that is pending.
	sqlLease = sqlText(`
		update deliveries set state = 'sending', lease = $1, spent_in_run = $2
		where id = any($3::uuid[])
		returning ` + deliveryColumns)
	sqlServed = sqlText(`
		update due set served_at = $1, probe_at = case when probe_at is not null then $3::timestamptz end, due_at = (
			select case when due.probe_at is not null and min(next_at) < $3 then $3 else min(next_at) end
			from deliveries where deliveries.webhook = due.webhook and state = 'pending')
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
	err := l.change(ctx, "claim what is due", func(ctx context.Context, t *tx) (err error) {
		claimed, err = t.claim(ctx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(claimed, func(a, b jobs.Delivery) int { return a.NextAt.Compare(b.NextAt) })
	return claimed, nil
}

func (t *tx) claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	if err := t.hold(ctx, c.Lease); err != nil {
		return nil, err
	}
	webhooks, err := t.candidates(ctx, &c)
	if err != nil || len(webhooks) == 0 {
		return nil, err
	}
	picked, err := t.pick(ctx, c, webhooks)
	if err != nil {
		return nil, err
	}
	claimed, err := t.lease(ctx, c.Lease, picked)
	if err != nil {
		return nil, err
	}
	_, err = t.exec(ctx, sqlServed, t.now, webhooks, t.now.Add(probeLost))
	return claimed, err
}

// room is how many of the webhook's deliveries c may take.
func room(c *jobs.Claim, webhook string) int {
	if n, ok := c.Room[webhook]; ok {
		return n
	}
	return c.Each
}

// probeLost is when a held webhook is probed again whose probe was not settled.
const probeLost = time.Minute

// candidates locks the webhooks that have something due and room. Those that are held have room for one: the probe.
func (t *tx) candidates(ctx context.Context, c *jobs.Claim) ([]string, error) {
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
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return room(c, w) <= 0 })
		s, args = sqlCandidatesOf, append(args, wanted)
	}
	var webhooks, probed []string
	err := t.each(ctx, s, args, func(rows *sql.Rows) error {
		var w string
		var probe bool
		err := rows.Scan(&w, &probe)
		webhooks = append(webhooks, w)
		if probe {
			probed = append(probed, w)
		}
		return err
	})
	if len(probed) > 0 {
		c.Room = maps.Clone(c.Room) // the caller's says what the caller has room for
		if c.Room == nil {
			c.Room = map[string]int{}
		}
		for _, w := range probed {
			c.Room[w] = 1
		}
	}
	return webhooks, err
}

// A pick is a delivery that may be claimed.
type pick struct {
	id, webhook string
	next        time.Time
	rank        int // how many of its webhook come before it
	run         string
	spent       bool // counted in run's failed
}

// pick chooses at most Limit: the first of every webhook, then the second of every webhook …
func (t *tx) pick(ctx context.Context, c jobs.Claim, webhooks []string) ([]pick, error) {
	// Twice a fair share of each is enough as a rule. Where it is not, those that gave all they were asked for are
	// asked for as much as they have room for.
	asked, found := map[string]int{}, map[string][]pick{}
	share, total := max(1, 2*c.Limit/len(webhooks)), 0
	for _, w := range webhooks {
		asked[w] = min(room(&c, w), c.Limit, share)
	}
	for {
		if err := t.dueOf(ctx, asked, found); err != nil {
			return nil, err
		}
		total = 0
		more := map[string]int{}
		for w, picks := range found {
			total += len(picks)
			if most := min(room(&c, w), c.Limit); len(picks) == asked[w] && len(picks) < most {
				more[w] = most
			}
		}
		if total >= c.Limit || len(more) == 0 {
			break
		}
		asked = more
	}
	all := make([]pick, 0, total)
	for _, picks := range found {
		slices.SortFunc(picks, func(a, b pick) int { return a.next.Compare(b.next) })
		for rank := range picks {
			picks[rank].rank = rank
		}
		all = append(all, picks...)
	}
	slices.SortFunc(all, func(a, b pick) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), a.next.Compare(b.next), cmp.Compare(a.webhook, b.webhook))
	})
	return all[:min(len(all), c.Limit)], nil
}

// dueOf finds what is due of these webhooks, of each at most as many as are asked for.
func (t *tx) dueOf(ctx context.Context, asked map[string]int, found map[string][]pick) error {
	read := func(s *statement, args ...any) error {
		return t.each(ctx, s, args, func(rows *sql.Rows) error {
			var p pick
			err := rows.Scan(&p.id, &p.webhook, instant{&p.next}, &p.run, &p.spent)
			found[p.webhook] = append(found[p.webhook], p)
			return err
		})
	}
	b := t.l.batch(len(asked))
	for w, n := range asked {
		delete(found, w)
		b.text(w)
		b.number(int64(n))
		b.end()
		if t.l.lite {
			if err := read(sqlDueOf, t.now, w, n); err != nil {
				return err
			}
		}
	}
	if t.l.lite {
		return nil
	}
	return read(sqlDueOfAll, append([]any{t.now}, b.args()...)...)
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
