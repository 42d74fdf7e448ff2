package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// BackfillByHand begins, in each stream that the webhook wants, a backfill of the rows that are older than the webhook
// and were created at or after since (zero: all). It returns how many rows that is, of which some may have been
// delivered before: those are not sent again. With dryRun it only counts. The rows are entered by the webhook's next
// run, or at once by a daemon where the webhook is immediate.
func BackfillByHand(ctx context.Context, l Ledger, sources []Source, webhook string, since time.Time, dryRun bool) (int, error) {
	for {
		rows, err := backfillByHand(ctx, l, sources, webhook, since, dryRun)
		if !errors.Is(err, ErrBookmarkMoved) {
			return rows, err
		}
	}
}

func backfillByHand(ctx context.Context, l Ledger, sources []Source, webhook string, since time.Time, dryRun bool) (rows int, err error) {
	set, err := l.Webhooks(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the webhooks: %w", err)
	}
	ro, err := newRoster(set)
	if err != nil {
		return 0, err
	}
	w := ro.byID[webhook]
	if w == nil {
		return 0, fmt.Errorf("webhook %s: %w", webhook, ErrNotFound)
	}
	change := Change{Generation: set.Generation}
	for _, src := range sources {
		sub := ro.subs[subscriber{w.ID, src.Type()}]
		if sub == nil || !w.WantsType(src.Type()) {
			continue
		}
		n, err := src.CountOlder(ctx, sub.Start, w.Chatbots, since)
		if err != nil {
			return 0, fmt.Errorf("count the older rows of stream %s: %w", src.Type(), err)
		}
		rows += n
		if n > 0 {
			again := *sub
			if sub.Until != "" && sub.Since.Before(since) { // one is under way that takes in more
				again.Since = sub.Since
			} else {
				again.Since = since
			}
			again.Backfill, again.Until = "", sub.Start
			change.Subscriptions = append(change.Subscriptions, again)
		}
	}
	if dryRun || len(change.Subscriptions) == 0 {
		return rows, nil
	}
	return rows, l.ChangeWebhooks(ctx, change)
}
