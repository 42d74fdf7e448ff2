package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Plan says what a run by hand would push, and changes nothing.
type Plan struct {
	Sources []Source
	Sink    Sink
	Ledger  interface { // nil: there is none yet
		Streams
		Webhooks(ctx context.Context) (Registered, error)
		Versions(ctx context.Context, webhook, typ string, rows []string) (map[string]RowVersions, error)
	}
	// Pending returns pending deliveries of a webhook that are not waiting for a retry, page by page behind after.
	Pending func(ctx context.Context, webhook, after string) (page []Delivery, next string, err error)
	Scope   Scope
	Desired []Webhook // as configured
	NewKey  func(dialect string) Secret
	Signs   func(dialect string) bool
	Now     func() time.Time
}

// A Planned record is one that would be pushed, or, with Err, be dead instead.
type Planned struct {
	Webhook *Webhook
	Key     Key
	Body    []byte
	Err     error
}

// Each calls f for every record that would be pushed.
func (p Plan) Each(ctx context.Context, f func(Planned) error) error {
	var set Registered
	if p.Ledger != nil {
		var err error
		if set, err = p.Ledger.Webhooks(ctx); err != nil {
			return fmt.Errorf("read the webhooks: %w", err)
		}
	}
	fresh := p.overlay(&set)
	for i := range set.Webhooks {
		w := &set.Webhooks[i]
		if w.State != Active || !p.inScope(w) {
			continue
		}
		for _, src := range p.Sources {
			if !w.WantsType(src.Type()) || p.Scope.Types != nil && !slices.Contains(p.Scope.Types, src.Type()) {
				continue
			}
			if err := p.stream(ctx, src, w, set.Subscriptions, fresh[w.ID], f); err != nil {
				return fmt.Errorf("stream %s: %w", src.Type(), err)
			}
		}
	}
	return nil
}

// overlay lets the configuration's webhooks stand where they are not yet in the ledger as they are in it.
func (p Plan) overlay(set *Registered) (fresh map[string]bool) {
	fresh = map[string]bool{}
	known := make(map[string]int, len(set.Webhooks))
	for i := range set.Webhooks {
		known[set.Webhooks[i].ID] = i
	}
	for _, w := range p.Desired {
		w.State = Active
		i, ok := known[w.ID]
		if ok {
			old := &set.Webhooks[i]
			if w.SignKey == "" && w.SignKeyOf == "" && old.SignKeyOf == "" {
				w.SignKey, w.OldKey, w.OldKeyUntil = old.SignKey, old.OldKey, old.OldKeyUntil // both sign while it is rotated
			}
			if !gone(old) {
				w.State, w.StateReason = old.State, old.StateReason
			}
			w.From = old.From // a changed one changes nothing
		}
		if w.SignKey == "" && w.SignKeyOf == "" && p.Signs(w.Dialect) {
			w.SignKey = p.NewKey(w.Dialect)
		}
		if ok {
			set.Webhooks[i] = w
			continue
		}
		fresh[w.ID] = true
		set.Webhooks = append(set.Webhooks, w)
	}
	ShareKeys(set.Webhooks)
	return fresh
}

func (p Plan) inScope(w *Webhook) bool {
	return (p.Scope.Webhooks == nil || slices.Contains(p.Scope.Webhooks, w.ID)) &&
		(p.Scope.Chatbots == nil || slices.ContainsFunc(p.Scope.Chatbots, w.WantsChatbot))
}

// stream plans one webhook's records of one stream: what is pending, what is new, and what a backfill would bring.
func (p Plan) stream(ctx context.Context, src Source, w *Webhook, subs []Subscription, fresh bool, f func(Planned) error) error {
	i := slices.IndexFunc(subs, func(s Subscription) bool { return s.Webhook == w.ID && s.Type == src.Type() })
	if fresh || i < 0 {
		end, err := src.End(ctx)
		if err != nil {
			return err
		}
		sub, err := Provisioning{}.subscribe(ctx, w, src, map[string]Bookmark{src.Type(): end})
		if err != nil || sub.Until == "" {
			return err
		}
		return p.older(ctx, src, w, sub, f)
	}
	sub := subs[i]
	if err := p.pending(ctx, src, w, f); err != nil {
		return err
	}
	if sub.Until != "" {
		if err := p.older(ctx, src, w, sub, f); err != nil {
			return err
		}
	}
	st, err := p.Ledger.Stream(ctx, src.Type())
	if err != nil {
		return err
	}
	since, err := w.since()
	if err != nil {
		return err
	}
	for at := st.Bookmark; ; {
		page, err := src.After(ctx, at, pageSize)
		if err != nil {
			return err
		}
		var wanted []Record
		for i := range page.Records {
			rec := &page.Records[i]
			past, err := src.Past(sub.Start, rec)
			if err != nil {
				return err
			}
			if past && (rec.Created.IsZero() || !rec.Created.Before(since)) {
				wanted = append(wanted, *rec)
			}
		}
		if err := p.fresh(ctx, src, w, wanted, f); err != nil {
			return err
		}
		if page.Drained || page.Bookmark == at {
			return nil
		}
		at = page.Bookmark
	}
}

func (p Plan) pending(ctx context.Context, src Source, w *Webhook, f func(Planned) error) error {
	for after := ""; ; {
		page, next, err := p.Pending(ctx, w.ID, after)
		if err != nil {
			return err
		}
		owed := map[string]Delivery{}
		var rows []string
		for _, d := range page {
			if d.Type == src.Type() {
				rows = append(rows, d.Row)
				owed[d.Row] = d
			}
		}
		for len(rows) > 0 {
			var records []Record
			if records, rows, err = src.Read(ctx, rows); err != nil {
				return err
			}
			for i := range records {
				d := owed[records[i].Row]
				if err := p.one(w, &records[i], d.Key, d.SeenAt, f); err != nil {
					return err
				}
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

func (p Plan) older(ctx context.Context, src Source, w *Webhook, sub Subscription, f func(Planned) error) error {
	for at := sub.Backfill; ; {
		page, err := src.Older(ctx, at, sub.Until, w.Chatbots, sub.Since, sub.Before, pageSize)
		if err != nil {
			return err
		}
		if err := p.fresh(ctx, src, w, page.Records, f); err != nil {
			return err
		}
		if page.Drained {
			return nil
		}
		at = page.Bookmark
	}
}

// fresh plans records that are not in the ledger yet.
func (p Plan) fresh(ctx context.Context, src Source, w *Webhook, records []Record, f func(Planned) error) error {
	known := map[string]RowVersions{}
	if src.Versioned() && p.Ledger != nil {
		rows := make([]string, len(records))
		for i := range records {
			rows[i] = records[i].Row
		}
		var err error
		if known, err = p.Ledger.Versions(ctx, w.ID, src.Type(), rows); err != nil {
			return err
		}
	}
	wanted := wantedActions(p.Sink, w, src.Type())
	for i := range records {
		rec := &records[i]
		key := Key{Webhook: w.ID, Type: rec.Type, Row: rec.Row, Version: versionOf(src, rec), Action: drafted(wanted, rec)}
		if src.Versioned() && key.Action != "" {
			key.Action = known[rec.Row].Action(key.Action, wanted)
		}
		if key.Action == "" {
			continue
		}
		if err := p.one(w, rec, key, p.Now(), f); err != nil {
			return err
		}
	}
	return nil
}

func (p Plan) one(w *Webhook, rec *Record, key Key, seen time.Time, f func(Planned) error) error {
	if !w.WantsChatbot(rec.Chatbot) || p.Scope.Chatbots != nil && !slices.Contains(p.Scope.Chatbots, rec.Chatbot) {
		return nil
	}
	planned := Planned{Webhook: w, Key: key, Err: rec.Err}
	if planned.Err == nil {
		owed := *rec
		owed.Action = key.Action
		planned.Body, planned.Err = p.Sink.Encode(w, &owed, seen)
	}
	if planned.Err != nil && !errors.Is(planned.Err, ErrEncode) {
		return planned.Err
	}
	return f(planned)
}
