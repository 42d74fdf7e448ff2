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
	sqlGeneration = sqlText(`select generation, token from registry`)
	sqlWebhooks   = sqlText(`
		select id, chatbots, url, sign_key, sign_key_of, old_key, old_key_until, headers, types, events, dialect, schedule, timezone, immediate, retry_at, rate, ack,
			from_start, description, key_made, origin, state, state_reason, entered_at
		from webhooks where state <> 'removed' order by id`)

	sqlNextGeneration = sqlText(`update registry set generation = generation + 1, token = $3 where generation = $1 and token = $2`)
	sqlLockStreams    = sqlText(`select type, version from streams order by type for update`)
	sqlNextVersions   = sqlText(`update streams set version = version + 1`)
	sqlStates         = sqlText(`
		select id, state, state_reason, state_at, stopped_at, rate from webhooks where id = any($1::text[])`)
	sqlPutWebhook = sqlText(`
		insert into webhooks (id, chatbots, url, sign_key, sign_key_of, old_key, old_key_until, headers, types, events, dialect, schedule,
			timezone, immediate, retry_at, rate, ack, from_start, description, key_made, origin, state, state_reason,
			entered_at, state_at, stopped_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)
		on conflict (id) do update set chatbots = excluded.chatbots, url = excluded.url, sign_key = excluded.sign_key,
			sign_key_of = excluded.sign_key_of, old_key = excluded.old_key, old_key_until = excluded.old_key_until,
			headers = excluded.headers, types = excluded.types, events = excluded.events, dialect = excluded.dialect,
			schedule = excluded.schedule, timezone = excluded.timezone, immediate = excluded.immediate,
			retry_at = excluded.retry_at, rate = excluded.rate, ack = excluded.ack, from_start = excluded.from_start,
			description = excluded.description, key_made = excluded.key_made, origin = excluded.origin,
			state = excluded.state, state_reason = excluded.state_reason, entered_at = excluded.entered_at,
			state_at = excluded.state_at, stopped_at = excluded.stopped_at`)
	sqlPutTally = sqlText(`
		insert into tallies (webhook) select e.name from unnest($1::text[]) as e(name) where true
		on conflict (webhook) do nothing`)
	sqlPutDue = sqlText(`
		insert into due (webhook, active) select e.name, e.act from unnest($1::text[], $2::boolean[]) as e(name, act)
		where true on conflict (webhook) do nothing`)

	sqlActivate = sqlText(`
		update due set active = e.act, probe_at = e.probe, due_at = case when e.act then due.due_at end,
			spacing_us = e.spacing, rate_at = case when e.spacing > 0 and due.spacing_us = e.spacing then due.rate_at end
		from unnest($1::text[], $2::boolean[], $3::timestamptz[], $4::bigint[]) as e(name, act, probe, spacing)
		where due.webhook = e.name`)
	// What failed was tried; see released.
	sqlShift = sqlText(`
		update deliveries set first_failed_at = case when first_failed_at > $3 then $2
			else first_failed_at + ($2::timestamptz - $3::timestamptz) end
		where webhook = $1 and state = 'pending' and attempts > 0 and first_failed_at is not null`)
	sqlPull = sqlText(`
		update deliveries set next_at = case when not_before > $2 then not_before else $2 end
		where webhook = $1 and state = 'pending' and not in_round and next_at > $2`)
)

// Webhooks returns all webhooks and subscriptions, at one generation. Webhooks that sign with another's keys have them.
func (l *Ledger) Webhooks(ctx context.Context) (jobs.Registered, error) {
	var r jobs.Registered
	err := l.view("read the webhooks", func(t *tx) error {
		for {
			r = jobs.Registered{}
			var err error
			if r.Generation, err = t.generation(ctx); err != nil {
				return err
			}
			if err := t.each(ctx, sqlWebhooks, nil, func(rows *sql.Rows) error {
				w, err := l.scanWebhook(rows)
				r.Webhooks = append(r.Webhooks, w)
				return err
			}); err != nil {
				return err
			}
			if err := t.each(ctx, sqlSubscriptions, nil, func(rows *sql.Rows) error {
				s, err := scanSubscription(rows)
				r.Subscriptions = append(r.Subscriptions, s)
				return err
			}); err != nil {
				return err
			}
			after, err := t.generation(ctx)
			if err != nil {
				return err
			}
			if after == r.Generation { // else they were changed between the statements
				jobs.ShareKeys(r.Webhooks)
				return nil
			}
		}
	})
	return r, err
}

// Generation returns the webhooks' generation.
func (l *Ledger) Generation(ctx context.Context) (g jobs.Generation, err error) {
	err = l.view("read the webhooks' generation", func(t *tx) (err error) {
		g, err = t.generation(ctx)
		return err
	})
	return g, err
}

func (t *tx) generation(ctx context.Context) (g jobs.Generation, err error) {
	err = t.one(ctx, sqlGeneration, nil, &g.Number, &g.Token)
	return g, err
}

// newToken tells a generation from every other that had its number.
func newToken() string { return uuid.NewString() }

func (l *Ledger) scanWebhook(rows *sql.Rows) (jobs.Webhook, error) {
	var w jobs.Webhook
	var s sealed
	var retryAt []string
	var rate string
	err := rows.Scan(&w.ID, list{&w.Chatbots}, &s.url, &s.signKey, &w.SignKeyOf, &s.oldKey, instant{&w.OldKeyUntil},
		&s.headers, list{&w.Types}, list{&w.Events}, &w.Dialect, &w.Schedule, &w.Timezone,
		&w.Immediate, list{&retryAt}, &rate, list{&w.Ack}, &w.From, &w.Description, &w.KeyMade, &w.Origin, &w.State, &w.StateReason,
		instant{&w.EnteredAt})
	if err != nil {
		return w, err
	}
	if w.RetryAt, err = parseOffsets(w.ID, retryAt); err != nil {
		return w, err
	}
	if w.Rate, err = jobs.ParseRate(rate); err != nil {
		return w, fmt.Errorf("webhook %s: %w", w.ID, err)
	}
	return w, l.keys.openWebhook(s, &w)
}

// standing is what the ledger knew of a webhook before a change.
type standing struct {
	state     jobs.WebhookState
	reason    string
	stateAt   time.Time
	stoppedAt time.Time
	rate      string
}

// ChangeWebhooks applies c whole or not at all. A page of a source that was read with the webhooks as they were is
// refused by Enter from then on.
func (l *Ledger) ChangeWebhooks(ctx context.Context, c jobs.Change) error {
	return l.change(ctx, "change the webhooks", func(ctx context.Context, t *tx) error {
		if err := t.nextGeneration(ctx, c); err != nil {
			return err
		}
		before := map[string]standing{}
		ids := make([]string, len(c.Put))
		for i := range c.Put {
			ids[i] = c.Put[i].ID
		}
		slices.Sort(ids)
		err := t.each(ctx, sqlStates, []any{ids}, func(rows *sql.Rows) error {
			var id string
			var s standing
			err := rows.Scan(&id, &s.state, &s.reason, instant{&s.stateAt}, instant{&s.stoppedAt}, &s.rate)
			before[id] = s
			return err
		})
		if err != nil {
			return err
		}
		for i := range c.Put {
			if err := t.putWebhook(ctx, &c.Put[i], before[c.Put[i].ID]); err != nil {
				return err
			}
		}
		if err := t.standAll(ctx, c.Put, before); err != nil {
			return err
		}
		if len(c.Rewanted) > 0 {
			if _, err := t.exec(ctx, sqlRewanted, c.Rewanted); err != nil {
				return err
			}
		}
		for i := range c.Subscriptions {
			if err := t.putSubscription(ctx, &c.Subscriptions[i]); err != nil {
				return err
			}
		}
		return t.pull(ctx, c.Pull)
	})
}

func (t *tx) nextGeneration(ctx context.Context, c jobs.Change) error {
	n, err := t.exec(ctx, sqlNextGeneration, c.Generation.Number, c.Generation.Token, newToken())
	if err != nil {
		return err
	}
	if n == 0 {
		return jobs.ErrBookmarkMoved
	}
	versions := map[string]int64{}
	err = t.each(ctx, sqlLockStreams, nil, func(rows *sql.Rows) error {
		var typ string
		var version int64
		err := rows.Scan(&typ, &version)
		versions[typ] = version
		return err
	})
	if err != nil {
		return err
	}
	for typ, version := range c.Versions {
		if versions[typ] != version {
			return jobs.ErrBookmarkMoved
		}
	}
	_, err = t.exec(ctx, sqlNextVersions)
	return err
}

func (t *tx) putWebhook(ctx context.Context, put *jobs.Webhook, before standing) error {
	w := *put
	if w.SignKeyOf != "" {
		w.SignKey, w.OldKey, w.OldKeyUntil = "", "", time.Time{} // the other's, and kept there
	}
	s, err := t.l.keys.sealWebhook(&w)
	if err != nil {
		return err
	}
	var offsets []string // as text, for those who look at the table
	if w.RetryAt != nil {
		offsets = []string{}
	}
	for _, d := range w.RetryAt {
		offsets = append(offsets, d.String())
	}
	stateAt, stoppedAt, enteredAt := before.stateAt, before.stoppedAt, w.EnteredAt
	if before.state != w.State || before.reason != w.StateReason {
		stateAt = t.now
	}
	switch {
	case w.State == jobs.Active:
		stoppedAt = time.Time{}
	case stoppedAt.IsZero():
		stoppedAt = t.now
	}
	if enteredAt.IsZero() {
		enteredAt = t.now
	}
	_, err = t.exec(ctx, sqlPutWebhook, w.ID, list{&w.Chatbots}, s.url, s.signKey, w.SignKeyOf, s.oldKey, w.OldKeyUntil,
		s.headers, list{&w.Types}, list{&w.Events}, w.Dialect, w.Schedule,
		w.Timezone, w.Immediate, list{&offsets}, w.Rate.String(), list{&w.Ack}, w.From, w.Description, w.KeyMade, w.Origin, string(w.State),
		w.StateReason, enteredAt, stateAt, stoppedAt)
	return err
}

// standAll makes what claims see of the webhooks follow their states: nothing of one that is disabled is due, and of one
// that is held a single record, at once: what was changed may have been what was wrong.
func (t *tx) standAll(ctx context.Context, put []jobs.Webhook, before map[string]standing) error {
	if len(put) == 0 {
		return nil
	}
	states, rates := map[string]jobs.WebhookState{}, map[string]jobs.Rate{}
	for i := range put {
		states[put[i].ID], rates[put[i].ID] = put[i].State, put[i].Rate
	}
	ids := slices.Sorted(maps.Keys(states))
	names, fresh, stand := t.l.batch(len(ids)), t.l.batch(len(ids)), t.l.batch(len(ids))
	var again, faultless []string
	for _, id := range ids {
		names.text(id)
		names.end()
		fresh.text(id)
		fresh.flag(states[id] != jobs.Disabled)
		fresh.end()
		stand.text(id)
		stand.flag(states[id] != jobs.Disabled)
		if states[id] == jobs.Held {
			stand.time(t.now)
		} else {
			stand.time(time.Time{})
		}
		stand.number(rates[id].Spacing().Microseconds())
		stand.end()
		was := before[id]
		stopped := !was.stoppedAt.IsZero()
		if states[id] != jobs.Disabled && (stopped || was.rate != rates[id].String()) {
			again = append(again, id)
			if stopped && states[id] == jobs.Active {
				faultless = append(faultless, id)
			}
		}
	}
	if _, err := t.exec(ctx, sqlPutTally, names.args()...); err != nil {
		return err
	}
	if _, err := t.exec(ctx, sqlPutDue, fresh.args()...); err != nil {
		return err
	}
	if len(faultless) > 0 {
		if _, err := t.exec(ctx, sqlFaultless, faultless); err != nil {
			return err
		}
	}
	if err := t.lockDue(ctx, ids); err != nil {
		return err
	}
	if _, err := t.exec(ctx, sqlActivate, stand.args()...); err != nil {
		return err
	}
	for _, id := range faultless {
		if _, err := t.exec(ctx, sqlShift, id, t.now, before[id].stoppedAt); err != nil {
			return err
		}
	}
	if len(again) == 0 {
		return nil
	}
	_, err := t.exec(ctx, sqlRecount, again)
	return err
}

// pull makes records that wait for a later fire wait for this one.
func (t *tx) pull(ctx context.Context, to map[string]time.Time) error {
	webhooks := slices.Sorted(maps.Keys(to))
	if err := t.lockDue(ctx, webhooks); err != nil {
		return err
	}
	due := dues{}
	for _, w := range webhooks {
		n, err := t.exec(ctx, sqlPull, w, to[w])
		if err != nil {
			return err
		}
		if n > 0 {
			due.add(w, to[w])
		}
	}
	return t.lower(ctx, due)
}
