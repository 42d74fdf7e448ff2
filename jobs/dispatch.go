package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	unreadable  = time.Minute // when a record is tried again whose source could not be read
	pruneEvery  = time.Hour
	claimAtMost = 4 * pageSize
)

// dispatchAll starts runs when schedules fire and claims what is due for all webhooks, until ctx ends. An error that
// waiting does not mend is said, once while it stays the same, and tried again.
func (r *Runner) dispatchAll(ctx context.Context) error {
	loop := r.vigil.begin("the dispatcher")
	defer loop.End()
	claims := r.vigil.begin("the claiming of what is due")
	defer claims.End()
	claims.idle()
	fires := r.vigil.begin("the starting of runs")
	defer fires.End()
	fires.idle()
	ctx = loop.in(ctx)
	for {
		err := r.dispatch(ctx, nil, func(ctx context.Context) { r.fire(ctx, fires) }, claims)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, ErrLeaseLost) { // whose keeper is watched
			loop.fail(err)
		}
		r.sayOnce("dispatching failed; trying again", "", err)
		rest(ctx, time.Second)
	}
}

// errUnclaimed is of what stays due though claims with room for it were made.
var errUnclaimed = errors.New("records are due, there is room for them, and they stay where they are")

// dispatch claims what is due (retries, reclaimed leases, backlog) for these webhooks (nil: all), until ctx ends or an
// error. Before each claim it calls fire. claims is told whether what is due goes; nil: it need not be.
func (r *Runner) dispatch(ctx context.Context, only []string, fire func(context.Context), claims *Loop) error {
	loop := loopOf(ctx)
	var stays time.Time // since when the earliest record is due that the last claim left, though it had room and could have it
	for {
		loop.back()
		fire(ctx)
		freed := r.pool.freed() // before looking, so that nothing freed meanwhile is overlooked
		roomy := r.pool.roomy()
		claimed, err := r.claim(ctx, only)
		if err != nil {
			return err
		}
		loop.succeed()
		if claimed > 0 {
			continue
		}
		pause, due, err := r.untilDue(ctx, only)
		if err != nil {
			return err
		}
		if due.IsZero() {
			freed = nil
		}
		left := time.Time{}
		if roomy && !due.IsZero() && claims != nil {
			if left, err = r.claimable(ctx, only); err != nil {
				return err
			}
		}
		if !left.IsZero() && left.Equal(stays) {
			claims.fail(errUnclaimed)
		} else {
			claims.succeed()
		}
		stays = left
		loop.Pause(pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-freed:
			rest(ctx, 20*time.Millisecond) // places come free one by one: the next claim is a large one
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// untilDue is how long nothing needs doing, at most Options.Poll, and since when something is due that was not claimed; zero:
// nothing is.
func (r *Runner) untilDue(ctx context.Context, only []string) (pause time.Duration, due time.Time, err error) {
	err = r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		due, err = r.o.Ledger.NextDue(ctx, only)
		return err
	})
	if err != nil {
		return 0, due, fmt.Errorf("next due delivery: %w", err)
	}
	now := r.o.Ledger.Now()
	pause = r.o.Poll
	if r.serving {
		if next := r.nextFireOfAll(now); !next.IsZero() {
			pause = min(pause, next.Sub(now))
		}
	}
	if due.After(now) {
		pause, due = min(pause, due.Sub(now)), time.Time{}
	}
	return max(pause, time.Millisecond), due, nil
}

// claimable is since when something is due that a claim could have: a webhook that somebody holds for long, who removes it
// or looks at it with a tool of the database's, is no stall.
func (r *Runner) claimable(ctx context.Context, only []string) (due time.Time, err error) {
	err = r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		due, err = r.o.Ledger.Claimable(ctx, only)
		return err
	})
	if err != nil {
		return due, fmt.Errorf("what is due and was not claimed: %w", err)
	}
	return due, nil
}

func (r *Runner) nextFireOfAll(now time.Time) (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.roster.fires {
		last, ok := r.lastFire[key]
		if !ok {
			last = now
		}
		if at := later(f.schedule.Next(last), r.fireAgain[key]); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// claim leases what is due and has room, reads it again from its source, and hands it to the workers.
func (r *Runner) claim(ctx context.Context, only []string) (int, error) {
	room, limit := r.pool.rooms()
	if limit <= 0 {
		return 0, nil
	}
	r.claims.Lock()
	defer r.claims.Unlock()
	var claimed []Delivery
	lease := r.holder.current()
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		claimed, err = r.o.Ledger.Claim(ctx, Claim{Lease: lease, Webhooks: only, Each: queueLimit, Room: room, Limit: min(limit, claimAtMost)})
		return err
	})
	if errors.Is(err, ErrLeaseLost) {
		nudge(r.wake) // what was due still is
		return 0, r.holder.replaced(ctx, lease)
	}
	if err != nil {
		return 0, fmt.Errorf("claim what is due: %w", err)
	}
	if len(claimed) == 0 {
		return 0, nil
	}
	r.refreshFor(ctx, claimed)
	byType := map[string][]Delivery{}
	places := map[string]int{}
	for _, d := range claimed {
		byType[d.Type] = append(byType[d.Type], d)
		places[d.Webhook]++
	}
	for webhook, n := range places {
		r.pool.force(webhook, n)
	}
	for typ, deliveries := range byType {
		r.load(ctx, typ, deliveries, places)
	}
	r.pool.unreserve(places)
	return len(claimed), nil
}

// refreshFor reads the webhooks anew where a claim names one that is not known here, or not as one that is sent to. Where
// they cannot be read, what was claimed for it is put back.
func (r *Runner) refreshFor(ctx context.Context, claimed []Delivery) {
	ro := r.webhooks()
	stopped := false
	for i := range claimed {
		w := ro.byID[claimed[i].Webhook]
		if w == nil {
			_, err := r.refresh(ctx)
			r.sayOnce("the webhooks could not be read", "", err)
			return
		}
		stopped = stopped || w.State != Active
	}
	if stopped { // a probe, most often, for which ten thousand webhooks need not be read
		_ = r.noticeChanges(ctx) // which logs its error: what was claimed is put back, or sent as the webhook was
	}
}

// load reads the rows of claimed deliveries of one type again, page by page, and hands them on. It takes what it puts
// from places. What the pool has no bytes for it puts back.
func (r *Runner) load(ctx context.Context, typ string, deliveries []Delivery, places map[string]int) {
	now := r.o.Ledger.Now()
	owed := make(map[string][]Delivery, len(deliveries)) // by row
	var rows []string
	for _, d := range deliveries {
		if owed[d.Row] == nil {
			rows = append(rows, d.Row)
		}
		owed[d.Row] = append(owed[d.Row], d)
	}
	for len(rows) > 0 {
		records, left, err := r.reread(ctx, typ, rows)
		if ctx.Err() == nil {
			r.sayOnce("rows could not be read again; trying later", typ, err)
		}
		if err != nil {
			again := now // we stop: who goes on need not wait
			if ctx.Err() == nil {
				again = now.Add(unreadable)
			}
			r.putBackAll(ctx, owed, again)
			return
		}
		for _, row := range rows { // in the order of the claim, which is that of a rate's times
			if rec := records[row]; rec != nil {
				for _, d := range owed[row] {
					r.hand(ctx, d, rec, now, places)
				}
				delete(owed, row)
			}
		}
		rows = slices.DeleteFunc(left, func(row string) bool { // spares the reading of what would be put back
			full := !slices.ContainsFunc(owed[row], func(d Delivery) bool { return !r.pool.full(d.Webhook) })
			if full {
				r.putBackAll(ctx, map[string][]Delivery{row: owed[row]}, now)
				delete(owed, row)
			}
			return full
		})
	}
	for _, gone := range owed {
		for _, d := range gone {
			r.settler.record(ctx, died(d, Withdrawn, RowGone, now))
		}
	}
}

func (r *Runner) putBackAll(ctx context.Context, owed map[string][]Delivery, again time.Time) {
	for _, deliveries := range owed {
		for _, d := range deliveries {
			r.settler.record(ctx, putBack(d, again))
		}
	}
}

// hand gives the pool a leased delivery whose row was read, or records why not.
func (r *Runner) hand(ctx context.Context, d Delivery, rec *Record, now time.Time, places map[string]int) {
	w := r.webhooks().byID[d.Webhook]
	if w == nil {
		r.settler.record(ctx, putBack(d, now.Add(unreadable)))
		return
	}
	if done, ok := r.otherVersion(d, w, rec, now); ok {
		r.settler.record(ctx, done)
		return
	}
	if r.pool.full(w.ID) {
		r.settler.record(ctx, putBack(d, now))
		return
	}
	owed := *rec // others are owed the row, too
	owed.Action = d.Action
	body, err := r.encode(w, &owed, d.SeenAt)
	if err != nil {
		r.settler.record(ctx, died(d, Rejected, encodeReason(err), now))
		return
	}
	j := job{delivery: d, webhook: w, body: body, probe: w.State == Held}
	if !d.SendAt.IsZero() {
		j.sendAt = time.Now().Add(d.SendAt.Sub(r.o.Ledger.Now()))
	}
	r.pool.put([]job{j})
	places[d.Webhook]--
}

// otherVersion is the outcome of a leased delivery whose row is no longer what was to be sent: another version of it
// goes instead, or none; ok is false where it still is.
func (r *Runner) otherVersion(d Delivery, w *Webhook, rec *Record, now time.Time) (o Outcome, ok bool) {
	src := r.sources[d.Type]
	version := versionOf(src, rec)
	switch {
	case !w.WantsChatbot(rec.Chatbot): // it was given to another, whose records are not this one's to see
		return died(d, Withdrawn, RowMoved, now), true
	case !src.Versioned() || version == d.Version && (rec.Action == ActionRemove) == (d.Action == ActionRemove):
		return o, false
	}
	wanted := wantedActions(r.o.Sink, w, d.Type)
	action := drafted(wanted, rec)
	if action == "" {
		return died(d, Withdrawn, RowGone, now), true
	}
	return replaced(d, newer(d, version, action, rec, wanted, now), now), true
}

// reread reads some of these rows by key, by row; left are the others. A type that no source has any more is an error.
func (r *Runner) reread(ctx context.Context, typ string, rows []string) (records map[string]*Record, left []string, err error) {
	src := r.sources[typ]
	if src == nil {
		return nil, nil, errors.New("the configuration has no such stream")
	}
	page, err := r.read(ctx, func(ctx context.Context) (page Page, err error) {
		defer r.contain("reading rows again", &err)
		page.Records, left, err = src.Read(ctx, rows)
		return page, err
	})
	if err != nil {
		return nil, nil, err
	}
	records = make(map[string]*Record, len(page.Records))
	for i := range page.Records {
		records[page.Records[i].Row] = &page.Records[i]
	}
	return records, left, nil
}

// rest sleeps, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	loop := loopOf(ctx)
	loop.Pause(d)
	defer loop.back()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
