package ledger

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// quiet is how long a webhook must have gone without an acknowledgement before one makes a record due that was made
// so before. Without it, a record that is always refused and has no retries would be sent again after each
// acknowledged one.
const quiet = time.Minute

// A tally is what one batch adds to a webhook's counts.
type tally struct {
	delivered, tests, dead int
	failures               int // failed attempts
	spent                  []spentRound
	ackedAt                time.Time // the last acknowledgement; zero: none
	lastError              string    // "" where an acknowledgement came after it

	tried           bool // something was sent
	down, unmatched int  // in a row, at the end
	othersDown      bool // an attempt before these says something else
	othersUnmatched bool
	gone            bool
	reason, word    string // of the last failed attempt
	retryAfter      time.Duration
}

// fault takes in what an attempt tells of the endpoint.
func (s *tally) fault(a *jobs.Attempt) {
	s.tried = true
	if a.Error == "" || a.Fault != jobs.FaultDown {
		s.down, s.othersDown = 0, true
	}
	if a.Error == "" || a.Fault != jobs.FaultUnmatched {
		s.unmatched, s.othersUnmatched = 0, true
	}
	switch {
	case a.Error == "":
		return
	case a.Fault == jobs.FaultDown:
		s.down++
	case a.Fault == jobs.FaultUnmatched:
		s.unmatched++
	case a.Fault == jobs.FaultGone:
		s.gone = true
	}
	s.reason, s.word, s.retryAfter = a.Error, a.Word, a.RetryAfter
}

type spentRound struct {
	failedAt time.Time // when the round's first attempt failed
	released bool
}

type tallies map[string]*tally

func (s tallies) of(webhook string) *tally {
	if s[webhook] == nil {
		s[webhook] = &tally{}
	}
	return s[webhook]
}

func (s tallies) add(o *jobs.Outcome, released bool) {
	sum, d := s.of(o.Delivery.Webhook), &o.Delivery
	if o.Attempt != nil {
		sum.fault(o.Attempt)
	}
	switch {
	case d.State == jobs.Delivered && d.TestAnswer:
		sum.tests++
	case d.State == jobs.Delivered:
		sum.delivered++
	case d.State == jobs.Dead && d.Reason == jobs.Superseded: // its row is still owed
	case d.State == jobs.Dead:
		sum.dead++
		sum.lastError = d.LastError
	}
	if d.State == jobs.Delivered {
		sum.lastError = ""
		if d.SettledAt.After(sum.ackedAt) {
			sum.ackedAt = d.SettledAt
		}
	} else if o.Attempt != nil {
		sum.failures++
		sum.lastError = d.LastError
	}
	if o.Spent && d.State == jobs.Pending {
		sum.spent = append(sum.spent, spentRound{d.RoundFailedAt, released})
	}
}

var (
	sqlLockTallies = sqlText(`
		select webhook, failures, spent, last_ack_at, down, unmatched from tallies where webhook = any($1::text[])
		order by webhook for update`)
	sqlTally = sqlText(`
		update tallies set delivered = tallies.delivered + e.more_delivered, test_answers = tallies.test_answers + e.more_tests,
			dead = tallies.dead + e.more_dead, failures = e.now_failures, spent = e.now_spent, last_ack_at = e.now_ack,
			down = e.now_down, unmatched = e.now_unmatched,
			last_error = case when e.new_error <> '' or e.more_delivered + e.more_tests > 0 then e.new_error else tallies.last_error end
		from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[],
			$8::text[], $9::bigint[], $10::bigint[])
			as e(name, more_delivered, more_tests, more_dead, now_failures, now_spent, now_ack, new_error, now_down, now_unmatched)
		where tallies.webhook = e.name`)
)

// A release makes a webhook's spent deliveries due, because it was acknowledged after failures.
type release struct {
	webhook string
	since   time.Time // the acknowledgement before: records that failed earlier failed while others did not
	again   bool      // those that were released before, too
}

// tally adds the sums to the webhooks' counts and says which of them recovered.
//
// spent counts rounds that began and were spent since the last acknowledgement: exactly the deliveries that the next
// one may release, so that an acknowledgement which has none to release does not look for them.
//
// turns are the webhooks whose state may have to change for what the endpoint did.
func (t *tx) tally(ctx context.Context, sums tallies) (releases []release, turns []turn, err error) {
	if len(sums) == 0 {
		return nil, nil, nil
	}
	b, n := t.l.batch(len(sums)), 0
	err = t.each(ctx, sqlLockTallies, []any{slices.Sorted(maps.Keys(sums))}, func(rows *sql.Rows) error {
		var webhook string
		var failures, spent, down, unmatched int64
		var last time.Time
		if err := rows.Scan(&webhook, &failures, &spent, instant{&last}, &down, &unmatched); err != nil {
			return err
		}
		s := sums[webhook]
		wasStopped := down >= holdAfterDown || unmatched >= holdAfterUnmatched
		if s.othersDown {
			down = 0
		}
		if s.othersUnmatched {
			unmatched = 0
		}
		down, unmatched = down+int64(s.down), unmatched+int64(s.unmatched)
		switch {
		case !s.tried: // a probe whose record was withdrawn, or was put back, says nothing: another follows soon
		case s.gone, down >= holdAfterDown, unmatched >= holdAfterUnmatched, wasStopped && (s.othersDown || s.othersUnmatched):
			turns = append(turns, turn{webhook, s, int(down), int(unmatched)})
		}
		failures += int64(s.failures)
		for _, r := range s.spent {
			if r.failedAt.After(last) && !r.released {
				spent++
			}
		}
		ack := last
		if s.delivered+s.tests > 0 {
			if ack = s.ackedAt; ack.IsZero() || ack.After(t.now) {
				ack = t.now
			}
			r := release{webhook, last, !ack.Before(last.Add(quiet))}
			if failures > 0 && (spent > 0 || r.again) {
				releases = append(releases, r)
			}
			if ack.Before(last) { // another process's, settled before this one
				ack = last
			}
			failures, spent = 0, 0
		}
		b.text(webhook)
		b.number(int64(s.delivered))
		b.number(int64(s.tests))
		b.number(int64(s.dead))
		b.number(failures)
		b.number(spent)
		b.time(ack)
		b.text(s.lastError)
		b.number(down)
		b.number(unmatched)
		b.end()
		n++
		return nil
	})
	if err != nil || n == 0 {
		return nil, nil, err
	}
	_, err = t.exec(ctx, sqlTally, b.args()...)
	return releases, turns, err
}

// Whose round was spent was tried: that it was is said for the index, which has no untried backlog in it.
const released = `webhook = $1 and state = 'pending' and attempts > 0 and not in_round and rounds > 0
	and ($2::timestamptz is null or round_failed_at > $2) and (not released or $3::boolean) and next_at > $4`

var (
	sqlReleasedRuns = sqlText(`
		select run, count(*) from deliveries where ` + released + ` and spent_in_run group by run`)
	sqlRelease = sqlText(`
		update deliveries set next_at = $4, released = $5, spent_in_run = $6 where ` + released)
)

// release makes them due now; their runs have them under way again.
func (t *tx) release(ctx context.Context, r release, due dues, runs runCounts) error {
	err := t.each(ctx, sqlReleasedRuns, []any{r.webhook, r.since, r.again, t.now}, func(rows *sql.Rows) error {
		var run string
		var n int
		err := rows.Scan(&run, &n)
		runs.of(run).failed -= n
		return err
	})
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, sqlRelease, r.webhook, r.since, r.again, t.now, true, false)
	if n > 0 {
		due.add(r.webhook, t.now)
	}
	return err
}
