package jobs

import (
	"context"
	"fmt"
	"time"
)

// A roster is the registered webhooks, ready to be asked who wants a record.
type roster struct {
	generation Generation
	byID       map[string]*Webhook
	byChatbot  map[string][]*Webhook // those that name the chatbot
	forAll     []*Webhook            // those that want every chatbot's
	subs       map[subscriber]*Subscription
	schedules  map[string]*Schedule // by webhook
	since      map[string]time.Time // by webhook whose from is a time: older records are not for it
	fires      map[string]*fires    // by schedule key
	immediate  bool                 // a webhook that is not disabled is immediate
}

type subscriber struct{ webhook, typ string }

// fires are one schedule and the webhooks that follow it: held and disabled ones too, since they still gather.
type fires struct {
	schedule *Schedule
	webhooks []string
}

func newRoster(set Registered) (*roster, error) {
	r := &roster{
		generation: set.Generation,
		byID:       make(map[string]*Webhook, len(set.Webhooks)),
		byChatbot:  map[string][]*Webhook{},
		subs:       make(map[subscriber]*Subscription, len(set.Subscriptions)),
		schedules:  make(map[string]*Schedule, len(set.Webhooks)),
		since:      map[string]time.Time{},
		fires:      map[string]*fires{},
	}
	parsed := map[[2]string]*Schedule{}
	for i := range set.Webhooks {
		w := &set.Webhooks[i]
		r.byID[w.ID] = w
		if w.AllChatbots() {
			r.forAll = append(r.forAll, w)
		} else {
			for _, c := range w.Chatbots {
				r.byChatbot[c] = append(r.byChatbot[c], w)
			}
		}
		since, err := w.since()
		if err != nil {
			return nil, err
		}
		if !since.IsZero() {
			r.since[w.ID] = since
		}
		spec := [2]string{w.Schedule, w.Timezone}
		s := parsed[spec]
		if s == nil {
			if s, err = ParseSchedule(w.Schedule, w.Timezone); err != nil {
				return nil, fmt.Errorf("webhook %s: %w", w.ID, err)
			}
			parsed[spec] = s
		}
		r.schedules[w.ID] = s
		f := r.fires[s.Key()]
		if f == nil {
			f = &fires{schedule: s}
			r.fires[s.Key()] = f
		}
		f.webhooks = append(f.webhooks, w.ID)
		r.immediate = r.immediate || w.Immediate && w.State != Disabled
	}
	for i := range set.Subscriptions {
		s := &set.Subscriptions[i]
		r.subs[subscriber{s.Webhook, s.Type}] = s
	}
	return r, nil
}

// wanting calls f for each webhook that wants records of this chatbot and type.
func (r *roster) wanting(chatbot, typ string, f func(*Webhook) error) error {
	for _, list := range [2][]*Webhook{r.byChatbot[chatbot], r.forAll} {
		for _, w := range list {
			if !w.WantsType(typ) {
				continue
			}
			if err := f(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh reads the webhooks and returns them. One goroutine at a time reads them, so that what was read last is kept.
func (r *Runner) refresh(ctx context.Context) (*roster, error) {
	loopOf(ctx).idle() // who reads them is watched as well
	select {
	case r.refreshing <- struct{}{}:
		defer func() { <-r.refreshing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	loopOf(ctx).back()
	var set Registered
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		set, err = r.o.Ledger.Webhooks(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the webhooks: %w", err)
	}
	ro, err := newRoster(set)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	before := r.roster
	r.roster = ro
	r.mu.Unlock()
	if before != nil && before.generation != ro.generation && before.generation.Number >= ro.generation.Number {
		r.log.Warn("the ledger was set back to an older copy: what it no longer knows to be delivered is sent again, with the same ids",
			"was", before.generation.Number, "is", ro.generation.Number)
	}
	r.sayTurns(before, ro)
	return ro, nil
}

// sayTurns says which webhooks were stopped, and which go on, since before was read: a few of many by name.
func (r *Runner) sayTurns(before, now *roster) {
	if before == nil {
		return
	}
	turned := map[WebhookState]int{}
	const few = 20
	for id, w := range now.byID {
		old := before.byID[id]
		if old == nil || old.State == w.State || w.State == Disabled && (w.StateReason == ReasonNotYAML || w.StateReason == ReasonNotRow) {
			continue // what changes the configuration says so
		}
		if turned[w.State]++; turned[w.State] > few {
			continue
		}
		switch w.State {
		case Held:
			r.log.Warn("webhook held: one record is tried at each retry offset, and no other", "webhook", id, "reason", w.StateReason)
		case Disabled:
			r.log.Warn("webhook disabled: nothing is sent to it", "webhook", id, "reason", w.StateReason)
		case Active:
			r.log.Info("webhook active again: all that it is owed is sent", "webhook", id, "was", string(old.State))
		}
	}
	for state, n := range turned {
		if n > few {
			r.log.Warn("more webhooks have another state", "count", n-few, "state", string(state))
		}
	}
}

// webhooks returns the roster as last read.
func (r *Runner) webhooks() *roster {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roster == nil {
		return &roster{}
	}
	return r.roster
}

// watchStates reads the webhooks again when outcomes may have changed their states, until ctx ends. The queues that wait
// for that wait until they could be read.
func (r *Runner) watchStates(ctx context.Context) {
	for {
		loopOf(ctx).idle()
		select {
		case <-ctx.Done():
			return
		case <-r.stopped:
			r.mu.Lock()
			judged := r.judged
			r.judged = map[string]int{}
			r.mu.Unlock()
			for err := r.noticeChanges(ctx); err != nil; err = r.noticeChanges(ctx) {
				if !r.o.Unavailable(err) {
					loopOf(ctx).fail(err)
				}
				if rest(ctx, time.Second); ctx.Err() != nil {
					return
				}
			}
			loopOf(ctx).succeed()
			r.pool.judged(judged)
		}
	}
}

// noticeChanges reads the webhooks again where they were changed.
func (r *Runner) noticeChanges(ctx context.Context) error {
	loopOf(ctx).ask(TheLedger)
	generation, err := r.o.Ledger.Generation(ctx)
	loopOf(ctx).back()
	if err == nil && generation != r.webhooks().generation {
		_, err = r.refresh(ctx)
		nudge(r.wake)
	}
	if ctx.Err() == nil && (err == nil || !r.o.Unavailable(err)) { // while the ledger is away, the caller that needs it waits and logs that
		r.sayOnce("the webhooks could not be read", "", err)
	}
	return err
}
