package ledger

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// lease is one that nobody reclaimed; it may have expired.
func (m *model) lease(t *rapid.T) string {
	if len(m.leases) == 0 {
		m.take(t)
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.leases))).Draw(t, "lease")
}

func (m *model) live(lease string) bool { return m.leases[lease].After(m.s.Now()) }

func (m *model) take(t *rapid.T) {
	token, err := m.ledger(t).TakeLease(context.Background(), "model", time.Minute)
	noError(t, err)
	m.leases[token] = m.s.Now().Add(time.Minute)
}

func (m *model) keep(t *rapid.T) {
	token := m.lease(t)
	noError(t, m.ledger(t).KeepLease(context.Background(), token, time.Minute))
	m.leases[token] = m.s.Now().Add(time.Minute)
}

// lose puts back what is sending under leases.
func (m *model) lose(lost func(lease string) bool) {
	for _, d := range m.deliveries {
		if d.State == jobs.Sending && lost(d.Lease) {
			d.State, d.NextAt, d.Lease = jobs.Pending, m.s.Now(), ""
		}
	}
	for _, token := range slices.Sorted(maps.Keys(m.leases)) {
		if lost(token) {
			delete(m.leases, token)
			m.lost = append(m.lost, token)
		}
	}
}

func (m *model) reclaim(t *rapid.T) {
	var own []string // by one who holds a lease, or by one who does not say
	if len(m.leases) > 0 && rapid.Bool().Draw(t, "under a lease") {
		own = append(own, m.lease(t))
	}
	_, err := m.ledger(t).Reclaim(context.Background(), own...)
	noError(t, err)
	if len(own) == 0 || m.live(own[0]) {
		m.lose(func(lease string) bool { return !m.live(lease) })
	}
}

func (m *model) drop(t *rapid.T) {
	token := m.lease(t)
	noError(t, m.ledger(t).DropLease(context.Background(), token))
	m.lose(func(lease string) bool { return lease == token })
}

// crash forgets what a process has sent: nobody will settle it.
func (m *model) crash(t *rapid.T) {
	token := m.lease(t)
	m.flights = slices.DeleteFunc(m.flights, func(d jobs.Delivery) bool { return d.Lease == token })
}

// comeLate is a process that does not know that its lease was reclaimed, or its page overtaken: nothing comes of it.
func (m *model) comeLate(t *rapid.T) {
	ctx, l := context.Background(), m.ledger(t)
	d := record("a", m.newRow(), jobs.Sending)
	stream, err := m.s.Stream(ctx, "Lead")
	noError(t, err)
	_, err = l.Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version - 1, Lease: m.lease(t), Deliveries: []jobs.Delivery{d}})
	wantError(t, jobs.ErrBookmarkMoved, err)
	if len(m.lost) == 0 {
		return
	}
	token := rapid.SampledFrom(m.lost).Draw(t, "lost")
	_, err = l.Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Lease: token, Deliveries: []jobs.Delivery{d}})
	wantError(t, jobs.ErrLeaseLost, err)
	_, err = l.Claim(ctx, jobs.Claim{Lease: token, Each: 1, Limit: 1})
	wantError(t, jobs.ErrLeaseLost, err)
	wantError(t, jobs.ErrLeaseLost, l.KeepLease(ctx, token, time.Minute))
	_, err = l.Orphans(ctx, token)
	wantError(t, jobs.ErrLeaseLost, err)
}

func (m *model) enter(t *rapid.T) {
	lease := m.lease(t)
	var page []jobs.Delivery
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		webhook := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "webhook")
		if m.webhooks[webhook].state == forgotten {
			continue
		}
		d := record(webhook, m.newRow(), rapid.SampledFrom([]jobs.State{jobs.Pending, jobs.Pending, jobs.Sending, jobs.Dead}).Draw(t, "state"))
		if d.State == jobs.Pending {
			d.NextAt = m.s.Now().Add(rapid.SampledFrom([]time.Duration{0, time.Minute, fire}).Draw(t, "due after"))
			if rapid.IntRange(0, 3).Draw(t, "unripe") == 0 {
				d.NotBefore = m.s.Now().Add(5 * time.Minute)
				d.NextAt = latest(d.NextAt, d.NotBefore)
			}
		}
		for _, r := range m.openRuns() {
			if r.Gathering && d.NotBefore.IsZero() && rapid.Bool().Draw(t, "of the run") {
				d.Run = r.ID
				break
			}
		}
		page = append(page, d)
	}
	for _, d := range m.sorted() { // one that is known already
		if m.webhooks[d.Webhook].state != forgotten {
			page = append(page, record(d.Webhook, d.Row, jobs.Pending))
			break
		}
	}
	m.enterPage(t, lease, page)
}

func (m *model) enterPage(t *rapid.T, lease string, page []jobs.Delivery) {
	ctx, now := context.Background(), m.s.Now()
	stream, err := m.s.Stream(ctx, "Lead")
	noError(t, err)
	news, err := m.ledger(t).Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Lease: lease, Deliveries: page})
	noError(t, err)
	for i, d := range page {
		if _, known := m.deliveries[d.ID]; news[i] == known {
			t.Fatalf("row %s is new: %v", d.Row, news[i])
		} else if known {
			continue
		}
		d.SeenAt = now
		r := m.openRun(d.Run)
		r.Gathered++
		switch d.State {
		case jobs.Sending:
			d.Lease = lease
			m.flights = append(m.flights, d)
		case jobs.Dead:
			d.SettledAt = now
			r.Dead++
			m.webhooks[d.Webhook].status.Dead++
		}
		m.deliveries[d.ID] = &modelled{Delivery: d}
	}
}

// claim takes all that is due within the rooms: what the ledger overlooks is found here.
func (m *model) claim(t *rapid.T) {
	lease, now := m.lease(t), m.s.Now()
	c := jobs.Claim{Lease: lease, Each: rapid.IntRange(0, 5).Draw(t, "each"), Limit: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "limit")}
	if rapid.IntRange(0, 2).Draw(t, "scoped") == 0 {
		c.Webhooks = []string{"a", "b"}
	}
	if rapid.IntRange(0, 2).Draw(t, "another room") == 0 {
		c.Room = map[string]int{"a": rapid.IntRange(0, 3).Draw(t, "room")}
	}
	claimed, err := m.ledger(t).Claim(context.Background(), c)
	noError(t, err)

	due, most, sendAt, all := map[string][]*modelled{}, map[string]int{}, map[string]time.Time{}, 0
	for id, w := range m.webhooks {
		if c.Webhooks != nil && !slices.Contains(c.Webhooks, id) || w.probe.After(now) || w.rateAt.After(now) {
			continue
		}
		room := c.Each
		if n, ok := c.Room[id]; ok {
			room = n
		}
		due[id] = m.claimable(id)
		most[id] = min(len(due[id]), room)
		if spacing := modelRates[id].Spacing(); spacing > 0 { // as many as may begin within a second
			sendAt[id] = latest(now, w.rateAt.Add(rateLead))
			most[id] = min(most[id], 1+int(now.Add(rateAhead).Sub(sendAt[id])/spacing))
		}
		all += most[id]
	}
	if len(claimed) != min(all, c.Limit) {
		t.Fatalf("claimed %d, want %d of %v", len(claimed), min(all, c.Limit), most)
	}
	took := map[string]int{}
	for _, got := range claimed {
		d, n := m.deliveries[got.ID], took[got.Webhook]
		if d.State != jobs.Pending || n == most[d.Webhook] || !m.sameTurn(d, due[d.Webhook][n]) {
			t.Fatalf("claimed %+v after %v, due are %v", d, took, due)
		}
		took[d.Webhook]++
		want := sendAt[d.Webhook]
		if !want.IsZero() {
			want = want.Add(time.Duration(n) * modelRates[d.Webhook].Spacing())
		}
		if !got.SendAt.Equal(want) {
			t.Fatalf("claimed to be sent at %v, want %v", got.SendAt, want)
		}
		got.SendAt = time.Time{}
		d.State, d.Lease, d.spentInRun = jobs.Sending, lease, false
		d.Claims++
		if diff := cmp.Diff(d.Delivery, got); diff != "" {
			t.Fatalf("claimed (-want +got):\n%s", diff)
		}
		m.flights = append(m.flights, got)
	}
	for a, n := range took {
		for b := range due {
			if n > took[b]+1 && took[b] < most[b] {
				t.Fatalf("claimed %v, which is not fair: %v are due", took, most)
			}
		}
		w := m.webhooks[a]
		if w.state == jobs.Held {
			w.probe = now.Add(probeLost)
		}
		if spacing := modelRates[a].Spacing(); spacing > 0 {
			w.rateAt = sendAt[a].Add(time.Duration(n)*spacing - rateLead)
		}
	}
}

// claimable is what may be claimed of a webhook, in this order, were there no rate: all that is due; of one that is held
// a single record, a probe.
func (m *model) claimable(webhook string) []*modelled {
	w, now := m.webhooks[webhook], m.s.Now()
	var all []*modelled
	for _, d := range m.deliveries {
		if d.Webhook == webhook && d.State == jobs.Pending && w.sends() && (!d.NextAt.After(now) || w.state == jobs.Held && d.Attempts > 0) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *modelled) int { return a.NextAt.Compare(b.NextAt) })
	if w.state != jobs.Held || len(all) == 0 {
		return all
	}
	slices.SortStableFunc(all, func(a, b *modelled) int {
		x, y := a.asProbe(now), b.asProbe(now)
		if x >= 2 && x == y && x != 3 {
			return a.Attempts - b.Attempts
		}
		return x - y
	})
	return all[:1]
}

// asProbe is lower for what makes a better probe: what was tried before, and not too often.
func (d *modelled) asProbe(now time.Time) int {
	switch due := !d.NextAt.After(now); {
	case d.Attempts > 0 && due:
		return 1
	case d.Attempts > 0 && d.Attempts < triedOften:
		return 2
	case due:
		return 3
	}
	return 4
}

// sameTurn reports whether either of two records of a webhook may be claimed first.
func (m *model) sameTurn(a, b *modelled) bool {
	return a.NextAt.Equal(b.NextAt) && (m.webhooks[a.Webhook].state != jobs.Held || a.asProbe(m.s.Now()) == b.asProbe(m.s.Now()))
}

// settle gives outcomes of what was sent, by who sent it, whether or not the ledger still takes it for theirs.
func (m *model) settle(t *rapid.T) {
	var outcomes []jobs.Outcome
	var rest []jobs.Delivery
	for _, d := range m.flights {
		if rapid.IntRange(0, 4).Draw(t, "later") == 0 {
			rest = append(rest, d)
			continue
		}
		if rapid.IntRange(0, 4).Draw(t, "the answer is lost") == 0 { // what was recorded is recorded again
			rest = append(rest, d)
		}
		outcomes = append(outcomes, m.outcome(d, rapid.SampledFrom([]string{
			"ack", "ack", "test answer", "refused", "down", "unmatched", "gone", "spent", "expired", "withdrawn", "put back",
		}).Draw(t, "outcome")))
	}
	m.flights = rest
	m.settleAll(t, outcomes)
}

func (m *model) outcome(d jobs.Delivery, kind string) (o jobs.Outcome) {
	s := m.s
	switch kind {
	case "ack":
		return s.acked(d)
	case "test answer":
		o = s.acked(d)
		o.Delivery.TestAnswer = true
	case "refused":
		return s.failed(d, time.Minute)
	case "down", "unmatched", "gone":
		o = s.failed(d, time.Minute)
		o.Attempt.Fault = jobs.Fault(kind)
		if kind == "down" {
			o.Attempt.RetryAfter = time.Duration(len(d.Row)) * time.Minute
		}
	case "spent":
		return s.spent(d, fire)
	case "expired":
		o = s.spent(d, fire)
		o.Delivery.State, o.Delivery.Reason, o.Delivery.SettledAt = jobs.Dead, jobs.Expired, s.Now()
		o.Delivery.NextAt = time.Time{}
	case "withdrawn":
		return s.died(d, jobs.Withdrawn)
	case "put back":
		o = jobs.Outcome{Lease: d.Lease, Delivery: d}
		o.Delivery.State, o.Delivery.NextAt, o.Delivery.Lease = jobs.Pending, s.Now(), ""
	}
	return o
}

func (m *model) settleAll(t *rapid.T, outcomes []jobs.Outcome) {
	recorded, err := m.ledger(t).Settle(context.Background(), outcomes)
	noError(t, err)
	acked, said := map[string]bool{}, map[string][]*jobs.Attempt{}
	for i, o := range outcomes {
		d := m.deliveries[o.Delivery.ID]
		if want := d.State == jobs.Sending && d.Lease == o.Lease && d.Claims == o.Delivery.Claims; recorded[i] != want {
			t.Fatalf("outcome %+v of %+v recorded: %v", o, d, recorded[i])
		}
		if !recorded[i] {
			continue
		}
		w, r := m.webhooks[d.Webhook], m.openRun(d.Run)
		run := d.Run // another run may have taken it on from who sent it
		d.Delivery, d.spentInRun = o.Delivery, o.Spent && d.Run != "" && o.Delivery.State == jobs.Pending
		d.Run = run
		if o.Attempt != nil {
			kept := *o.Attempt
			kept.Fault, kept.RetryAfter = "", 0
			d.attempts = append(d.attempts, kept)
			said[d.Webhook] = append(said[d.Webhook], o.Attempt)
		}
		switch {
		case d.State == jobs.Delivered:
			acked[d.Webhook], w.lastError = true, ""
			if d.TestAnswer {
				w.status.TestAnswers++
				r.TestAnswers++
			} else {
				w.status.Delivered++
				r.Delivered++
			}
		case d.State == jobs.Dead:
			w.status.Dead++
			w.lastError = d.LastError
			r.Dead++
		case o.Attempt != nil:
			w.lastError = d.LastError
		}
	}
	for webhook := range acked {
		m.acknowledged(webhook)
	}
	for webhook, attempts := range said {
		m.judge(webhook, attempts)
	}
}

// acknowledged makes due what failed since the last acknowledgement, and waits for a round.
func (m *model) acknowledged(webhook string) {
	w, now := m.webhooks[webhook], m.s.Now()
	for _, d := range m.deliveries {
		if d.Webhook == webhook && d.State == jobs.Pending && !d.InRound && d.Rounds > 0 && d.NextAt.After(now) &&
			d.RoundFailedAt.After(w.lastAck) && (!d.released || !now.Before(w.lastAck.Add(quiet))) {
			d.NextAt, d.released, d.spentInRun = now, true, false
		}
	}
	w.lastAck = now
}
