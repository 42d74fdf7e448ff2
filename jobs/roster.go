package jobs

import (
	"fmt"
	"time"
)

// A roster is the registered webhooks, ready to be asked who wants a record.
type roster struct {
	generation int64
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
