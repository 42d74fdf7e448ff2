package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	keysAtOnce = 2 * pageSize // rows whose keys are read at once
	askAtOnce  = 4 * pageSize // deliveries that the ledger is asked for at once, where a row does not go to more webhooks
)

// Reconcile holds the source's rows from since on against the ledger, and enters what is owed and missing there, as
// pages of the source are entered. It gathers first, so that what is new is entered as it would have been. progress,
// where given, is told how many rows were looked at. A stream that cannot be reconciled is an error, and the others are
// reconciled all the same.
//
// Each row's key is looked up for each webhook that it is owed to. Counts would not do: where one row is missing and
// another was deleted from the source they are equal, and the ledger knows no creation times to count by.
func (r *Runner) Reconcile(ctx context.Context, since time.Time, progress func(rows int)) (Reconciliation, error) {
	done := Reconciliation{Since: since}
	ro, err := r.refresh(ctx)
	if err != nil {
		return done, err
	}
	for key := range ro.fires { // which what is missing may have to wait for
		if _, err := r.seenTo(ctx, key); err != nil {
			return done, err
		}
	}
	var errs []error
	rows := 0
	for _, src := range r.o.Sources {
		c := &reconciler{r: r, src: src, since: since, sheet: tallySheet{}, done: &done, progress: func(n int) {
			if rows += n; progress != nil {
				progress(rows)
			}
		}}
		if err := c.run(ctx); err != nil && !errors.Is(err, ErrNotFound) { // no webhook begins in a stream that the ledger does not know
			errs = append(errs, fmt.Errorf("reconcile stream %s: %w", src.Type(), err))
		}
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		for _, b := range c.sheet.balances(src.Type()) {
			done.Total.Add(b.Count)
			done.Balances = append(done.Balances, b)
		}
	}
	return done, errors.Join(errs...)
}

// A reconciler reconciles one stream.
type reconciler struct {
	r        *Runner
	src      Source
	since    time.Time
	st       Stream  // with the bookmark that tells what was passed
	ro       *roster // of the same moment
	wanted   map[*Webhook]Actions
	sheet    tallySheet
	done     *Reconciliation
	progress func(rows int)
}

// An owing is a row that a webhook wants.
type owing struct {
	w      *Webhook
	rec    *Record
	action string // that it was drafted with
	state  State  // "": it is not in the ledger
	unread bool   // nor can it be yet
	lapsed bool   // it was missing, and its row is gone since, or another
}

func (c *reconciler) run(ctx context.Context) (err error) {
	defer c.r.contain("reconciling a stream", &err)
	if err := c.r.gatherNew(ctx, c.src); err != nil {
		return err
	}
	if err := c.refresh(ctx); err != nil {
		return err
	}
	for keys := c.src.Keys(c.since); ; {
		began := time.Now()
		page, err := c.r.read(ctx, func(ctx context.Context) (page Page, err error) {
			page.Records, err = keys.Next(ctx, keysAtOnce)
			return page, err
		})
		if err != nil || len(page.Records) == 0 {
			return err
		}
		if err := c.page(ctx, page.Records); err != nil {
			return err
		}
		c.progress(len(page.Records))
		if c.r.serving { // others are to have the databases for half of the time
			rest(ctx, time.Since(began))
		}
	}
}

// refresh reads the stream's bookmark, and the webhooks of that moment.
func (c *reconciler) refresh(ctx context.Context) (err error) {
	c.st, c.ro, err = c.r.stream(ctx, c.src)
	c.wanted = map[*Webhook]Actions{}
	return err
}

// page reconciles rows. Where the webhooks are changed meanwhile it begins again with them as they are.
func (c *reconciler) page(ctx context.Context, records []Record) error {
	for len(records) > 0 {
		owed, n, err := c.owed(records)
		if err != nil {
			return err
		}
		missing, err := c.missing(ctx, owed)
		if err != nil {
			return err
		}
		entered, err := c.restore(ctx, missing)
		if errors.Is(err, ErrBookmarkMoved) || errors.Is(err, ErrLeaseLost) {
			if err := c.refresh(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		c.count(owed, missing, entered)
		records = records[n:]
	}
	return nil
}

// owed are the webhooks that want the first n of these rows: as many as the ledger is asked for at once.
func (c *reconciler) owed(records []Record) (all []owing, n int, err error) {
	for ; n < len(records) && len(all) < askAtOnce; n++ {
		rec := &records[n]
		err = c.ro.wanting(rec.Chatbot, rec.Type, func(w *Webhook) error {
			if action := drafted(c.wants(w), rec); action != "" {
				all = append(all, owing{w: w, rec: rec, action: action})
			}
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return all, n, nil
}

func (c *reconciler) wants(w *Webhook) Actions {
	wanted, ok := c.wanted[w]
	if !ok {
		wanted = wantedActions(c.r.o.Sink, w, c.src.Type())
		c.wanted[w] = wanted
	}
	return wanted
}

// count takes what was found into the result.
func (c *reconciler) count(owed []owing, missing []*owing, entered int) {
	for i := range owed {
		switch o := &owed[i]; {
		case o.state != "":
			c.sheet.add(o.rec, o.state)
		case o.unread:
			c.done.Unread++
		}
	}
	c.done.Entered += entered
	for _, o := range missing {
		if o.lapsed {
			continue
		}
		c.sheet.add(o.rec, "")
		if len(c.done.Named) < namedAtMost {
			c.done.Named = append(c.done.Named, Missed{
				Type: c.src.Type(), Chatbot: o.rec.Chatbot, Webhook: o.w.ID, Row: o.rec.Row, Day: dayTime(dayOf(o.rec)),
			})
		}
	}
}
