package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// A model is what the ledger promises, in a few maps.
type model struct {
	s          *stage
	other      *Ledger // a second process's
	deliveries map[uuid.UUID]*modelled
	webhooks   map[string]*modelWebhook
	leases     map[string]time.Time // that nobody reclaimed → their end
	runs       map[string]*modelRun
	rows       int
}

type modelled struct {
	jobs.Delivery
	spentInRun, released bool
}

type modelWebhook struct {
	active  bool
	lastAck time.Time
	stopped time.Time
	status  WebhookStatus
}

type modelRun struct {
	lease                       string
	taken, delivered, dead      int
	startedAt                   time.Time
	gathering, ended, scheduled bool
}

func (m *model) ledger(t *rapid.T) *Ledger {
	if rapid.Bool().Draw(t, "other process") {
		return m.other
	}
	return m.s.Ledger
}

// lease is one that nobody reclaimed; it may have expired.
func (m *model) lease(t *rapid.T) string {
	if len(m.leases) == 0 {
		m.take(t)
	}
	tokens := slices.Sorted(maps.Keys(m.leases))
	return rapid.SampledFrom(tokens).Draw(t, "lease")
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

func (m *model) pass(t *rapid.T) {
	m.s.pass(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 20 * time.Second, time.Minute, fire}).Draw(t, "time"))
}

func (m *model) enter(t *rapid.T) {
	ctx := context.Background()
	lease := m.lease(t)
	var page []jobs.Delivery
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		m.rows++
		d := record(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "webhook"), fmt.Sprint(m.rows), rapid.SampledFrom([]jobs.State{jobs.Pending, jobs.Pending, jobs.Sending, jobs.Dead}).Draw(t, "state"))
		d.SeenAt = m.s.Now()
		switch d.State {
		case jobs.Pending:
			d.NextAt = d.SeenAt.Add(rapid.SampledFrom([]time.Duration{0, time.Minute, fire}).Draw(t, "due after"))
		case jobs.Sending:
			d.Lease = lease
		case jobs.Dead:
			d.SettledAt = d.SeenAt
		}
		for _, id := range slices.Sorted(maps.Keys(m.runs)) {
			if r := m.runs[id]; !r.ended && r.gathering && rapid.Bool().Draw(t, "of the run") {
				d.Run = id
				break
			}
		}
		page = append(page, d)
	}
	if m.rows > 6 { // one that is known already
		page = append(page, record("a", "1", jobs.Pending), record("b", "1", jobs.Pending))
	}
	stream, err := m.s.Stream(ctx, "Lead")
	noError(t, err)
	news, err := m.ledger(t).Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Lease: lease, Deliveries: page})
	noError(t, err)
	for i, d := range page {
		if d.SeenAt.IsZero() {
			d.SeenAt, d.NextAt = m.s.Now(), m.s.Now()
		}
		if _, known := m.deliveries[d.ID]; news[i] == known {
			t.Fatalf("row %s is new: %v", d.Row, news[i])
		} else if known {
			continue
		}
		m.deliveries[d.ID] = &modelled{Delivery: d}
		if r := m.runs[d.Run]; r != nil {
			r.taken++
			if d.State == jobs.Dead {
				r.dead++
			}
		}
		if d.State == jobs.Dead {
			m.webhooks[d.Webhook].status.Dead++
		}
	}
}

// claim takes all that is due within the rooms: what the ledger overlooks is found here.
func (m *model) claim(t *rapid.T) {
	lease := m.lease(t)
	each, limit := rapid.IntRange(0, 5).Draw(t, "each"), rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "limit")
	claimed, err := m.ledger(t).Claim(context.Background(), jobs.Claim{Lease: lease, Each: each, Limit: limit})
	noError(t, err)
	due := map[string]int{}
	for _, d := range m.deliveries {
		if d.State == jobs.Pending && !d.NextAt.After(m.s.Now()) && m.webhooks[d.Webhook].active {
			due[d.Webhook]++
		}
	}
	want := min(due["a"], each) + min(due["b"], each)
	if len(claimed) != min(want, limit) {
		t.Fatalf("claimed %d, want %d of %v", len(claimed), min(want, limit), due)
	}
	for _, c := range claimed {
		d := m.deliveries[c.ID]
		if d.State != jobs.Pending || d.NextAt.After(m.s.Now()) || !m.webhooks[d.Webhook].active {
			t.Fatalf("claimed %+v", d)
		}
		d.State, d.Lease, d.spentInRun = jobs.Sending, lease, false
		if diff := cmp.Diff(d.Delivery, c); diff != "" {
			t.Fatalf("claimed (-want +got):\n%s", diff)
		}
	}
}

// settle gives outcomes of anything that was ever sent, with the lease it was sent under or a wrong one.
func (m *model) settle(t *rapid.T) {
	var outcomes []jobs.Outcome
	ids := []uuid.UUID{}
	for id, d := range m.deliveries {
		if d.State == jobs.Sending {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	acked := map[string]bool{}
	for _, id := range ids {
		d := m.deliveries[id].Delivery
		if rapid.IntRange(0, 5).Draw(t, "stale") == 0 {
			d.Lease = "gone"
		}
		switch kind := rapid.SampledFrom([]string{"none", "ack", "fail", "spent", "dead", "put back"}).Draw(t, "outcome"); kind {
		case "ack":
			outcomes = append(outcomes, m.s.acked(d))
		case "fail":
			outcomes = append(outcomes, m.s.failed(d, time.Minute))
		case "spent":
			outcomes = append(outcomes, m.s.spent(d, fire))
		case "dead":
			outcomes = append(outcomes, m.s.died(d, jobs.Withdrawn))
		case "put back":
			o := jobs.Outcome{Lease: d.Lease, Delivery: d}
			o.Delivery.State, o.Delivery.NextAt, o.Delivery.Lease = jobs.Pending, m.s.Now(), ""
			outcomes = append(outcomes, o)
		}
	}
	recorded, err := m.ledger(t).Settle(context.Background(), outcomes)
	noError(t, err)
	for i, o := range outcomes {
		if recorded[i] != (o.Lease != "gone") {
			t.Fatalf("outcome under %s recorded: %v", o.Lease, recorded[i])
		}
		if !recorded[i] {
			continue
		}
		d, w, r := m.deliveries[o.Delivery.ID], m.webhooks[o.Delivery.Webhook], m.runs[o.Delivery.Run]
		d.Delivery, d.spentInRun = o.Delivery, o.Spent && o.Delivery.Run != ""
		switch d.State {
		case jobs.Delivered:
			w.status.Delivered++
			acked[d.Webhook] = true
			if r != nil && !r.ended {
				r.delivered++
			}
		case jobs.Dead:
			w.status.Dead++
			w.status.LastError = d.LastError
			if r != nil && !r.ended {
				r.dead++
			}
		default:
			if o.Attempt != nil {
				w.status.LastError = d.LastError
			}
		}
	}
	for webhook := range acked {
		w := m.webhooks[webhook]
		for _, d := range m.deliveries {
			if d.Webhook == webhook && d.State == jobs.Pending && !d.InRound && d.Rounds > 0 && d.NextAt.After(m.s.Now()) &&
				d.RoundFailedAt.After(w.lastAck) && (!d.released || !m.s.Now().Before(w.lastAck.Add(quiet))) {
				d.NextAt, d.released, d.spentInRun = m.s.Now(), true, false
			}
		}
		w.lastAck = m.s.Now()
	}
}

func (m *model) lose(lost func(lease string) bool) {
	for _, d := range m.deliveries {
		if d.State == jobs.Sending && lost(d.Lease) {
			d.State, d.NextAt, d.Lease = jobs.Pending, m.s.Now(), ""
		}
	}
	for token := range m.leases {
		if lost(token) {
			delete(m.leases, token)
		}
	}
}

func (m *model) reclaim(t *rapid.T) {
	_, err := m.ledger(t).Reclaim(context.Background())
	noError(t, err)
	m.lose(func(lease string) bool { return !m.live(lease) })
}

func (m *model) drop(t *rapid.T) {
	token := m.lease(t)
	noError(t, m.ledger(t).DropLease(context.Background(), token))
	m.lose(func(lease string) bool { return lease == token })
}

func (m *model) turn(t *rapid.T) {
	id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "webhook")
	state := rapid.SampledFrom([]jobs.WebhookState{jobs.Active, jobs.Disabled}).Draw(t, "webhook state")
	noError(t, m.ledger(t).ChangeWebhooks(context.Background(), m.s.changed(jobs.Webhook{ID: id, State: state})))
	w, now := m.webhooks[id], m.s.Now()
	switch w.active = state == jobs.Active; {
	case !w.active && w.stopped.IsZero():
		w.stopped = now
	case w.active && !w.stopped.IsZero():
		for _, d := range m.deliveries {
			if d.Webhook == id && d.State == jobs.Pending && !d.FirstFailedAt.IsZero() {
				if d.FirstFailedAt.After(w.stopped) {
					d.FirstFailedAt = now
				} else {
					d.FirstFailedAt = d.FirstFailedAt.Add(now.Sub(w.stopped))
				}
			}
		}
		w.stopped = time.Time{}
	}
}

func (m *model) start(t *rapid.T) {
	lease, now := m.lease(t), m.s.Now()
	start := jobs.RunStart{Kind: jobs.Manual, Lease: lease}
	if rapid.Bool().Draw(t, "scheduled") {
		start.Kind, start.Schedule, start.FireAt = jobs.Scheduled, "@daily", now.Truncate(fire)
	}
	run, mine, err := m.ledger(t).StartRun(context.Background(), start)
	noError(t, err)
	if _, known := m.runs[run.ID]; known == mine {
		t.Fatalf("run known %v, mine %v", known, mine)
	} else if known {
		return
	}
	r := &modelRun{lease: lease, startedAt: now, gathering: true, scheduled: start.Kind == jobs.Scheduled}
	m.runs[run.ID] = r
	for _, d := range m.deliveries {
		if d.State != jobs.Pending || !m.webhooks[d.Webhook].active || d.InRound && d.NextAt.After(now) || r.scheduled && d.NextAt.After(now) {
			continue
		}
		if old := m.runs[d.Run]; old != nil && !old.ended {
			if m.live(old.lease) {
				continue
			}
			if !d.spentInRun {
				old.dead++ // it left: no longer under way there
			}
		}
		r.taken++
		d.Run, d.spentInRun = run.ID, false
		if d.NextAt.After(now) {
			d.NextAt = now
		}
	}
}

func (m *model) gathered(t *rapid.T) {
	for _, id := range slices.Sorted(maps.Keys(m.runs)) {
		if r := m.runs[id]; r.gathering {
			noError(t, m.ledger(t).GatherDone(context.Background(), id))
			r.gathering = false
			return
		}
	}
}

func (m *model) orphans(t *rapid.T) {
	lease := m.lease(t)
	runs, err := m.ledger(t).Orphans(context.Background(), lease)
	noError(t, err)
	taken := map[string]bool{}
	for _, r := range runs {
		taken[r.ID] = true
	}
	live := map[string]bool{}
	for token := range m.leases {
		live[token] = m.live(token)
	}
	for id, r := range m.runs {
		want := !r.ended && !live[r.lease]
		if taken[id] != (want && r.scheduled && r.gathering) {
			t.Fatalf("run taken over: %v; %+v", taken[id], r)
		}
		if taken[id] {
			r.lease = lease
		} else if want && !r.scheduled {
			r.ended = true
		}
	}
}

func (m *model) endRuns(t *rapid.T) {
	_, err := m.ledger(t).EndRuns(context.Background())
	noError(t, err)
	for id, r := range m.runs {
		underWay, stalled := m.underWay(id)
		r.ended = r.ended || !r.gathering && (underWay == 0 || underWay == stalled)
	}
}

// underWay counts a run's records whose round is not spent, and those of them that wait for a webhook that stopped
// since the run began.
func (m *model) underWay(run string) (n, stalled int) {
	r := m.runs[run]
	for _, d := range m.deliveries {
		if d.Run != run || d.spentInRun || d.State != jobs.Pending && d.State != jobs.Sending {
			continue
		}
		n++
		if w := m.webhooks[d.Webhook]; d.State == jobs.Pending && !w.stopped.IsZero() && !w.stopped.Before(r.startedAt) {
			stalled++
		}
	}
	return n, stalled
}

// check compares all that can be read.
func (m *model) check(t *rapid.T) {
	ctx := context.Background()
	items, _, err := m.s.Deliveries(ctx, Filter{Limit: 10_000})
	noError(t, err)
	got, want := map[string]jobs.Delivery{}, map[string]jobs.Delivery{}
	for _, d := range items {
		got[d.Webhook+d.Row] = d
	}
	next := map[string]time.Time{}
	status := map[string]WebhookStatus{}
	for id, w := range m.webhooks {
		w.status.Webhook, w.status.Pending, w.status.Failing, w.status.Sending = id, 0, 0, 0
		status[id] = w.status
	}
	for _, d := range m.deliveries {
		want[d.Webhook+d.Row] = d.Delivery
		s := status[d.Webhook]
		switch d.State {
		case jobs.Pending:
			s.Pending++
			if d.Attempts > 0 {
				s.Failing++
			}
			if at, ok := next[d.Webhook]; m.webhooks[d.Webhook].active && (!ok || d.NextAt.Before(at)) {
				next[d.Webhook] = d.NextAt
			}
		case jobs.Sending:
			s.Sending++
		}
		status[d.Webhook] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("deliveries (-want +got):\n%s", diff)
	}
	all, err := m.s.Status(ctx)
	noError(t, err)
	for _, s := range all {
		s.OldestPending, s.LastRun = time.Time{}, time.Time{}
		if diff := cmp.Diff(status[s.Webhook], s); diff != "" {
			t.Fatalf("status (-want +got):\n%s", diff)
		}
		at, err := m.s.NextDue(ctx, []string{s.Webhook})
		noError(t, err)
		if !at.Equal(next[s.Webhook]) {
			t.Fatalf("next due of %s: %v, want %v", s.Webhook, at, next[s.Webhook])
		}
	}
	for id, r := range m.runs {
		run, err := m.s.Run(ctx, id)
		noError(t, err)
		if run.EndedAt.IsZero() == r.ended || run.Gathering != r.gathering || run.Gathered+run.Carried != r.taken || run.Delivered != r.delivered {
			t.Fatalf("run %+v, want %+v", run, r)
		}
		if underWay, _ := m.underWay(id); !r.ended && run.UnderWay() != underWay {
			t.Fatalf("%d of run %+v are under way, want %d", run.UnderWay(), run, underWay)
		}
	}
}

func noError(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Two processes do whatever they like; the ledger and the model stay one.
func TestModel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		other := s.open()
		rapid.Check(t, func(t *rapid.T) {
			var errs []error
			for _, table := range []string{"subscriptions", "due", "tallies", "webhooks", "streams", "leases", "deliveries", "attempts", "runs", "schedules"} {
				_, err := s.write.Exec("delete from " + table)
				errs = append(errs, err)
			}
			noError(t, errors.Join(errs...))
			s.clock.mu.Lock()
			s.clock.now = start
			s.clock.mu.Unlock()
			s.webhooks("a", "b")
			m := &model{
				s: s, other: other, deliveries: map[uuid.UUID]*modelled{}, leases: map[string]time.Time{}, runs: map[string]*modelRun{},
				webhooks: map[string]*modelWebhook{"a": {active: true}, "b": {active: true}},
			}
			m.take(t)
			t.Repeat(map[string]func(*rapid.T){
				"": m.check, "take": m.take, "keep": m.keep, "pass": m.pass, "enter": m.enter, "claim": m.claim, "claim again": m.claim,
				"settle": m.settle, "settle again": m.settle, "reclaim": m.reclaim, "drop": m.drop, "turn a webhook": m.turn,
				"start a run": m.start, "gathered": m.gathered, "orphans": m.orphans, "end runs": m.endRuns,
			})
		})
	})
}
