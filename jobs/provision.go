package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// A Provisioning brings the webhooks of one configuration file into the ledger.
type Provisioning struct {
	Ledger  Ledger
	Sources []Source
	Origin  string                                // which file; webhooks of others are left alone
	Desired []Webhook                             // as configured; State, EnteredAt and KeyMade are not looked at, nor is a SignKey that is ""
	NewKey  func(dialect string) Secret           // makes a sign key for a webhook that has none
	Signs   func(dialect string) bool             // whether a dialect needs a key
	Fits    func(dialect string, key Secret) bool // whether a key has the form that the dialect's have; nil: any has
}

// Provisioned says what a Provisioning did, for people.
type Provisioned struct {
	Entered, Changed, Disabled, Enabled []string // webhook ids
	FromKept                            []string // webhooks whose from was changed, which changes nothing
}

// Run enters new streams at their tables' ends, enters new webhooks, updates changed ones and disables those that are
// gone from the file. A new webhook begins, in each stream, behind the rows that are visible now; where its from lies
// before that, a backfill of its own is begun.
func (p Provisioning) Run(ctx context.Context) (Provisioned, error) {
	for {
		done, err := p.try(ctx)
		if !errors.Is(err, ErrBookmarkMoved) {
			return done, err
		}
	}
}

func (p Provisioning) try(ctx context.Context) (Provisioned, error) {
	var did Provisioned
	change := Change{Versions: map[string]int64{}, Pull: map[string]time.Time{}}
	if err := p.enterStreams(ctx); err != nil {
		return did, err
	}
	streams, err := p.Ledger.AllStreams(ctx)
	if err != nil {
		return did, fmt.Errorf("read the streams: %w", err)
	}
	versions := map[string]int64{}
	for _, st := range streams {
		versions[st.Type] = st.Version
	}
	set, err := p.Ledger.Webhooks(ctx)
	if err != nil {
		return did, fmt.Errorf("read the webhooks: %w", err)
	}
	change.Generation = set.Generation
	known := make(map[string]*Webhook, len(set.Webhooks))
	for i := range set.Webhooks {
		known[set.Webhooks[i].ID] = &set.Webhooks[i]
	}
	subscribed := make(map[subscriber]bool, len(set.Subscriptions))
	for _, s := range set.Subscriptions {
		subscribed[subscriber{s.Webhook, s.Type}] = true
	}

	wanted := make(map[string]bool, len(p.Desired))
	ends := map[string]Bookmark{}
	for _, w := range p.Desired {
		wanted[w.ID] = true
		was := known[w.ID]
		p.settleIdentity(&w, was, &did)
		if was == nil || !sameWebhook(*was, w) {
			change.Put = append(change.Put, w)
		}
		if was != nil && (was.Schedule != w.Schedule || was.Timezone != w.Timezone || was.Immediate != w.Immediate) {
			if err := p.pull(&change, &w); err != nil {
				return did, err
			}
		}
		for _, src := range p.Sources {
			if !w.WantsType(src.Type()) || subscribed[subscriber{w.ID, src.Type()}] {
				continue
			}
			sub, err := p.subscribe(ctx, &w, src, ends)
			if err != nil {
				return did, err
			}
			change.Subscriptions = append(change.Subscriptions, sub)
			change.Versions[sub.Type] = versions[sub.Type] // streams that are not begun in may move on meanwhile
		}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		w := *known[id]
		if w.Origin == p.Origin && !wanted[id] && w.State != Disabled {
			w.State, w.StateReason = Disabled, ReasonNotYAML
			change.Put = append(change.Put, w)
			did.Disabled = append(did.Disabled, id)
		}
	}
	if len(change.Put) == 0 && len(change.Subscriptions) == 0 {
		return did, nil
	}
	if err := p.Ledger.ChangeWebhooks(ctx, change); err != nil {
		return Provisioned{}, fmt.Errorf("enter the webhooks: %w", err)
	}
	return did, nil
}

// enterStreams begins streams that the ledger does not know at their tables' ends.
func (p Provisioning) enterStreams(ctx context.Context) error {
	for _, src := range p.Sources {
		_, err := p.Ledger.Stream(ctx, src.Type())
		if !errors.Is(err, ErrNotFound) {
			if err != nil {
				return fmt.Errorf("bookmark of stream %s: %w", src.Type(), err)
			}
			continue
		}
		end, err := src.End(ctx)
		if err != nil {
			return fmt.Errorf("end of stream %s: %w", src.Type(), err)
		}
		if err := p.Ledger.EnterStream(ctx, src.Type(), src.Definition(), end); err != nil {
			return fmt.Errorf("enter stream %s: %w", src.Type(), err)
		}
	}
	return nil
}

// settleIdentity fills in what the ledger decides: key, state, first from, time of entering.
func (p Provisioning) settleIdentity(w *Webhook, was *Webhook, did *Provisioned) {
	slices.Sort(w.Types)
	w.Origin, w.State, w.StateReason = p.Origin, Active, ""
	w.KeyMade = w.SignKey == "" && p.Signs(w.Dialect)
	if was == nil {
		if w.KeyMade {
			w.SignKey = p.NewKey(w.Dialect)
		}
		w.EnteredAt = p.Ledger.Now()
		did.Entered = append(did.Entered, w.ID)
		return
	}
	if w.KeyMade {
		// Its dialect may not have signed until now, or with keys of another form.
		if w.SignKey = was.SignKey; w.SignKey == "" || p.Fits != nil && !p.Fits(w.Dialect, w.SignKey) {
			w.SignKey = p.NewKey(w.Dialect)
		}
	}
	if was.From != w.From {
		did.FromKept = append(did.FromKept, w.ID)
	}
	w.From, w.EnteredAt = was.From, was.EnteredAt
	if w.KeyMade {
		w.OldKey, w.OldKeyUntil = was.OldKey, was.OldKeyUntil // a rotation goes on
	}
	switch {
	case was.State == Disabled && was.StateReason == ReasonNotYAML:
		did.Enabled = append(did.Enabled, w.ID)
	case was.State != Active:
		w.State, w.StateReason = was.State, was.StateReason
	}
	if !sameWebhook(*was, *w) && !slices.Contains(did.Enabled, w.ID) {
		did.Changed = append(did.Changed, w.ID)
	}
}

// pull lets records that wait for a fire of the old schedule wait for the next fire of the new one.
func (p Provisioning) pull(change *Change, w *Webhook) error {
	now := p.Ledger.Now()
	if w.Immediate {
		change.Pull[w.ID] = now
		return nil
	}
	s, err := ParseSchedule(w.Schedule, w.Timezone)
	if err != nil {
		return fmt.Errorf("webhook %s: %w", w.ID, err)
	}
	change.Pull[w.ID] = s.Next(now)
	return nil
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

// sameWebhook compares two webhooks; an empty list is as good as none.
func sameWebhook(a, b Webhook) bool {
	for _, w := range []*Webhook{&a, &b} {
		if len(w.Types) == 0 {
			w.Types = nil
		}
		if len(w.RetryAt) == 0 {
			w.RetryAt = nil
		}
		if len(w.Headers) == 0 {
			w.Headers = nil
		}
		w.EnteredAt = time.Time{}
	}
	return reflect.DeepEqual(a, b)
}
