package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// backfillsAtOnce is how many webhooks' backfills read a source side by side.
const backfillsAtOnce = 4

// backfillAll brings the open backfills of these runs' webhooks, and of immediate ones, to their ends.
func (r *Runner) backfillAll(ctx context.Context, src Source, runs []*activeRun) (err error) {
	defer r.contain("filling webhooks up", &err)
	ro, some := r.webhooks(), false
	loopOf(ctx).idle() // those that it begins are watched
	defer loopOf(ctx).back()
	var g errgroup.Group
	g.SetLimit(backfillsAtOnce)
	for key, sub := range ro.subs {
		w := ro.byID[key.webhook]
		if key.typ != src.Type() || sub.Until == "" || w == nil || w.State == Disabled || !w.WantsType(key.typ) {
			continue
		}
		if !w.Immediate && !slices.ContainsFunc(runs, func(a *activeRun) bool { return a.includes(w, key.typ) }) {
			continue
		}
		some = true
		g.Go(func() (err error) {
			defer r.contain("filling a webhook up", &err)
			loop := r.vigil.begin("the backfill of webhook " + w.ID + " from stream " + key.typ)
			defer loop.End()
			ctx := loop.in(ctx)
			if err := r.backfill(ctx, src, *sub, w, runs); err != nil {
				return fmt.Errorf("backfill of webhook %s from stream %s: %w", w.ID, key.typ, err)
			}
			return nil
		})
	}
	err = g.Wait()
	if some { // the cursors moved
		_, refreshed := r.refresh(ctx)
		err = errors.Join(err, refreshed)
	}
	return err
}

// backfill enters the rows that are older than the webhook, page by page behind a cursor of its own. Where the cursor
// was moved, by another process or by this one in an earlier run, it goes on from where the cursor is: whoever moved it
// may be gone.
func (r *Runner) backfill(ctx context.Context, src Source, sub Subscription, w *Webhook, runs []*activeRun) error {
	limit := pageSize
	for {
		page, err := r.read(ctx, func(ctx context.Context) (Page, error) {
			return src.Older(ctx, sub.Backfill, sub.Until, w.Chatbots, sub.Since, sub.Before, limit)
		})
		if err != nil {
			return err
		}
		d, err := r.draft(r.webhooks(), page.Records, runs, r.firesSeen(), &sub)
		if err != nil {
			return err
		}
		if sub.Backfill == "" { // of a new ledger it may be the stream's first page
			st, _, err := r.stream(ctx, src)
			if err == nil {
				err = r.accept(ctx, st, d)
			}
			if err != nil {
				return err
			}
		}
		was := sub
		_, err = r.enter(ctx, d, Entries{Type: sub.Type, Bookmark: page.Bookmark, Backfill: &was, Done: page.Drained, Versioned: src.Versioned()})
		switch {
		case errors.Is(err, ErrLeaseLost):
		case errors.Is(err, ErrBookmarkMoved):
			ro, err := r.refresh(ctx)
			if err != nil {
				return err
			}
			now := ro.subs[subscriber{sub.Webhook, sub.Type}]
			if now == nil || now.Until == "" {
				return nil
			}
			sub = *now
		case err != nil || page.Drained:
			return err
		default:
			sub.Backfill = page.Bookmark
		}
	}
}
