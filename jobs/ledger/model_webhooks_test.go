package ledger

import (
	"context"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// sends reports whether anything is sent to the webhook, be it a probe.
func (w *modelWebhook) sends() bool { return w.state == jobs.Active || w.state == jobs.Held }

// judge is what attempts, in their order, say of their endpoint.
func (m *model) judge(webhook string, attempts []*jobs.Attempt) {
	w, now := m.webhooks[webhook], m.s.Now()
	gone := false
	var last *jobs.Attempt
	for _, a := range attempts {
		switch {
		case a.Error == "":
			w.down, w.unmatched = 0, 0
			continue
		case a.Fault == jobs.FaultDown:
			w.down, w.unmatched = w.down+1, 0
		case a.Fault == jobs.FaultUnmatched:
			w.down, w.unmatched = 0, w.unmatched+1
		default:
			w.down, w.unmatched = 0, 0
			gone = gone || a.Fault == jobs.FaultGone
		}
		last = a
	}
	switch {
	case !w.sends():
	case gone:
		w.state, w.probe = jobs.Disabled, time.Time{}
		if w.stopped.IsZero() {
			w.stopped = now
		}
	case w.down >= 10 || w.unmatched >= 20:
		w.state = jobs.Held
		if w.stopped.IsZero() {
			w.stopped = now
		}
		w.probe = latest(jobs.NextProbe(modelRetries, w.stopped, now), now.Add(last.RetryAfter))
	case w.state == jobs.Held:
		m.activate(webhook)
	}
}

// activate takes the time that a webhook stood still off what counts towards giving up.
func (m *model) activate(webhook string) {
	w, now := m.webhooks[webhook], m.s.Now()
	if !w.stopped.IsZero() {
		for _, d := range m.deliveries {
			if d.Webhook != webhook || d.State != jobs.Pending || d.FirstFailedAt.IsZero() {
				continue
			}
			if d.FirstFailedAt.After(w.stopped) {
				d.FirstFailedAt = now
			} else {
				d.FirstFailedAt = d.FirstFailedAt.Add(now.Sub(w.stopped))
			}
		}
	}
	w.state, w.stopped, w.probe = jobs.Active, time.Time{}, time.Time{}
}

// put enters a webhook, or makes it what is given.
func (m *model) put(t *rapid.T, id string, state jobs.WebhookState) {
	noError(t, m.ledger(t).ChangeWebhooks(context.Background(), m.s.changed(jobs.Webhook{
		ID: id, Chatbots: []string{"bot"}, URL: "https://crm.example/x", SignKey: "k", RetryAt: modelRetries, Rate: modelRates[id], State: state,
	})))
	w := m.webhooks[id]
	switch state {
	case jobs.Active:
		if !w.stopped.IsZero() {
			w.down, w.unmatched = 0, 0
		}
		m.activate(id)
	case jobs.Held: // a change to one that is held: a probe shows whether it helped
		w.probe = m.s.Now()
	case jobs.Disabled:
		w.state, w.probe = state, time.Time{}
		if w.stopped.IsZero() {
			w.stopped = m.s.Now()
		}
	}
}

// turn enables, disables or changes a webhook, or enters it anew.
func (m *model) turn(t *rapid.T) {
	id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "webhook")
	states := []jobs.WebhookState{jobs.Active, jobs.Active, jobs.Disabled}
	if m.webhooks[id].state == jobs.Held {
		states = append(states, jobs.Held)
	}
	m.put(t, id, rapid.SampledFrom(states).Draw(t, "webhook state"))
}

func (m *model) remove(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "really") > 0 {
		return
	}
	id, owed := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "webhook"), 0
	w := m.webhooks[id]
	if w.state == forgotten {
		return
	}
	for _, d := range m.deliveries {
		if d.Webhook == id && (d.State == jobs.Pending || d.State == jobs.Sending) {
			owed++
			m.openRun(d.Run).Dead++
			d.State, d.Reason, d.Lease, d.SettledAt, d.spentInRun = jobs.Dead, jobs.Removed, "", m.s.Now(), false
		}
	}
	w.state, w.stopped, w.probe, w.down, w.unmatched = forgotten, time.Time{}, time.Time{}, 0, 0
	w.status.Dead += owed
	n, err := m.ledger(t).RemoveWebhook(context.Background(), m.s.changed(), id)
	noError(t, err)
	if n != owed {
		t.Fatalf("%d were owed to webhook %s, want %d", n, id, owed)
	}
}

// pull makes what waits for a later fire wait for another.
func (m *model) pull(t *rapid.T) {
	id, to := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "webhook"), m.s.Now().Add(time.Hour)
	if m.webhooks[id].state == forgotten {
		return
	}
	c := m.s.changed()
	c.Pull = map[string]time.Time{id: to}
	noError(t, m.ledger(t).ChangeWebhooks(context.Background(), c))
	for _, d := range m.deliveries {
		if d.Webhook == id && d.State == jobs.Pending && !d.InRound && d.NextAt.After(to) {
			d.NextAt = latest(to, d.NotBefore)
		}
	}
}

// outage lets an endpoint fail as often as it takes to be held.
func (m *model) outage(t *rapid.T) {
	webhook := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "webhook")
	if m.webhooks[webhook].state == forgotten {
		return
	}
	lease, before := m.lease(t), len(m.flights)
	kind, n := "down", 10
	if rapid.Bool().Draw(t, "answers") {
		kind, n = "unmatched", 20
	}
	var page []jobs.Delivery
	for range n {
		page = append(page, record(webhook, m.newRow(), jobs.Sending))
	}
	m.enterPage(t, lease, page)
	var outcomes []jobs.Outcome
	for _, d := range m.flights[before:] {
		outcomes = append(outcomes, m.outcome(d, kind))
	}
	m.flights = m.flights[:before]
	m.settleAll(t, outcomes)
}

// probeNow has webhooks probed now. Of one that has only records that were never tried and are not due, one becomes due:
// any of the first.
func (m *model) probeNow(t *rapid.T) {
	noError(t, m.ledger(t).Probe(context.Background(), []string{"a", "b", "c"}))
	now := m.s.Now()
	for id, w := range m.webhooks {
		if w.state != jobs.Held {
			continue
		}
		if w.probe.After(now) {
			w.probe = now
		}
		var first []*modelled
		better := false
		for _, d := range m.deliveries {
			switch {
			case d.Webhook != id || d.State != jobs.Pending:
			case d.Attempts > 0 || !d.NextAt.After(now):
				better = true
			case d.NotBefore.After(now):
			case len(first) == 0 || d.NextAt.Before(first[0].NextAt):
				first = []*modelled{d}
			case d.NextAt.Equal(first[0].NextAt):
				first = append(first, d)
			}
		}
		if better || len(first) == 0 {
			continue
		}
		due := 0
		for _, d := range first {
			got, err := m.s.Delivery(context.Background(), d.ID)
			noError(t, err)
			if got.NextAt.Equal(now) {
				d.NextAt = now
				due++
			}
		}
		if due != 1 {
			t.Fatalf("%d records of %s are due for its probe", due, id)
		}
	}
}
