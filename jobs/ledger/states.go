package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// How many failed attempts in a row stop a webhook: those that say that the endpoint is down, and 2xx answers that
// acknowledge nothing.
const (
	holdAfterDown      = 10
	holdAfterUnmatched = 20
)

// forgotten is the state of a webhook that was removed, of which nobody else is told: its row is kept for its counts.
const forgotten jobs.WebhookState = "removed"

var (
	sqlStateOf = sqlText(`select state, retry_at, stopped_at from webhooks where id = $1`)
	sqlTurn    = sqlText(`
		update webhooks set state = $2, state_reason = $3, state_at = $4, stopped_at = $5 where id = $1`)
	sqlTurnDue = sqlText(`
		update due set active = $2, probe_at = $3,
			due_at = case when $2::boolean then ` + dueAfter("$3::timestamptz", "due.rate_at") + ` end
		where webhook = $1`)
	sqlChanged   = sqlText(`update registry set generation = generation + 1, token = $1`)
	sqlFaultless = sqlText(`update tallies set down = 0, unmatched = 0 where webhook = any($1::text[])`)
)

var (
	sqlProbeNow = sqlText(`update due set probe_at = $1 where webhook = any($2::text[]) and probe_at > $1`)
	// A probe is of a record that was tried, whenever its own time is; where none was, of one whose time it is.
	sqlDueForProbe = sqlText(`
		update deliveries set next_at = $1
		where id in (
			select (
				select id from deliveries as first
				where first.webhook = due.webhook and first.state = 'pending' and first.next_at > $1 and first.attempts = 0
					and (first.not_before is null or first.not_before <= $1)
				order by first.next_at limit 1)
			from due where due.webhook = any($2::text[]) and due.probe_at is not null and not exists (
				select 1 from deliveries as better where better.webhook = due.webhook and better.state = 'pending'
					and (better.next_at <= $1 or better.attempts > 0 and better.next_at is not null)))`)
)

// Probe lets the held among these webhooks be probed now; see jobs.Queue.
func (l *Ledger) Probe(ctx context.Context, webhooks []string) error {
	return l.change(ctx, "have held webhooks probed", func(ctx context.Context, t *tx) error {
		if err := t.lockDue(ctx, webhooks); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlProbeNow, t.now, webhooks); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlDueForProbe, t.now, webhooks); err != nil {
			return err
		}
		_, err := t.exec(ctx, sqlRecount, webhooks)
		return err
	})
}

// A turn is what a batch of outcomes says of a webhook's state.
type turn struct {
	webhook         string
	tally           *tally
	down, unmatched int // in a row, with the batch
}

// turn changes the state of a webhook whose endpoint is down, answers nothing that acknowledges, asks for no more, or
// does so no longer: it is held for as long as every attempt says the same. The webhook's due row is held, and its records that are pending stand as they will.
func (t *tx) turn(ctx context.Context, turned turn) error {
	var state jobs.WebhookState
	var stopped time.Time
	var offsets []string
	err := t.one(ctx, sqlStateOf, []any{turned.webhook}, &state, list{&offsets}, instant{&stopped})
	if err == sql.ErrNoRows { // it was removed
		return nil
	}
	if err != nil {
		return err
	}
	s := turned.tally
	switch {
	case state == jobs.Disabled || state == forgotten:
		return nil
	case s.gone:
		if stopped.IsZero() {
			stopped = t.now
		}
		return t.turnTo(ctx, turned.webhook, jobs.Disabled, jobs.ReasonGone, stopped, time.Time{})
	case turned.down < holdAfterDown && turned.unmatched < holdAfterUnmatched:
		if state != jobs.Held {
			return nil
		}
		if err := t.turnTo(ctx, turned.webhook, jobs.Active, "", time.Time{}, time.Time{}); err != nil {
			return err
		}
		_, err := t.exec(ctx, sqlShift, turned.webhook, t.now, stopped)
		return err
	}
	retryAt, err := parseOffsets(turned.webhook, offsets)
	if err != nil {
		return err
	}
	if stopped.IsZero() {
		stopped = t.now
	}
	probe := latest(jobs.NextProbe(retryAt, stopped, t.now), t.now.Add(s.retryAfter))
	if state == jobs.Held {
		_, err := t.exec(ctx, sqlTurnDue, turned.webhook, true, probe)
		return err
	}
	why := fmt.Sprintf("%d attempts in a row failed, the last with %s", turned.down, s.reason)
	if turned.unmatched >= holdAfterUnmatched {
		why = jobs.UnmatchedReason(turned.unmatched, s.reason, s.word)
	}
	return t.turnTo(ctx, turned.webhook, jobs.Held, why, stopped, probe)
}

func (t *tx) turnTo(ctx context.Context, webhook string, state jobs.WebhookState, why string, stopped, probe time.Time) error {
	if _, err := t.exec(ctx, sqlTurn, webhook, string(state), why, t.now, stopped); err != nil {
		return err
	}
	if _, err := t.exec(ctx, sqlTurnDue, webhook, state != jobs.Disabled, probe); err != nil {
		return err
	}
	_, err := t.exec(ctx, sqlChanged, newToken())
	return err
}

func parseOffsets(webhook string, texts []string) ([]time.Duration, error) {
	if texts == nil {
		return nil, nil
	}
	offsets := make([]time.Duration, len(texts))
	for i, text := range texts {
		var err error
		if offsets[i], err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", webhook, err)
		}
	}
	return offsets, nil
}

func lastOffset(offsets []time.Duration) time.Duration {
	if len(offsets) == 0 {
		return 0
	}
	return offsets[len(offsets)-1]
}
