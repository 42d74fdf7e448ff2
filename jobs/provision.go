package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// A Provisioning brings the webhooks of one configuration file, or of the table that it names in webhook_source, into
// the ledger.
type Provisioning struct {
	Ledger  Ledger
	Sources []Source
	Origin  string                                // which file; webhooks of others are left alone
	Gone    string                                // why one that is gone is disabled; "": ReasonNotYAML
	Desired []Webhook                             // as configured; State, EnteredAt and KeyMade are not looked at, nor is a SignKey that is ""
	NewKey  func(dialect string) Secret           // makes a sign key for a webhook that has none
	Signs   func(dialect string) bool             // whether a dialect needs a key
	Fits    func(dialect string, key Secret) bool // whether a key has the form that the dialect's have; nil: any has
	// Rows says that Desired are rows of a table that others write: one that cannot be entered is left as the ledger
	// has it and stands in Provisioned.Refused.
	Rows bool
	// Kept are webhooks that are neither desired nor gone: rows that are wrong.
	Kept map[string]bool
}

// Provisioned says what a Provisioning did, for people.
type Provisioned struct {
	Entered, Changed, Disabled, Enabled []string // webhook ids
	FromKept                            []string // webhooks whose from was changed, which changes nothing
	Refused                             map[string]error
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

	desired, err := p.settle(set.Webhooks, known, &did)
	if err != nil {
		return did, err
	}
	ends := map[string]Bookmark{}
	for i := range desired {
		w := &desired[i]
		was := known[w.ID]
		if was == nil || !sameWebhook(*was, *w) {
			change.Put = append(change.Put, *w)
		}
		if was != nil && pulls(was, w) {
			if err := p.pull(&change, w); err != nil {
				return did, err
			}
		}
		if was != nil && rewants(was, w) {
			change.Rewanted = append(change.Rewanted, w.ID)
		}
		for _, src := range p.Sources {
			if !w.WantsType(src.Type()) || subscribed[subscriber{w.ID, src.Type()}] {
				continue
			}
			sub, err := p.subscribe(ctx, w, src, ends)
			if err != nil {
				return did, err
			}
			change.Subscriptions = append(change.Subscriptions, sub)
			change.Versions[sub.Type] = versions[sub.Type] // streams that are not begun in may move on meanwhile
		}
	}
	wanted := make(map[string]bool, len(p.Desired))
	for i := range p.Desired {
		wanted[p.Desired[i].ID] = true
	}
	for i := range set.Webhooks {
		if w := &set.Webhooks[i]; !wanted[w.ID] {
			if err := p.beginIn(streams, w, subscribed, &change); err != nil {
				return did, err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		w := *known[id]
		if w.Origin == p.Origin && !wanted[id] && !p.Kept[id] && w.State != Disabled {
			w.State, w.StateReason = Disabled, cmp.Or(p.Gone, ReasonNotYAML)
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

// settle gives the desired webhooks as they are to be, without those that are refused.
func (p Provisioning) settle(all []Webhook, known map[string]*Webhook, did *Provisioned) ([]Webhook, error) {
	desired, fromChanged := make([]Webhook, 0, len(p.Desired)), map[string]bool{}
	refuse := func(id string, err error) error {
		if !p.Rows {
			return err
		}
		if did.Refused == nil {
			did.Refused = map[string]error{}
		}
		did.Refused[id] = err
		return nil
	}
	taken, wrong := map[string]bool{}, []error{}
	for _, w := range p.Desired {
		was := known[w.ID]
		if was != nil {
			if err := p.takes(&w, was); err != nil {
				taken[w.ID] = true
				wrong = append(wrong, refuse(w.ID, err))
				continue
			}
		}
		fromChanged[w.ID] = was != nil && was.From != w.From
		p.settleIdentity(&w, was)
		desired = append(desired, w)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	for { // each refusal may take away what another row's key rests on
		ring := p.keyring(all, desired)
		refused := map[string]bool{}
		for i := range desired {
			err := ring.check(&desired[i])
			if of := desired[i].SignKeyOf; taken[of] { // the ring has the other webhook of that id
				err = keySharing("webhook %s: sign_key_of names %s, whose row is refused", desired[i].ID, of)
			}
			if err != nil {
				if err = refuse(desired[i].ID, err); err != nil {
					return nil, err
				}
				refused[desired[i].ID] = true
			}
		}
		if len(refused) == 0 {
			break
		}
		desired = slices.DeleteFunc(desired, func(w Webhook) bool { return refused[w.ID] })
	}
	for i := range desired {
		p.tell(&desired[i], known[desired[i].ID], did)
		if id := desired[i].ID; fromChanged[id] {
			did.FromKept = append(did.FromKept, id)
		}
	}
	return desired, nil
}

// ErrTaken says that the ledger's webhook of an id is another than the one that is to be entered.
var ErrTaken = errors.New("there is a webhook of this id already")

// takes says why w cannot become the ledger's webhook of its id, was. It would sign with that one's key and be sent what
// that one is owed, so that nothing is taken over that a customer may have entered (by the API or a table), or that was
// another chatbot's and is gone. What another file entered is taken over where the chatbots are the same: the file was
// moved, or is on another machine.
func (p Provisioning) takes(w, was *Webhook) error {
	same, byFile := sameChatbots(w, was), was.Origin != "" && !was.IsRow()
	if was.Origin == p.Origin && (same || !gone(was)) || same && byFile && !p.Rows {
		return nil
	}
	where, one, others, remove := "webhook "+w.ID+": ", "this one", "", ""
	if p.Rows {
		where, one = "", "the row" // it is said of which
	}
	if !same {
		others = ", for other chatbots"
	}
	if was.Origin == "" || gone(was) {
		remove = ", or remove that webhook: leadrelay webhook remove " + w.ID
	}
	return fmt.Errorf("%s%w, %s%s, which stays as it is; give %s another id%s", where, ErrTaken, was.from(), others, one, remove)
}

// Taken says which of the desired webhooks Run would not enter because the ledger's webhooks of their ids are others.
func (p Provisioning) Taken(all []Webhook) error {
	known := make(map[string]*Webhook, len(all))
	for i := range all {
		known[all[i].ID] = &all[i]
	}
	var wrong []error
	for i := range p.Desired {
		if was := known[p.Desired[i].ID]; was != nil {
			wrong = append(wrong, p.takes(&p.Desired[i], was))
		}
	}
	return errors.Join(wrong...)
}

// Refusals says which rows Run would refuse, by their ids, where the ledger's webhooks are these; those among them that
// are not in it yet count as if they were.
func (p Provisioning) Refusals(all []Webhook) map[string]error {
	known := make(map[string]*Webhook, len(all))
	set := make([]Webhook, 0, len(all))
	for _, w := range all {
		if known[w.ID] != nil { // twice: as it is and as it is to be
			continue
		}
		if w.SignKey == "" && w.SignKeyOf == "" && p.Signs(w.Dialect) {
			w.SignKey = p.NewKey(w.Dialect)
		}
		set = append(set, w)
		known[w.ID] = &w
	}
	var did Provisioned
	_, _ = p.settle(set, known, &did) // refuses row by row
	return did.Refused
}

// keyring is all webhooks as they are to be.
func (p Provisioning) keyring(all, desired []Webhook) *keyring {
	is := make(map[string]bool, len(desired))
	for i := range desired {
		is[desired[i].ID] = true
	}
	set := slices.Clone(desired)
	for i := range all {
		if !is[all[i].ID] {
			set = append(set, all[i])
		}
	}
	ShareKeys(set)
	return newKeyring(set, len(desired), p.Fits)
}

// settleIdentity fills in what the ledger decides: key, state, first from, time of entering.
func (p Provisioning) settleIdentity(w *Webhook, was *Webhook) {
	slices.Sort(w.Types)
	w.Origin, w.State, w.StateReason = p.Origin, Active, ""
	w.KeyMade = w.SignKey == "" && w.SignKeyOf == "" && p.Signs(w.Dialect)
	if was == nil {
		if w.KeyMade {
			w.SignKey = p.NewKey(w.Dialect)
		}
		if p.Ledger != nil {
			w.EnteredAt = p.Ledger.Now()
		}
		return
	}
	own := was.SignKeyOf == "" // else the key there is another's
	if w.KeyMade {
		if own {
			w.SignKey = was.SignKey
		}
		// Its dialect may not have signed until now, or with keys of another form.
		if w.SignKey == "" || p.Fits != nil && !p.Fits(w.Dialect, w.SignKey) {
			w.SignKey = p.NewKey(w.Dialect)
		}
	}
	w.From, w.EnteredAt = was.From, was.EnteredAt
	if w.KeyMade && own {
		w.OldKey, w.OldKeyUntil = was.OldKey, was.OldKeyUntil // a rotation goes on
	}
	if was.State != Active && !gone(was) {
		w.State, w.StateReason = was.State, was.StateReason
	}
}

// gone reports whether a webhook is disabled because what provisions it named it no more.
func gone(w *Webhook) bool {
	return w.State == Disabled && (w.StateReason == ReasonNotYAML || w.StateReason == ReasonNotRow)
}

// tell says what becomes of a webhook.
func (p Provisioning) tell(w, was *Webhook, did *Provisioned) {
	switch {
	case was == nil:
		did.Entered = append(did.Entered, w.ID)
	case gone(was):
		did.Enabled = append(did.Enabled, w.ID)
	case !sameWebhook(*was, *w):
		did.Changed = append(did.Changed, w.ID)
	}
}

// pulls reports whether a change lets waiting records go earlier: another schedule, or the return of a webhook whose
// records wait for none.
func pulls(was, w *Webhook) bool {
	return was.Schedule != w.Schedule || was.Timezone != w.Timezone || was.Immediate != w.Immediate ||
		w.Immediate && was.State == Disabled && w.State == Active
}

// pull lets records that wait for a fire of the old schedule wait for the next fire of the new one, or go at once.
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

// sameWebhook compares two webhooks; an empty list is as good as none, and another's key is no part of a webhook.
func sameWebhook(a, b Webhook) bool {
	for _, w := range []*Webhook{&a, &b} {
		if w.SignKeyOf != "" {
			w.SignKey, w.OldKey, w.OldKeyUntil = "", "", time.Time{}
		}
		if len(w.Types) == 0 {
			w.Types = nil
		}
		if len(w.Events) == 0 {
			w.Events = nil
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
