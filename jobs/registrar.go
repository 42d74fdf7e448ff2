package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

var (
	// ErrExists says that a webhook like this one, or of its id, is there already.
	ErrExists = errors.New("there is such a webhook already")
	// ErrProvisioned says that a configuration file, or a row of the table that one names, gives the webhook, so that it
	// is changed there.
	ErrProvisioned = errors.New("it is in a configuration file: change it there")
	// ErrTooMany says that as many webhooks were entered by hand as Registrar.Most.
	ErrTooMany = errors.New("as many webhooks are entered as may be")
	// ErrNotRotated says that a webhook's key is not to be rotated.
	ErrNotRotated = errors.New("its key cannot be rotated")
)

// An ExistsError is an ErrExists that says which webhook is there.
type ExistsError struct {
	ID    string
	Alike bool // not its id is the same, but chatbots, URL, dialect and types
}

func (e *ExistsError) Error() string {
	if e.Alike {
		return fmt.Sprintf("webhook %s: %v, of the same chatbots, url, dialect and types", e.ID, ErrExists)
	}
	return fmt.Sprintf("webhook %s: %v", e.ID, ErrExists)
}

func (e *ExistsError) Unwrap() error { return ErrExists }

// A Registrar enters and changes webhooks by hand, one at a time. Every running daemon on the ledger sees a change
// within seconds.
type Registrar struct {
	Ledger  Ledger
	Sources []Source
	NewKey  func(dialect string) Secret
	Signs   func(dialect string) bool             // whether a webhook of the dialect is given a key where none is named
	Fits    func(dialect string, key Secret) bool // whether a key has the form that the dialect's have; nil: any has
	Sees    func(*Webhook) bool                   // which webhooks there are for who asks: others are ErrNotFound; nil: all
	Most    int                                   // how many of those may be entered by hand; 0: any number
}

// provisioned is ErrProvisioned of a webhook, nil where it was entered by hand.
func provisioned(w *Webhook) error {
	switch {
	case w.Origin == "":
		return nil
	case w.IsRow():
		return fmt.Errorf("webhook %s: %w", w.ID, provisionedByRow{})
	}
	return fmt.Errorf("webhook %s: %w", w.ID, ErrProvisioned)
}

type provisionedByRow struct{}

func (provisionedByRow) Error() string {
	return "it is a row of webhook_source's table: change it there"
}
func (provisionedByRow) Is(target error) bool { return target == ErrProvisioned }

// Add enters a webhook, with a key made for it where it names none; one with SignKeyOf is returned with the key that it
// signs with. A webhook of the same chatbots, URL, dialect and
// types, or of the same id, is ErrExists, one more than Most ErrTooMany.
func (r Registrar) Add(ctx context.Context, w Webhook) (Webhook, error) {
	slices.Sort(w.Types)
	w.State, w.StateReason, w.Origin = Active, "", ""
	if w.SignKey == "" && w.SignKeyOf == "" && r.Signs(w.Dialect) {
		w.SignKey, w.KeyMade = r.NewKey(w.Dialect), true
	}
	err := r.try(ctx, func() error {
		if err := (Provisioning{Ledger: r.Ledger, Sources: r.Sources}).enterStreams(ctx); err != nil {
			return err
		}
		change, set, err := r.begin(ctx)
		if err != nil {
			return err
		}
		entered := 0
		for i := range set.Webhooks {
			old := &set.Webhooks[i]
			if old.ID == w.ID || sameTarget(old, &w) {
				return &ExistsError{old.ID, old.ID != w.ID}
			}
			if old.Origin == "" && (r.Sees == nil || r.Sees(old)) {
				entered++
			}
		}
		if r.Most > 0 && entered >= r.Most {
			return ErrTooMany
		}
		if err := r.share(set.Webhooks, &w); err != nil {
			return err
		}
		w.EnteredAt = r.Ledger.Now()
		return r.put(ctx, change, &set, &w)
	})
	return w, err
}

// sameTarget reports whether two webhooks would push the same records to the same place.
func sameTarget(a, b *Webhook) bool {
	return a.URL == b.URL && a.Dialect == b.Dialect && sameChatbots(a, b) &&
		slices.Equal(a.Types, b.Types) && slices.Equal(a.Events, b.Events)
}

func sameChatbots(a, b *Webhook) bool {
	return slices.Equal(slices.Sorted(slices.Values(a.Chatbots)), slices.Sorted(slices.Values(b.Chatbots)))
}

// Change changes a webhook that no configuration file gives: f is handed the webhook as it is. Its id, origin, state,
// from and time of entering stay. One that would come to be like another is ErrExists.
func (r Registrar) Change(ctx context.Context, id string, f func(*Webhook) error) (Webhook, error) {
	return r.edit(ctx, id, func(w *Webhook) error {
		if err := provisioned(w); err != nil {
			return err
		}
		was := *w
		if err := f(w); err != nil {
			return err
		}
		if w.SignKeyOf != was.SignKeyOf {
			w.OldKey, w.OldKeyUntil = "", time.Time{}
			switch {
			case w.SignKeyOf != "":
				w.SignKey, w.KeyMade = "", false
			case w.SignKey != was.SignKey: // it was given one
			case r.Signs(w.Dialect): // what it had is another's
				w.SignKey, w.KeyMade = r.NewKey(w.Dialect), true
			default:
				w.SignKey, w.KeyMade = "", false
			}
		}
		slices.Sort(w.Types)
		w.ID, w.Origin, w.State, w.StateReason, w.EnteredAt, w.From = was.ID, was.Origin, was.State, was.StateReason, was.EnteredAt, was.From
		return nil
	})
}

// SetState disables a webhook by hand, or lets it run again; it may be one that a configuration file gives.
func (r Registrar) SetState(ctx context.Context, id string, state WebhookState) (Webhook, error) {
	return r.edit(ctx, id, func(w *Webhook) error {
		w.State, w.StateReason = state, ""
		if state == Disabled {
			w.StateReason = ReasonByHand
		}
		return nil
	})
}

// LongestOverlap is the longest time in which an old key signs beside the new one.
const LongestOverlap = 365 * 24 * time.Hour

// A Rotation says what becomes of a webhook's key: a new one signs, and the old one beside it for Overlap (0: not at
// all). With Finish no new key is made, and the old one ends now.
type Rotation struct {
	Overlap time.Duration
	Finish  bool
}

// Rotate rotates a webhook's key. While an old key signs another overlap is ErrNotRotated: three keys do not sign, and the
// one that would go is the one that the CRM may have.
func (r Registrar) Rotate(ctx context.Context, id string, how Rotation) (Webhook, error) {
	return r.edit(ctx, id, func(w *Webhook) error {
		switch {
		case w.SignKeyOf != "":
			return keySharing("webhook %s signs with the key of %s: rotate that one's, which changes both", id, w.SignKeyOf)
		case w.IsRow() && !w.KeyMade:
			return fmt.Errorf("webhook %s: %w: it is in webhook_source's table: change it there", id, ErrNotRotated)
		case w.Origin != "" && !w.KeyMade:
			return fmt.Errorf("webhook %s: %w: it is in a configuration file: change it there", id, ErrNotRotated)
		case how.Finish:
			w.OldKey, w.OldKeyUntil = "", time.Time{}
			return nil
		case w.SignKey == "":
			return fmt.Errorf("webhook %s: %w: its requests are not signed", id, ErrNotRotated)
		case how.Overlap > 0 && w.OldKey != "" && w.OldKeyUntil.After(r.Ledger.Now()):
			return fmt.Errorf("webhook %s: %w until %s: until then the key before it signs too, and the CRM may have that one; finish this rotation first, or rotate now, which drops both keys",
				id, ErrNotRotated, w.OldKeyUntil.Format(time.RFC3339))
		}
		key := r.NewKey(w.Dialect)
		if key == "" {
			return fmt.Errorf("webhook %s: %w: the configuration knows no dialect %s", id, ErrNotRotated, w.Dialect)
		}
		w.OldKey, w.OldKeyUntil = "", time.Time{}
		if how.Overlap > 0 {
			w.OldKey, w.OldKeyUntil = w.SignKey, r.Ledger.Now().Add(how.Overlap)
		}
		w.SignKey, w.KeyMade = key, true
		return nil
	})
}

// Remove forgets a webhook that no configuration file gives. What it is still owed is dead, removed; it returns how
// many records that were.
func (r Registrar) Remove(ctx context.Context, id string) (undelivered int, err error) {
	err = r.try(ctx, func() error {
		change, set, err := r.begin(ctx)
		if err != nil {
			return err
		}
		i := r.find(&set, id)
		if i < 0 {
			return fmt.Errorf("webhook %s: %w", id, ErrNotFound)
		}
		if !gone(&set.Webhooks[i]) {
			if err := provisioned(&set.Webhooks[i]); err != nil {
				return err
			}
		}
		var others []string
		for _, w := range set.Webhooks {
			if w.SignKeyOf == id {
				others = append(others, w.ID)
			}
		}
		if others != nil {
			return keySharing("webhook %s cannot be removed: %s would have no key to sign with; change their sign_key_of first", id, strings.Join(others, ", "))
		}
		change.onlyBegunIn()
		undelivered, err = r.Ledger.RemoveWebhook(ctx, change, id)
		return err
	})
	return undelivered, err
}

// edit changes one webhook, and what follows from the change: the fire that its records wait for, and where it begins
// in streams that it did not want before.
func (r Registrar) edit(ctx context.Context, id string, f func(*Webhook) error) (w Webhook, err error) {
	err = r.try(ctx, func() error {
		change, set, err := r.begin(ctx)
		if err != nil {
			return err
		}
		i := r.find(&set, id)
		if i < 0 {
			return fmt.Errorf("webhook %s: %w", id, ErrNotFound)
		}
		was := set.Webhooks[i]
		w = was
		if err := f(&w); err != nil {
			return err
		}
		if !sameTarget(&was, &w) {
			if j := slices.IndexFunc(set.Webhooks, func(other Webhook) bool { return other.ID != id && sameTarget(&other, &w) }); j >= 0 {
				return &ExistsError{set.Webhooks[j].ID, true}
			}
		}
		if was.Dialect != w.Dialect || was.SignKey != w.SignKey || was.SignKeyOf != w.SignKeyOf {
			if err := r.share(set.Webhooks, &w); err != nil {
				return err
			}
		}
		if pulls(&was, &w) {
			if err := (Provisioning{Ledger: r.Ledger}).pull(&change, &w); err != nil {
				return err
			}
		}
		if rewants(&was, &w) {
			change.Rewanted = []string{w.ID}
		}
		return r.put(ctx, change, &set, &w)
	})
	return w, err
}

// put makes the change that enters w as it is to be, and lets it begin in the streams that it did not want before.
func (r Registrar) put(ctx context.Context, change Change, set *Registered, w *Webhook) error {
	change.Put = []Webhook{*w}
	ends := map[string]Bookmark{}
	for _, src := range r.Sources {
		known := slices.ContainsFunc(set.Subscriptions, func(s Subscription) bool { return s.Webhook == w.ID && s.Type == src.Type() })
		if known || !w.WantsType(src.Type()) {
			continue
		}
		sub, err := Provisioning{}.subscribe(ctx, w, src, ends)
		if err != nil {
			return err
		}
		change.Subscriptions = append(change.Subscriptions, sub)
	}
	change.onlyBegunIn()
	return r.Ledger.ChangeWebhooks(ctx, change)
}

// find is the place of a webhook that there is for who asks, or -1.
func (r Registrar) find(set *Registered, id string) int {
	return slices.IndexFunc(set.Webhooks, func(w Webhook) bool { return w.ID == id && (r.Sees == nil || r.Sees(&w)) })
}

// share checks whose key w signs with, and who signs with its, as it is to be; it gives w the key of another.
func (r Registrar) share(all []Webhook, w *Webhook) error {
	set := []Webhook{*w}
	for i := range all {
		if all[i].ID != w.ID {
			set = append(set, all[i])
		}
	}
	ShareKeys(set)
	*w = set[0]
	return newKeyring(set, 1, r.Fits).check(w)
}

// begin reads what a change is made from: the streams first, so that nothing passes between them and their ends.
func (r Registrar) begin(ctx context.Context) (Change, Registered, error) {
	change := Change{Versions: map[string]int64{}, Pull: map[string]time.Time{}}
	streams, err := r.Ledger.AllStreams(ctx)
	if err != nil {
		return change, Registered{}, fmt.Errorf("read the streams: %w", err)
	}
	for _, st := range streams {
		change.Versions[st.Type] = st.Version
	}
	set, err := r.Ledger.Webhooks(ctx)
	if err != nil {
		return change, set, fmt.Errorf("read the webhooks: %w", err)
	}
	change.Generation = set.Generation
	return change, set, nil
}

// onlyBegunIn lets streams move on that no webhook begins in: a change does not wait for a moment in which nothing is
// gathered.
func (c *Change) onlyBegunIn() {
	maps.DeleteFunc(c.Versions, func(typ string, _ int64) bool {
		return !slices.ContainsFunc(c.Subscriptions, func(s Subscription) bool { return s.Type == typ })
	})
}

// try calls f until no other process's change comes between.
func (r Registrar) try(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, ErrBookmarkMoved) {
			return err
		}
		rest(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
