package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Subscription ties a webhook to one stream: where in the stream it begins, and how far a backfill has come.
type Subscription struct {
	Webhook  string
	Type     string
	Start    Bookmark  // rows that were visible here are older than the webhook
	Since    time.Time // the backfill takes only rows created at or after this; zero: no such bound
	Before   time.Time // and before this; zero: no such bound
	Backfill Bookmark  // the backfill's own cursor; "" is the beginning
	Until    Bookmark  // where the backfill ends; "" where none is under way: Enter with Done clears it

	// What is known to have been entered for the webhook as it is: rows past Start and Steady, once the stream's bookmark
	// has passed them, and those at or behind Start that are of Filled.
	Steady Bookmark // until here it wanted other records than it does now, or the stream was reset
	Filled []Span   // of the backfills that have ended since
}

// A Span is the rows created at or after Since and before Before; zero: no such bound. Rows without a creation time are
// of every span.
type Span struct{ Since, Before time.Time }

// Holds reports whether a row created at a time (zero: unknown) is of the span.
func (s Span) Holds(created time.Time) bool {
	return created.IsZero() || !created.Before(s.Since) && (s.Before.IsZero() || created.Before(s.Before))
}

// covers reports whether all of o is of the span.
func (s Span) covers(o Span) bool {
	return !o.Since.Before(s.Since) && (s.Before.IsZero() || !o.Before.IsZero() && !o.Before.After(s.Before))
}

// BackfillEnded is the subscription as it is when the backfill that is under way has come to its end.
func (s Subscription) BackfillEnded() Subscription {
	done := Span{s.Since, s.Before}
	filled := slices.DeleteFunc(slices.Clone(s.Filled), done.covers)
	if !slices.ContainsFunc(filled, func(f Span) bool { return f.covers(done) }) {
		filled = append(filled, done)
	}
	s.Backfill, s.Until, s.Filled = "", "", filled
	return s
}

// subscribe says where a webhook begins in a stream. ends keeps the streams' ends: they are read once, after the
// streams' versions were, so that nothing can pass between the two unseen.
func (p Provisioning) subscribe(ctx context.Context, w *Webhook, src Source, ends map[string]Bookmark) (Subscription, error) {
	end, ok := ends[src.Type()]
	if !ok {
		var err error
		if end, err = src.End(ctx); err != nil {
			return Subscription{}, fmt.Errorf("end of stream %s: %w", src.Type(), err)
		}
		ends[src.Type()] = end
	}
	sub := Subscription{Webhook: w.ID, Type: src.Type(), Start: end}
	since, err := w.since()
	if err != nil {
		return sub, err
	}
	if w.From != FromNow {
		sub.Since, sub.Until = since, end
	}
	return sub, nil
}

// beginIn lets a webhook that is not of the file begin in streams that came after it, where the ledger finds these: what
// they gave it until now is behind that.
func (p Provisioning) beginIn(streams []Stream, w *Webhook, subscribed map[subscriber]bool, change *Change) error {
	for _, st := range streams {
		known := slices.ContainsFunc(p.Sources, func(src Source) bool { return src.Type() == st.Type })
		if !known || !w.WantsType(st.Type) || subscribed[subscriber{w.ID, st.Type}] {
			continue
		}
		since, err := w.since()
		if err != nil {
			return err
		}
		sub := Subscription{Webhook: w.ID, Type: st.Type, Start: st.Bookmark}
		if w.From != FromNow {
			sub.Since, sub.Until = since, sub.Start
		}
		change.Subscriptions = append(change.Subscriptions, sub)
		change.Versions[st.Type] = st.Version
	}
	return nil
}

// rewants reports whether a change may let a webhook want records that it did not want before.
func rewants(was, w *Webhook) bool {
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	return !slices.Equal(sorted(was.Chatbots), sorted(w.Chatbots)) || !slices.Equal(sorted(was.Types), sorted(w.Types)) ||
		!slices.Equal(sorted(was.Events), sorted(w.Events)) || was.Dialect != w.Dialect
}
