package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A StoppedError says that a stream cannot be read on, and what to do about it.
type StoppedError struct{ Type, Why string }

func (e *StoppedError) Error() string { return fmt.Sprintf("stream %s is stopped: %s", e.Type, e.Why) }

// gather reads one stream to its end, enters what is owed and hands what is due now to the workers. Scans of one
// stream take turns.
func (r *Runner) gather(ctx context.Context, src Source) error {
	turn := r.turns[src.Type()]
	loopOf(ctx).idle() // who has the turn is watched as well
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	loopOf(ctx).back()
	limit := pageSize
	for {
		more, err := r.page(ctx, src, &limit)
		if err != nil || !more {
			return err
		}
	}
}

// page does one step of gather; more: there is another. limit is how many rows to read, and is fitted to how many
// webhooks a row goes to.
func (r *Runner) page(ctx context.Context, src Source, limit *int) (more bool, err error) {
	st, ro, err := r.stream(ctx, src)
	if err != nil {
		return false, err
	}
	page, err := r.read(ctx, func(ctx context.Context) (Page, error) { return src.After(ctx, st.Bookmark, *limit) })
	if errors.Is(err, ErrRestored) {
		why := fmt.Sprintf("%v; once the table is as it should be, say where to go on: leadrelay stream reset %s --to now (or --to ID)", ErrRestored, st.Type)
		return false, r.stop(ctx, st, why)
	}
	if err != nil {
		return false, fmt.Errorf("read stream %s: %w", st.Type, err)
	}
	if len(page.Records) == 0 && page.Bookmark == st.Bookmark {
		return false, nil
	}
	seen := r.firesSeen() // before runs are asked for: a fire that neither knows of would put records off to the next
	runs, err := r.gathering(ctx)
	if err != nil {
		return false, err
	}
	draft, err := r.draft(ro, page.Records, runs, seen, nil)
	if err != nil {
		return false, err
	}
	if err := r.accept(ctx, st, draft); err != nil {
		return false, err
	}
	*limit = fitLimit(len(page.Records), len(draft.entries))
	_, err = r.enter(ctx, draft, Entries{Type: st.Type, Version: st.Version, Bookmark: page.Bookmark, Versioned: src.Versioned()})
	if errors.Is(err, ErrBookmarkMoved) || errors.Is(err, ErrLeaseLost) {
		return true, nil
	}
	return err == nil && !page.Drained, err
}

// fitLimit keeps the keys entered at once near pageSize, however many webhooks want a row.
func fitLimit(records, entries int) int {
	if records == 0 || entries <= records {
		return pageSize
	}
	return max(8, pageSize*records/entries)
}

// errApart is of a ledger whose parts, read one after the other, do not come to be of one time.
var errApart = errors.New("the ledger gives a stream and the webhooks as they were at different times: a copy that lags behind must not answer for it")

// stream reads a stream's bookmark and the webhooks that belong to it. Where they changed in between it reads both once
// more at once, and then with pauses.
func (r *Runner) stream(ctx context.Context, src Source) (Stream, *roster, error) {
	for try := 0; ; try++ {
		if try > 1 {
			rest(ctx, 100*time.Millisecond)
		}
		if try == 50 {
			r.sayOnce("gathering waits; trying again", src.Type(), errApart)
		}
		var st Stream
		err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
			st, err = r.o.Ledger.Stream(ctx, src.Type())
			return err
		})
		if err != nil {
			return st, nil, fmt.Errorf("bookmark of stream %s: %w", src.Type(), err)
		}
		if st.Error != "" && !st.Fresh { // a fresh one may have been mended by another configuration
			return st, nil, &StoppedError{Type: st.Type, Why: st.Error}
		}
		if why := st.Misfit(src); why != "" {
			return st, nil, &StoppedError{Type: st.Type, Why: why}
		}
		ro := r.webhooks()
		if ro.generation != st.Generation {
			if ro, err = r.refresh(ctx); err != nil {
				return st, nil, err
			}
		}
		if ro.generation == st.Generation {
			return st, ro, nil
		}
	}
}

// Misfit is why src cannot go on from the stream's bookmark, which was made for another definition; "": it can.
func (st *Stream) Misfit(src Source) string {
	if st.Definition == src.Definition() {
		return ""
	}
	return fmt.Sprintf("its table, id or cursor is another than its bookmark's; say where to go on: leadrelay stream reset %s --to now (or --to ID)", st.Type)
}

// read reads from the source, waiting for it where it is away.
func (r *Runner) read(ctx context.Context, f func(context.Context) (Page, error)) (page Page, err error) {
	err = r.wait.do(ctx, TheSource, func(ctx context.Context) (err error) {
		page, err = f(ctx)
		return err
	})
	return page, err
}

// accept stops a stream whose first page would be rejected whole: then its fields are wrong, not its rows. What had
// stopped it until now is forgotten.
func (r *Runner) accept(ctx context.Context, st Stream, d *draft) error {
	if st.Fresh && d.allRejected() {
		why := fmt.Sprintf("no record of its first page can be encoded (%s); mend the stream's fields", d.unfit)
		return r.stop(ctx, st, why)
	}
	if st.Error != "" {
		return r.o.Ledger.StopStream(ctx, st.Type, "")
	}
	return nil
}

// stop records why a stream cannot go on.
func (r *Runner) stop(ctx context.Context, st Stream, why string) error {
	if st.Error != why {
		if err := r.o.Ledger.StopStream(ctx, st.Type, why); err != nil {
			return err
		}
	}
	return &StoppedError{Type: st.Type, Why: why}
}

// A draft is what a page gives the webhooks, before it is entered.
type draft struct {
	entries []Delivery
	jobs    []job          // by entry; an empty body where it is not to be pushed now
	wanted  map[string]int // places wanted, by webhook
	bytes   int            // of the jobs' bodies
	unfit   string         // why a record cannot be encoded, its size apart
	seen    map[string]time.Time
}

// allRejected reports whether no record can be encoded, and not only because of their sizes: those are the rows' own.
func (d *draft) allRejected() bool {
	return d.unfit != "" && !slices.ContainsFunc(d.entries, func(e Delivery) bool { return e.Reason != Rejected })
}

// draft says what these records give each webhook that wants them; only: the one webhook of a backfill. seen are the
// last fires, by schedule key, from before runs were looked up.
func (r *Runner) draft(ro *roster, records []Record, runs []*activeRun, seen map[string]time.Time, only *Subscription) (*draft, error) {
	d := &draft{wanted: map[string]int{}, seen: seen}
	now := r.o.Ledger.Now()
	for i := range records {
		rec := &records[i]
		err := ro.wanting(rec.Chatbot, rec.Type, func(w *Webhook) error {
			if only != nil {
				if w.ID == only.Webhook {
					d.add(r, w, rec, runs, now)
				}
				return nil
			}
			if sub := ro.subs[subscriber{w.ID, rec.Type}]; sub != nil {
				past, err := r.sources[rec.Type].Past(sub.Start, rec)
				if err != nil || !past {
					return err
				}
			}
			if !rec.Created.IsZero() && rec.Created.Before(ro.since[w.ID]) {
				return nil
			}
			d.add(r, w, rec, runs, now)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", rec.Type, err)
		}
	}
	return d, nil
}

// add drafts one delivery.
func (d *draft) add(r *Runner, w *Webhook, rec *Record, runs []*activeRun, now time.Time) {
	src := r.sources[rec.Type]
	wanted := wantedActions(r.o.Sink, w, rec.Type)
	action := drafted(wanted, rec)
	if action == "" {
		return
	}
	e := Delivery{
		Key:     Key{Webhook: w.ID, Type: rec.Type, Row: rec.Row, Version: versionOf(src, rec), Action: action},
		Chatbot: rec.Chatbot, State: Pending, SeenAt: now, NextAt: now, Wanted: wanted,
	}
	e.ID = e.Key.ID()
	if settle := src.Settle(); settle > 0 {
		created := rec.Created
		if created.IsZero() {
			created = now
		}
		if ripe := created.Add(settle); ripe.After(now) {
			e.NotBefore = ripe
		}
	}
	run := runOf(runs, w, rec)
	body, err := r.encode(w, rec, now)
	switch {
	case err != nil:
		e.State, e.Reason, e.LastError, e.SettledAt = Dead, Rejected, encodeReason(err), now
		if _, large := errors.AsType[*TooLargeError](err); !large && d.unfit == "" {
			d.unfit = e.LastError
		}
	case w.State != Disabled && (run != nil || w.Immediate): // due; what is due of a held one waits for its probe
		e.NextAt = later(now.Add(rec.Hold), e.NotBefore)
		if run != nil && e.NotBefore.IsZero() && w.State == Active {
			e.Run = run.ID
		}
		// What a version goes as, and whether it may go now, the ledger says: versions take the other door.
		// So do those of a webhook with a rate, which claims give their times, and what would make the page too large.
		if d.bytes < pageBytes && !src.Versioned() && w.Rate == (Rate{}) && w.State == Active && e.NotBefore.IsZero() && (run != nil && run.ours || r.serving && w.Immediate) {
			d.wanted[w.ID]++
			d.bytes += len(body)
			d.entries = append(d.entries, e)
			d.jobs = append(d.jobs, job{delivery: e, webhook: w, body: body})
			return
		}
	default:
		e.NextAt = later(r.nextFire(w, d.seen, now), e.NotBefore)
	}
	if e.State == Dead && run != nil {
		e.Run = run.ID
	}
	d.entries = append(d.entries, e)
	d.jobs = append(d.jobs, job{})
}

// encode gives a record's body. A panic is an error like others: it must not keep the records behind it.
func (r *Runner) encode(w *Webhook, rec *Record, created time.Time) (body []byte, err error) {
	defer r.contain("encoding a record", &err)
	if rec.Err != nil {
		return nil, rec.Err
	}
	return r.o.Sink.Encode(w, rec, created)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// enter leases what there is room for, enters the draft, and hands what is new and leased to the workers; it says of
// each of the draft's entries whether it is new. Where it returns ErrBookmarkMoved or ErrLeaseLost nothing was done, and the page can be read anew: there is another lease.
func (r *Runner) enter(ctx context.Context, d *draft, e Entries) (isNew []bool, err error) {
	e.Lease = r.holder.current()
	e.Deliveries = d.entries
	places := r.pool.reserve(ctx, d.wanted, patience)
	left := make(map[string]int, len(places))
	for webhook, n := range places {
		left[webhook] = n
	}
	waiting := false // something is due that found no room: the claims take it
	for i := range d.entries {
		entry := &d.entries[i]
		switch {
		case d.jobs[i].body == nil:
			waiting = waiting || entry.State == Pending && (e.Versioned || !entry.NextAt.After(entry.SeenAt))
		case left[entry.Webhook] > 0:
			left[entry.Webhook]--
			entry.State, entry.Lease = Sending, e.Lease
		default:
			waiting = true
		}
	}
	err = r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		isNew, err = r.o.Ledger.Enter(ctx, e)
		return err
	})
	if err != nil {
		r.pool.unreserve(places)
		if errors.Is(err, ErrLeaseLost) {
			return nil, cmp.Or(r.holder.replaced(ctx, e.Lease), err)
		}
		if errors.Is(err, ErrBookmarkMoved) {
			return nil, err
		}
		return nil, fmt.Errorf("enter a page of stream %s: %w", e.Type, err)
	}
	var ready []job
	rejected := map[string]int{}
	for i := range d.entries {
		switch {
		case !isNew[i]:
		case d.entries[i].State == Sending:
			j := d.jobs[i]
			j.delivery = d.entries[i]
			ready = append(ready, j)
			places[j.delivery.Webhook]--
		case d.entries[i].State == Dead:
			rejected[d.entries[i].Webhook]++
		}
	}
	r.pool.put(ready)
	r.pool.unreserve(places)
	for _, webhook := range slices.Sorted(maps.Keys(rejected)) {
		r.log.Warn("not delivered", "webhook", webhook, "reason", Rejected, "records", rejected[webhook])
	}
	if waiting {
		nudge(r.wake)
	}
	nudge(r.moved)
	return isNew, nil
}
