package ledger

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

const runColumns = `id, kind, schedule, fire_at, started_at, ended_at, gathering, gathered, carried, delivered,
	test_answers, failed, dead, webhooks, types, chatbots`

func scanRun(row *sql.Rows) (jobs.Run, error) {
	var r jobs.Run
	err := row.Scan(&r.ID, &r.Kind, &r.Schedule, instant{&r.FireAt}, instant{&r.StartedAt}, instant{&r.EndedAt},
		&r.Gathering, &r.Gathered, &r.Carried, &r.Delivered, &r.TestAnswers, &r.Failed, &r.Dead, list{&r.Webhooks},
		list{&r.Types}, list{&r.Chatbots})
	return r, err
}

// adoptable are a webhook's records that a new run takes on. $9 are the runs that keep theirs.
const adoptable = `state = 'pending' and webhook = any($5::text[]) and ($2::boolean or type = any($6::text[]))
	and ($7::boolean or chatbot = any($8::text[])) and (not in_round or next_at <= $1) and next_at is not null and (not_before is null or not_before <= $1) and ($3::boolean or next_at <= $1)
	and run <> $4 and run <> all($9::text[])`

var (
	sqlEnterSchedule = sqlText(`
		insert into schedules (schedule, last_fire_at) values ($1, $2) on conflict (schedule) do nothing`)
	sqlLastFire = sqlText(`select last_fire_at from schedules where schedule = $1`)
	sqlFired    = sqlText(`
		insert into schedules (schedule, last_fire_at) values ($1, $2) on conflict (schedule)
		do update set last_fire_at = excluded.last_fire_at where schedules.last_fire_at < excluded.last_fire_at`)

	sqlStartRun = sqlText(`
		insert into runs (id, kind, schedule, fire_at, started_at, gathering, lease, webhooks,
			types, chatbots)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (schedule, fire_at) do nothing`)
	sqlRun       = sqlText(`select ` + runColumns + ` from runs where id = $1`)
	sqlSendingOf = sqlText(`select count(*) from deliveries where state = 'sending' and run = $1`)
	sqlGathering = sqlText(`
		select ` + runColumns + ` from runs
		where ended_at is null and gathering and (kind = 'scheduled' or lease in (select token from leases where expires_at > $1))
		order by id`)
	sqlRunOf    = sqlText(`select ` + runColumns + ` from runs where schedule = $1 and fire_at = $2`)
	sqlRunLease = sqlText(`select lease from runs where id = $1`)
	sqlActive   = sqlText(`select id from webhooks where state = 'active' order by id`)
	sqlRanAt    = sqlText(`update tallies set last_run_at = $1 where webhook = any($2::text[])`)
	// A run that is open keeps its records, but for one whose owner is gone: nobody waits for it, and it must not keep
	// records from one that somebody waits for.
	sqlKeeping = sqlText(`
		select runs.id from runs join leases on leases.token = runs.lease and leases.expires_at > $1
		where runs.ended_at is null`)
	sqlAdoptable = sqlText(`
		select webhook, run, attempts = 0, spent_in_run, count(*) from deliveries where ` + adoptable + `
		group by 1, 2, 3, 4`)
	sqlAdopt = sqlText(`
		update deliveries set run = $4, next_at = case when next_at < $1 then next_at else $1 end,
			spent_in_run = (1 = 0), carried = (attempts > 0) where ` + adoptable)

	sqlLockRuns = sqlText(`select id from runs where id = any($1::text[]) order by id for update`)
	sqlCount    = sqlText(`
		update runs set gathered = runs.gathered + e.more_gathered, carried = runs.carried + e.more_carried,
			delivered = runs.delivered + e.more_delivered, test_answers = runs.test_answers + e.more_tests,
			failed = runs.failed + e.more_failed, dead = runs.dead + e.more_dead
		from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
			as e(run, more_gathered, more_carried, more_delivered, more_tests, more_failed, more_dead)
		where runs.id = e.run and runs.ended_at is null`)

	sqlGatherDone = sqlText(`update runs set gathering = $2 where id = $1`)
	sqlOrphans    = sqlText(`
		update runs set lease = $1
		where ended_at is null and gathering and kind = 'scheduled' and (lease = $1 or ` + abandoned("$1", "$2") + `)
		returning ` + runColumns)
	sqlEndManual = sqlText(`
		update runs set ended_at = $2
		where ended_at is null and kind = 'manual' and ` + abandoned("$1", "$2"))
	sqlEndRuns = sqlText(`
		update runs set ended_at = $1
		where ended_at is null and not gathering
			and gathered + carried <= delivered + test_answers + failed + dead
		returning ` + runColumns)
	sqlOpenRuns = sqlText(`select ` + runColumns + ` from runs where ended_at is null and not gathering order by id`)
	sqlStopped  = sqlText(`select id, state, retry_at, stopped_at from webhooks where stopped_at >= $1 order by id`)
	sqlStalled  = sqlText(`
		select count(*) from deliveries
		where webhook = any($2::text[]) and state = 'pending' and run = $1 and not spent_in_run`)
	sqlEndStalled = sqlText(`
		update runs set ended_at = $1
		where id = $2 and ended_at is null and not gathering
			and gathered + carried - delivered - test_answers - failed - dead <= $3
		returning ` + runColumns)
)

// abandoned is the condition of a run whose process is gone, in the eyes of one whose own lease holds: where that ran out,
// too, the ledger was away for long.
func abandoned(own, now string) string {
	return strings.NewReplacer("OWN", own, "NOW", now).Replace(`lease not in (select token from leases where expires_at > NOW)
		and exists (select 1 from leases where token = OWN and expires_at > NOW)`)
}

// runCounts are what a transaction adds to the counts of runs.
type runCounts map[string]*runCount

type runCount struct{ gathered, carried, delivered, tests, failed, dead int }

func (r runCounts) of(run string) *runCount {
	if r[run] == nil {
		r[run] = &runCount{}
	}
	return r[run]
}

func (c *runCount) add(o *jobs.Outcome) {
	switch d := &o.Delivery; {
	case d.State == jobs.Delivered && d.TestAnswer:
		c.tests++
	case d.State == jobs.Delivered:
		c.delivered++
	case d.State == jobs.Dead:
		c.dead++
	case o.Spent:
		c.failed++
	}
}

// count adds to the runs that have not ended.
func (t *tx) count(ctx context.Context, runs runCounts) error {
	maps.DeleteFunc(runs, func(id string, c *runCount) bool { return id == "" || *c == runCount{} })
	if len(runs) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(runs))
	if len(ids) > 1 && !t.l.lite {
		if err := t.each(ctx, sqlLockRuns, []any{ids}, func(*sql.Rows) error { return nil }); err != nil {
			return err
		}
	}
	b := t.l.batch(len(ids))
	for _, id := range ids {
		c := runs[id]
		b.text(id)
		for _, n := range [...]int{c.gathered, c.carried, c.delivered, c.tests, c.failed, c.dead} {
			b.number(int64(n))
		}
		b.end()
	}
	_, err := t.exec(ctx, sqlCount, b.args()...)
	return err
}

// LastFire is a schedule's last fire; the first call for a schedule enters now.
func (l *Ledger) LastFire(ctx context.Context, schedule string) (time.Time, error) {
	var at time.Time
	err := l.change(ctx, "look up the last fire of a schedule", func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, sqlEnterSchedule, schedule, t.now); err != nil {
			return err
		}
		return t.one(ctx, sqlLastFire, []any{schedule}, instant{&at})
	})
	return at, err
}

// StartRun begins a run and takes on what is pending; see jobs.Runs. Records of webhooks that are not active are left:
// they could not be sent, and the run would not end.
func (l *Ledger) StartRun(ctx context.Context, s jobs.RunStart) (run jobs.Run, mine bool, err error) {
	err = l.lease(ctx, "start a run", func(ctx context.Context, t *tx) error {
		run = jobs.Run{
			ID: newID(), Kind: s.Kind, Schedule: s.Schedule, FireAt: s.FireAt.UTC(), StartedAt: t.now, Gathering: true,
			Types: s.Types, Chatbots: s.Chatbots,
		}
		mine = true
		if s.Kind == jobs.Scheduled {
			if _, err := t.exec(ctx, sqlFired, s.Schedule, s.FireAt); err != nil {
				return err
			}
		} else {
			run.Schedule, run.FireAt, run.Webhooks = "", time.Time{}, s.Webhooks
		}
		n, err := t.exec(ctx, sqlStartRun, run.ID, string(run.Kind), run.Schedule, run.FireAt, t.now, true, s.Lease,
			list{&run.Webhooks}, list{&run.Types}, list{&run.Chatbots})
		if err != nil {
			return err
		}
		if n == 0 { // this fire has begun already
			err := t.each(ctx, sqlRunOf, []any{s.Schedule, s.FireAt}, func(rows *sql.Rows) (err error) {
				run, err = scanRun(rows)
				return err
			})
			if err != nil {
				return err
			}
			var lease string
			err = t.one(ctx, sqlRunLease, []any{run.ID}, &lease)
			mine = lease == s.Lease // begun by a transaction that reported a failure
			return err
		}
		if s.Kind == jobs.Manual {
			if l.doubts.run(s.Lease) { // it would keep what this one is to take on
				return errInDoubt
			}
			if err := t.hold(ctx, s.Lease); err != nil && !errors.Is(err, jobs.ErrLeaseLost) {
				return err
			}
			t.doubt = doubt{lease: s.Lease, run: run.ID}
		}
		return t.adopt(ctx, s, &run)
	})
	return run, mine, err
}

func (t *tx) adopt(ctx context.Context, s jobs.RunStart, run *jobs.Run) error {
	wanted := make(map[string]bool, len(s.Webhooks)) // there may be ten thousand
	for _, id := range s.Webhooks {
		wanted[id] = true
	}
	var webhooks []string
	err := t.each(ctx, sqlActive, nil, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		if s.Webhooks == nil || wanted[id] {
			webhooks = append(webhooks, id)
		}
		return err
	})
	if err != nil || len(webhooks) == 0 {
		return err
	}
	if !t.l.lite {
		if err := t.each(ctx, sqlLockTallies, []any{webhooks}, func(*sql.Rows) error { return nil }); err != nil {
			return err
		}
	}
	if _, err := t.exec(ctx, sqlRanAt, t.now, webhooks); err != nil {
		return err
	}
	if err := t.lockDue(ctx, webhooks); err != nil {
		return err
	}
	// Nobody else changes these while due is locked, so the two statements see the same records. Of leases that is not
	// so: one that ran out may be kept at any moment. They are looked at once, and now, when no more can be entered.
	keeping := []string{}
	err = t.each(ctx, sqlKeeping, []any{t.now}, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		keeping = append(keeping, id)
		return err
	})
	if err != nil {
		return err
	}
	counts, due := runCounts{}, dues{}
	args := []any{t.now, s.Types == nil, s.Kind == jobs.Manual, run.ID, webhooks, s.Types, s.Chatbots == nil, s.Chatbots, keeping}
	err = t.each(ctx, sqlAdoptable, args, func(rows *sql.Rows) error {
		var webhook, from string
		var fresh, spent bool
		var n int
		if err := rows.Scan(&webhook, &from, &fresh, &spent, &n); err != nil {
			return err
		}
		due.add(webhook, t.now)
		if fresh {
			run.Gathered += n
		} else {
			run.Carried += n
		}
		if !spent {
			counts.of(from).failed += n // the run they leave counts them as still owed
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return err
	}
	if _, err := t.exec(ctx, sqlAdopt, args...); err != nil {
		return err
	}
	if err := t.lower(ctx, due); err != nil {
		return err
	}
	own := counts.of(run.ID)
	own.gathered, own.carried = run.Gathered, run.Carried
	return t.count(ctx, counts)
}

// Run returns one run, or ErrNotFound.
func (l *Ledger) Run(ctx context.Context, id string) (jobs.Run, error) {
	var r jobs.Run
	err := l.view("run "+id, func(t *tx) error {
		err := t.each(ctx, sqlRun, []any{id}, func(rows *sql.Rows) (err error) {
			r, err = scanRun(rows)
			return err
		})
		if err == nil && r.ID == "" {
			return jobs.ErrNotFound
		}
		return err
	})
	return r, err
}

// Sending counts a run's records that some process is sending.
func (l *Ledger) Sending(ctx context.Context, id string) (n int, err error) {
	err = l.view("what is under way of run "+id, func(t *tx) error { return t.one(ctx, sqlSendingOf, []any{id}, &n) })
	return n, err
}

// Gathering returns the runs whose pages are being read, but for manual ones whose lease ran out.
func (l *Ledger) Gathering(ctx context.Context) ([]jobs.Run, error) {
	var runs []jobs.Run
	err := l.view("look for runs that gather", func(t *tx) error {
		runs = nil
		return t.each(ctx, sqlGathering, []any{t.now}, func(rows *sql.Rows) error {
			r, err := scanRun(rows)
			runs = append(runs, r)
			return err
		})
	})
	return runs, err
}
