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
	first_failed_at, round_failed_at, seen_at, not_before, next_at, last_error, settled_at, test_answer, run, lease, claims`

func scanDelivery(row *sql.Rows) (jobs.Delivery, error) {
	var d jobs.Delivery
	err := row.Scan(&d.ID, &d.Webhook, &d.Type, &d.Row, &d.Version, &d.Action, &d.Chatbot, &d.State, &d.Reason,
		&d.Attempts, &d.Rounds, &d.InRound, instant{&d.FirstFailedAt}, instant{&d.RoundFailedAt}, instant{&d.SeenAt},
		instant{&d.NotBefore}, instant{&d.NextAt}, &d.LastError, instant{&d.SettledAt}, &d.TestAnswer, &d.Run, &d.Lease, &d.Claims)
	return d, err
}

var (
	// Who waited longest for a claim goes first, so that webhooks whose backlog never ends take turns with the rest.
	sqlCandidates = sqlText(`
		select webhook, probe_at is not null, spacing_us, rate_at from due
		where due_at <= $1 and webhook <> all($2::text[])
		order by served_at nulls first, due_at, webhook limit $3
		for update skip locked`)
	sqlCandidatesOf = sqlText(`
		select webhook, probe_at is not null, spacing_us, rate_at from due
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
	// A probe is a record that was tried already, so that those which were not keep their attempts: one whose retry is
	// due, else one that waits, those tried least first. Where all of them were tried often it is one that was not,
	// since they may be what is wrong.
	sqlProbe = sqlText(`
		select id, webhook, next_at, run, spent_in_run from (
			select * from (
				select id, webhook, next_at, run, spent_in_run, 1 as choice from deliveries
				where webhook = $2 and state = 'pending' and attempts > 0 and next_at <= $1
				order by next_at limit 1) as retried
			union all
			select * from (
				select id, webhook, next_at, run, spent_in_run, 2 as choice from deliveries
				where webhook = $2 and state = 'pending' and attempts > 0 and attempts < $3 and next_at is not null
				order by attempts, next_at limit 1) as waiting
			union all
			select * from (
				select id, webhook, next_at, run, spent_in_run, 3 as choice from deliveries
				where webhook = $2 and state = 'pending' and next_at <= $1
				order by next_at limit 1) as untried
			union all
			select * from (
				select id, webhook, next_at, run, spent_in_run, 4 as choice from deliveries
				where webhook = $2 and state = 'pending' and attempts > 0 and next_at is not null
				order by attempts, next_at limit 1) as tried_often) as choices
		order by choice limit 1`)
	// They were pending when due was locked, so they are. Naming the state would let the planner look through all
	// that is pending.
	sqlLease = sqlText(`
		update deliveries set state = 'sending', lease = $1, spent_in_run = $2, claims = claims + 1
		where id = any($3::uuid[])
		returning ` + deliveryColumns)
	sqlServed = sqlText(`
		update due set served_at = $1, probe_at = case when due.probe_at is not null then $2::timestamptz end, rate_at = e.rate,
			due_at = ` + dueAfter("case when due.probe_at is not null then $2::timestamptz end", "e.rate") + `
		from unnest($3::text[], $4::timestamptz[]) as e(name, rate)
		where due.webhook = e.name`)

	sqlDue = sqlText(`
		select count(*) from due where webhook = any($2::text[]) and (due_at <= $1 or probe_at is null and rate_at > $1
			and exists (select 1 from deliveries where deliveries.webhook = due.webhook and state = 'pending' and next_at <= $1))
			and active`)
	sqlNextDue   = sqlText(`select min(due_at) from due where due_at is not null`)
	sqlNextDueOf = sqlText(`select min(due_at) from due where webhook = any($1::text[])`)

	sqlClaimable = sqlText(`
		select due_at from due where due_at <= $1 and ($2::boolean or webhook = any($3::text[]))
		order by due_at limit 1
		for update skip locked`)
)

// Claim leases what is due. Webhooks that another process claims from at this moment are passed over.
func (l *Ledger) Claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	var claimed []jobs.Delivery
	if c.Limit <= 0 {
		return nil, nil
	}
	err := l.lease(ctx, "claim what is due", func(ctx context.Context, t *tx) (err error) {
		claimed, err = t.claim(ctx, c)
		return err
	})
	return claimed, err
}

func (t *tx) claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	if err := t.hold(ctx, c.Lease); err != nil {
		return nil, err
	}
	webhooks, err := t.candidates(ctx, c)
	if err != nil || len(webhooks) == 0 {
		return nil, err
	}
	picked, err := t.pick(ctx, c.Limit, webhooks)
	if err != nil {
		return nil, err
	}
	claimed, err := t.lease(ctx, c.Lease, picked)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(claimed, func(a, b jobs.Delivery) int { return a.NextAt.Compare(b.NextAt) })
	served := t.l.batch(len(webhooks))
	for _, w := range webhooks {
		served.text(w.webhook)
		served.time(w.spread(claimed))
		served.end()
	}
	_, err = t.exec(ctx, sqlServed, append([]any{t.now, t.now.Add(probeLost)}, served.args()...)...)
	return claimed, err
}

// probeLost is when a held webhook is probed again whose probe was not settled.
const probeLost = time.Minute

// triedOften is how many attempts, two rounds as a rule, let a probe be a record that was never tried.
const triedOften = 6

// How far ahead the requests of a webhook with a rate are claimed, and how long before the first of them may be sent:
// so that one claim gives many, and none of them is late because claiming took its time.
const (
	rateAhead = time.Second
	rateLead  = 200 * time.Millisecond
)

// A candidate is a webhook that has something due.
type candidate struct {
	webhook string
	room    int  // how many of its deliveries may be claimed
	probe   bool // it is held: the one is a probe
	spacing time.Duration
	sendAt  time.Time // with a spacing: of the next of its requests
}

// spread gives those of its deliveries that were claimed their times, and returns when the next may be claimed; zero: the
// webhook has no rate.
func (w *candidate) spread(claimed []jobs.Delivery) time.Time {
	if w.spacing == 0 {
		return time.Time{}
	}
	at := w.sendAt
	for i := range claimed {
		if claimed[i].Webhook == w.webhook {
			claimed[i].SendAt = at
			at = at.Add(w.spacing)
		}
	}
	return at.Add(-rateLead)
}

// candidates locks the webhooks that have something due and room. Those that are held have room for one: the probe.
// Those with a rate have as much as may be sent soon.
func (t *tx) candidates(ctx context.Context, c jobs.Claim) ([]*candidate, error) {
	room := func(webhook string) int {
		if n, ok := c.Room[webhook]; ok {
			return n
		}
		return c.Each
	}
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
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return room(w) <= 0 })
		s, args = sqlCandidatesOf, append(args, wanted)
	}
	var webhooks []*candidate
	err := t.each(ctx, s, args, func(rows *sql.Rows) error {
		w := &candidate{}
		var spacing int64
		err := rows.Scan(&w.webhook, &w.probe, &spacing, instant{&w.sendAt})
		w.room = min(room(w.webhook), c.Limit)
		if w.probe {
			w.room = min(w.room, 1)
		}
		if w.spacing = time.Duration(spacing) * time.Microsecond; w.spacing > 0 {
			if w.sendAt = w.sendAt.Add(rateLead); w.sendAt.Before(t.now) {
				w.sendAt = t.now
			}
			ahead := t.now.Add(rateAhead).Sub(w.sendAt)
			w.room = min(w.room, max(0, 1+int(ahead/w.spacing)))
		}
		webhooks = append(webhooks, w)
		return err
	})
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

// pick chooses at most limit: the first of every webhook, then the second of every webhook …
func (t *tx) pick(ctx context.Context, limit int, webhooks []*candidate) ([]pick, error) {
	// Twice a fair share of each is enough as a rule. Where it is not, those that gave all they were asked for are
	// asked for as much as they have room for.
	asked, found := map[*candidate]int{}, map[*candidate][]pick{}
	share, total := max(1, 2*limit/len(webhooks)), 0
	for _, w := range webhooks {
		if w.room > 0 {
			asked[w] = min(w.room, share)
		}
	}
	for {
		if err := t.dueOf(ctx, asked, found); err != nil {
			return nil, err
		}
		total = 0
		more := map[*candidate]int{}
		for w, picks := range found {
			total += len(picks)
			if len(picks) == asked[w] && len(picks) < w.room {
				more[w] = w.room
			}
		}
		if total >= limit || len(more) == 0 {
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
	return all[:min(len(all), limit)], nil
}

// dueOf finds what is due of these webhooks, of each at most as many as are asked for.
func (t *tx) dueOf(ctx context.Context, asked map[*candidate]int, found map[*candidate][]pick) error {
	byName := make(map[string]*candidate, len(asked))
	read := func(s *statement, args ...any) error {
		return t.each(ctx, s, args, func(rows *sql.Rows) error {
			var p pick
			err := rows.Scan(&p.id, &p.webhook, instant{&p.next}, &p.run, &p.spent)
			w := byName[p.webhook]
			found[w] = append(found[w], p)
			return err
		})
	}
	b, n := t.l.batch(len(asked)), 0
	for w, most := range asked {
		delete(found, w)
		byName[w.webhook] = w
		var err error
		switch {
		case w.probe:
			err = read(sqlProbe, t.now, w.webhook, triedOften)
		case t.l.lite:
			err = read(sqlDueOf, t.now, w.webhook, most)
		default:
			b.text(w.webhook)
			b.number(int64(most))
			b.end()
			n++
		}
		if err != nil {
			return err
		}
	}
	if n == 0 {
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

// NextDue is when the next pending delivery may be claimed: a lower bound that a claim makes exact.
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

// Claimable is since when something is due whose webhook nobody holds.
func (l *Ledger) Claimable(ctx context.Context, webhooks []string) (time.Time, error) {
	var at time.Time
	err := l.view("look whether what is due can be claimed", func(t *tx) error {
		at = time.Time{}
		return t.each(ctx, sqlClaimable, []any{t.now, webhooks == nil, webhooks}, func(rows *sql.Rows) error {
			return rows.Scan(instant{&at})
		})
	})
	return at, err
}

// Due reports whether something of these webhooks is due; see jobs.Queue.
func (l *Ledger) Due(ctx context.Context, webhooks []string) (bool, error) {
	var n int
	err := l.view("look for what is due", func(t *tx) error {
		return t.one(ctx, sqlDue, []any{t.now, webhooks}, &n)
	})
	return n > 0, err
}
