package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrBackfilling says that a backfill is under way that another cannot be joined to.
var ErrBackfilling = errors.New("a backfill is under way")

// take widens s's bounds of creation to what an open backfill takes in besides, which is not to be cut off. Where rows
// that neither wants lie between them it reports false.
func (s *Subscription) take(open *Subscription) bool {
	if !s.Before.IsZero() && s.Before.Before(open.Since) || !open.Before.IsZero() && open.Before.Before(s.Since) {
		return false
	}
	if open.Since.Before(s.Since) {
		s.Since = open.Since
	}
	if open.Before.IsZero() || !s.Before.IsZero() && open.Before.After(s.Before) {
		s.Before = open.Before
	}
	return true
}

// BackfillByHand begins, in each stream that the webhook wants, a backfill of the rows that are older than the webhook
// and were created at or after since and before before (zero: no such bound; rows without a creation time are always
// taken). It returns how many rows that is, of which some may have been
// delivered before: those are not sent again. With dryRun it only counts. The rows are entered by the webhook's next
// run, or at once by a daemon where the webhook is immediate.
func BackfillByHand(ctx context.Context, l Ledger, sources []Source, webhook string, since, before time.Time, dryRun bool) (int, error) {
	for {
		rows, err := backfillByHand(ctx, l, sources, webhook, since, before, dryRun)
		if !errors.Is(err, ErrBookmarkMoved) {
			return rows, err
		}
	}
}

func backfillByHand(ctx context.Context, l Ledger, sources []Source, webhook string, since, before time.Time, dryRun bool) (rows int, err error) {
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
		n, err := src.CountOlder(ctx, sub.Start, w.Chatbots, since, before)
		if err != nil {
			return 0, fmt.Errorf("count the older rows of stream %s: %w", src.Type(), err)
		}
		rows += n
		if n > 0 {
			again := *sub
			again.Since, again.Before = since, before
			if sub.Until != "" && !again.take(sub) && !dryRun {
				return 0, fmt.Errorf("webhook %s: %w, of rows created at another time; begin this one when it has ended", webhook, ErrBackfilling)
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
