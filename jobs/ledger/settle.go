package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	// A delivery has a lease while it is sending and at no other time, so the lease is the fence; and the number of the
	// claim, where a commit recorded an outcome, its answer was lost, and the outcome is recorded again when the same
	// process has claimed the delivery anew. The state is not named: it would let the planner look through all that is
	// leased, and all that was since the last vacuum.
	sqlSettle = sqlText(`
		update deliveries set state = e.new_state, reason = e.new_reason, attempts = e.new_attempts,
			rounds = e.new_rounds, in_round = e.new_in_round, first_failed_at = e.new_first, round_failed_at = e.new_round,
			next_at = e.new_next, last_error = e.new_error, settled_at = e.new_settled, test_answer = e.new_test,
			spent_in_run = e.new_spent and run <> '', began_at = e.new_began, took_us = e.new_took,
			status = e.new_status, word = e.new_word, lease = ''
		from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::boolean[],
			$8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::boolean[],
			$14::boolean[], $15::timestamptz[], $16::bigint[], $17::int[], $18::text[], $19::int[])
			as e(delivery, held, new_state, new_reason, new_attempts, new_rounds, new_in_round, new_first, new_round,
				new_next, new_error, new_settled, new_test, new_spent, new_began, new_took, new_status, new_word, claim)
		where id = e.delivery and lease = e.held and claims = e.claim and e.held <> ''
		returning id, run, released, carried`)
	sqlAttempts = sqlText(`
		insert into attempts (delivery, number, began_at, took_us, status, error, word)
		select e.delivery, e.number, e.began_at, e.took_us, e.status, e.error, e.word
		from unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::bigint[], $5::int[], $6::text[], $7::text[])
			as e(delivery, number, began_at, took_us, status, error, word)
		where true
		on conflict (delivery, number) do nothing`)
)

// Settle records outcomes, each if its delivery is still sending under the outcome's lease and claim. That the lease has
// expired does not matter as long as nobody took the delivery back. It reports, for each, whether it was recorded.
func (l *Ledger) Settle(ctx context.Context, outcomes []jobs.Outcome) ([]bool, error) {
	recorded := make([]bool, len(outcomes))
	if len(outcomes) == 0 {
		return recorded, nil
	}
	for i := range outcomes {
		if s := outcomes[i].Delivery.State; s != jobs.Pending && s != jobs.Delivered && s != jobs.Dead {
			return nil, fmt.Errorf("settle delivery %s: %q is no outcome", outcomes[i].Delivery.ID, s)
		}
	}
	given := outcomes
	err := l.change(ctx, "settle outcomes", func(ctx context.Context, t *tx) error {
		clear(recorded)
		v, outcomes, err := t.holdVersions(ctx, given)
		if err != nil {
			return err
		}
		known, err := t.settle(ctx, outcomes)
		if err != nil {
			return err
		}
		attempts, n := t.l.batch(len(outcomes)), 0
		sums, runs, due := tallies{}, v.runs, v.due
		for i := range outcomes {
			o := &outcomes[i]
			was := known[i]
			if was == nil {
				continue
			}
			recorded[i] = true
			if o.Attempt != nil && !atOnce(o) {
				addAttempt(attempts, o)
				n++
			}
			sums.add(o, was.released)
			switch {
			case o.Delivery.State == jobs.Dead && o.Delivery.Reason == jobs.Superseded:
				v.leave(was.run, was.carried, false)
				if o.Newer != nil {
					newer := *o.Newer
					newer.Run = was.run
					o.Newer = &newer
				}
			case was.run != "":
				runs.of(was.run).add(o)
			}
			if o.Delivery.State == jobs.Pending {
				due.add(o.Delivery.Webhook, nextAt(o, t.now))
			}
		}
		if n > 0 {
			if _, err := t.exec(ctx, sqlAttempts, attempts.args()...); err != nil {
				return err
			}
		}
		release, turns, err := t.tally(ctx, sums)
		if err != nil {
			return err
		}
		touched := v.webhooks()
		for _, turned := range turns {
			touched = append(touched, turned.webhook)
		}
		if err := t.lockDue(ctx, union(due, release, touched)); err != nil {
			return err
		}
		if err := t.settleVersions(ctx, v, outcomes, recorded, known); err != nil {
			return err
		}
		for _, r := range release {
			if err := t.release(ctx, r, due, runs); err != nil {
				return err
			}
		}
		if err := t.lower(ctx, due); err != nil {
			return err
		}
		for _, turned := range turns {
			if err := t.turn(ctx, turned); err != nil {
				return err
			}
		}
		return t.count(ctx, runs)
	})
	if err != nil {
		return nil, err
	}
	return recorded, nil
}

// holdVersions takes the right to settle those outcomes whose rows have versions. Where another version waits for one
// that failed, it supersedes it.
func (t *tx) holdVersions(ctx context.Context, outcomes []jobs.Outcome) (*heldRows, []jobs.Outcome, error) {
	var keys []rowKey
	for i := range outcomes {
		if outcomes[i].Delivery.Version != "" {
			keys = append(keys, rowOf(&outcomes[i].Delivery))
		}
	}
	v, err := t.holdRows(ctx, keys, false)
	if err != nil || len(v.rows) == 0 {
		return v, outcomes, err
	}
	outcomes = slices.Clone(outcomes) // the caller's are as they were when this is tried again
	for i := range outcomes {
		o := &outcomes[i]
		r := v.rows[rowOf(&o.Delivery)]
		if r == nil || r.behind == "" || r.open != o.Delivery.ID.String() || o.Delivery.State != jobs.Pending {
			continue
		}
		d := &o.Delivery
		if o.Spent {
			d.Rounds--
		}
		o.Spent, d.State, d.Reason, d.InRound, d.SettledAt = false, jobs.Dead, jobs.Superseded, false, t.now
		if d.LastError == "" {
			d.LastError = jobs.NewerVersion
		}
	}
	return v, outcomes, nil
}

// settleVersions lets the versions go that waited for these outcomes, or go instead. The webhooks' tallies and due rows
// are held.
func (t *tx) settleVersions(ctx context.Context, v *heldRows, outcomes []jobs.Outcome, recorded []bool, known []*stood) error {
	if len(v.rows) == 0 {
		return nil
	}
	var instead []*jobs.Delivery
	for i := range outcomes {
		if recorded[i] && outcomes[i].Newer != nil {
			instead = append(instead, outcomes[i].Newer)
		}
	}
	if err := v.look(ctx, instead); err != nil {
		return err
	}
	for i := range outcomes {
		if recorded[i] {
			v.settled(&outcomes[i], *known[i])
		}
	}
	return t.insertVersions(ctx, v)
}

// atOnce: acknowledged at the first attempt. It lives in the delivery's own row.
func atOnce(o *jobs.Outcome) bool {
	return o.Attempt != nil && o.Attempt.Error == "" && o.Delivery.State == jobs.Delivered && o.Delivery.Attempts <= 1
}

func nextAt(o *jobs.Outcome, now time.Time) time.Time {
	if o.Delivery.NextAt.IsZero() {
		return now
	}
	return o.Delivery.NextAt
}

// stood is what the ledger alone knew of a delivery that was settled.
type stood struct {
	run               string
	released, carried bool
}

// settle writes the outcomes whose leases hold, and returns for these what stood before. A delivery may be named twice: by
// who lost its lease and answers late, and claimed it again. The statement tells which delivery it changed and not by
// which outcome, so it is given each delivery once.
func (t *tx) settle(ctx context.Context, outcomes []jobs.Outcome) ([]*stood, error) {
	known := make([]*stood, len(outcomes))
	left := make([]int, len(outcomes))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		place := make(map[uuid.UUID]int, len(left))
		var again []int
		b := t.l.batch(len(left))
		for _, i := range left {
			o := &outcomes[i]
			if _, named := place[o.Delivery.ID]; named {
				again = append(again, i)
				continue
			}
			place[o.Delivery.ID] = i
			t.settleRow(b, o)
		}
		err := t.each(ctx, sqlSettle, b.args(), func(rows *sql.Rows) error {
			var id uuid.UUID
			var s stood
			err := rows.Scan(&id, &s.run, &s.released, &s.carried)
			known[place[id]] = &s
			return err
		})
		if err != nil {
			return nil, err
		}
		left = again
	}
	return known, nil
}

func (t *tx) settleRow(b batch, o *jobs.Outcome) {
	d := &o.Delivery
	var next, settled time.Time
	if d.State == jobs.Pending {
		next = nextAt(o, t.now)
	} else if settled = d.SettledAt; settled.IsZero() {
		settled = t.now
	}
	var first jobs.Attempt
	if atOnce(o) {
		first = *o.Attempt
	}
	b.id(d.ID)
	b.text(o.Lease)
	b.text(string(d.State))
	b.text(string(d.Reason))
	b.number(int64(d.Attempts))
	b.number(int64(d.Rounds))
	b.flag(d.InRound)
	b.time(d.FirstFailedAt)
	b.time(d.RoundFailedAt)
	b.time(next)
	b.text(d.LastError)
	b.time(settled)
	b.flag(d.TestAnswer)
	b.flag(o.Spent && d.State == jobs.Pending)
	b.time(first.At)
	b.number(first.Duration.Microseconds())
	b.number(int64(first.Status))
	b.text(first.Word)
	b.number(int64(d.Claims))
	b.end()
}

func addAttempt(b batch, o *jobs.Outcome) {
	a := o.Attempt
	b.id(o.Delivery.ID)
	b.number(int64(o.Delivery.Attempts))
	b.time(a.At)
	b.number(a.Duration.Microseconds())
	b.number(int64(a.Status))
	b.text(a.Error)
	b.text(a.Word)
	b.end()
}

// union are the webhooks of all three, sorted.
func union(due dues, release []release, more []string) []string {
	all := maps.Clone(due)
	for _, w := range more {
		all[w] = time.Time{}
	}
	for _, r := range release {
		all[r.webhook] = time.Time{}
	}
	return slices.Sorted(maps.Keys(all))
}
