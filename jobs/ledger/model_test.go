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

// TestModel lets three processes do whatever they like, also what a process that was thought dead does late; the ledger
// and the model stay one. For hours of it: go test ./jobs/ledger -run TestModel -rapid.checks=10000 -timeout 0.
func TestModel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		processes := []*Ledger{s.Ledger, s.open(), s.open()}
		rapid.Check(t, func(t *rapid.T) {
			s.reset(t)
			s.webhooks()
			m := &model{
				s: s, processes: processes, deliveries: map[uuid.UUID]*modelled{}, leases: map[string]time.Time{}, runs: map[string]*modelRun{},
				webhooks: map[string]*modelWebhook{},
			}
			for _, id := range []string{"a", "b", "c"} {
				m.webhooks[id] = &modelWebhook{state: forgotten}
				m.put(t, id, jobs.Active)
			}
			m.take(t)
			t.Repeat(map[string]func(*rapid.T){
				"": m.check, "take": m.take, "keep": m.keep, "pass": m.pass, "enter": m.enter, "enter again": m.enter, "claim": m.claim, "claim again": m.claim,
				"settle": m.settle, "settle again": m.settle, "crash": m.crash, "reclaim": m.reclaim, "drop": m.drop, "come late": m.comeLate,
				"outage": m.outage, "turn a webhook": m.turn, "remove a webhook": m.remove, "probe by hand": m.probeNow, "pull": m.pull, "start a run": m.start, "take over": m.takeOver,
				"gathered": m.gathered, "orphans": m.orphans, "end runs": m.endRuns, "end runs again": m.endRuns, "prune": m.prune,
			})
		})
	})
}

// A model is what the ledger promises, in a few maps.
type model struct {
	s          *stage
	processes  []*Ledger
	deliveries map[uuid.UUID]*modelled
	webhooks   map[string]*modelWebhook
	leases     map[string]time.Time // that nobody reclaimed → their end
	lost       []string             // leases that somebody reclaimed
	flights    []jobs.Delivery      // sent, and not settled by who sent it
	runs       map[string]*modelRun
	rows       int
	steps      int
}

type modelled struct {
	jobs.Delivery
	attempts             []jobs.Attempt // that are kept
	spentInRun, released bool
}

type modelWebhook struct {
	state           jobs.WebhookState
	lastAck         time.Time
	stopped         time.Time
	probe           time.Time // of one that is held
	rateAt          time.Time // of one with a rate: when its next request may be claimed
	down, unmatched int
	status          WebhookStatus
	lastError       string // since the last acknowledgement
}

var (
	modelRetries = []time.Duration{time.Minute, 3 * time.Minute}
	modelRates   = map[string]jobs.Rate{"c": {Requests: 5, Per: time.Second}}
)

type modelRun struct {
	jobs.Run
	lease string
	left  int // taken on by others
}

func (m *model) ledger(t *rapid.T) *Ledger {
	return m.processes[rapid.IntRange(0, len(m.processes)-1).Draw(t, "process")]
}

func (m *model) sorted() []*modelled {
	all := slices.Collect(maps.Values(m.deliveries))
	slices.SortFunc(all, func(a, b *modelled) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all
}

// openRuns are those that have not ended, in the order in which they began.
func (m *model) openRuns() []*modelRun {
	var open []*modelRun
	for _, id := range slices.Sorted(maps.Keys(m.runs)) {
		if m.runs[id].EndedAt.IsZero() {
			open = append(open, m.runs[id])
		}
	}
	return open
}

func (m *model) openRun(id string) *modelRun {
	if r := m.runs[id]; r != nil && r.EndedAt.IsZero() {
		return r
	}
	return &modelRun{} // counts nothing
}

func (m *model) pass(t *rapid.T) {
	m.s.pass(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 20 * time.Second, time.Minute, 4 * time.Minute, fire}).Draw(t, "time"))
}

// check compares all that can be read.
func (m *model) check(t *rapid.T) {
	if m.steps++; m.steps%5 == 0 { // it reads all, and looks for nothing that the others overlook for long
		noError(t, m.s.audit())
	}
	m.checkDeliveries(t)
	m.checkWebhooks(t)
	m.checkRuns(t)
}

func (m *model) checkDeliveries(t *rapid.T) {
	ctx := context.Background()
	items, _, err := m.s.Deliveries(ctx, Filter{Limit: 10_000})
	noError(t, err)
	got, want := map[string]jobs.Delivery{}, map[string]jobs.Delivery{}
	for _, d := range items {
		got[d.Webhook+d.Row] = d
	}
	for _, d := range m.deliveries {
		want[d.Webhook+d.Row] = d.Delivery
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("deliveries (-want +got):\n%s", diff)
	}
	if len(items) > 0 {
		d := m.deliveries[items[m.rows%len(items)].ID]
		attempts, err := m.s.Attempts(ctx, d.ID)
		noError(t, err)
		if diff := cmp.Diff(d.attempts, attempts); diff != "" {
			t.Fatalf("attempts of %+v (-want +got):\n%s", d.Delivery, diff)
		}
	}
}

func (m *model) checkWebhooks(t *rapid.T) {
	ctx := context.Background()
	status := map[string]WebhookStatus{}
	for id, w := range m.webhooks {
		w.status.Webhook, w.status.Pending, w.status.Failing, w.status.Sending, w.status.LastError = id, 0, 0, 0, w.lastError
		status[id] = w.status
	}
	for _, d := range m.deliveries {
		s := status[d.Webhook]
		switch d.State {
		case jobs.Pending:
			s.Pending++
			if d.Attempts > 0 {
				s.Failing++
				if m.webhooks[d.Webhook].lastError == "" {
					s.LastError = max(s.LastError, d.LastError)
				}
			}
		case jobs.Sending:
			s.Sending++
		}
		status[d.Webhook] = s
	}
	all, err := m.s.Status(ctx)
	noError(t, err)
	for _, s := range all {
		s.OldestPending, s.LastRun = time.Time{}, time.Time{}
		if diff := cmp.Diff(status[s.Webhook], s); diff != "" {
			t.Fatalf("status (-want +got):\n%s", diff)
		}
		m.checkDue(t, s.Webhook)
	}
	registered, err := m.s.Webhooks(ctx)
	noError(t, err)
	got, want := map[string]jobs.WebhookState{}, map[string]jobs.WebhookState{}
	for _, w := range registered.Webhooks {
		got[w.ID] = w.State
	}
	for id, w := range m.webhooks {
		if w.state != forgotten {
			want[id] = w.state
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("webhooks (-want +got):\n%s", diff)
	}
}

// checkDue compares when something of the webhook may be claimed, and whether it is due but for its rate.
func (m *model) checkDue(t *rapid.T, webhook string) {
	w, now, first, isDue := m.webhooks[webhook], m.s.Now(), time.Time{}, false
	for _, d := range m.deliveries {
		if d.Webhook != webhook || d.State != jobs.Pending || !w.sends() {
			continue
		}
		at := d.NextAt
		switch {
		case w.state == jobs.Held && d.Attempts > 0:
			at = w.probe // whenever its own time is
		case w.state == jobs.Held:
			at = latest(at, w.probe)
		}
		isDue = isDue || !at.After(now) && (w.state == jobs.Active || !w.rateAt.After(now))
		if at = latest(at, w.rateAt); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	at, err := m.s.NextDue(context.Background(), []string{webhook})
	noError(t, err)
	if !at.Equal(first) && (modelRates[webhook].Requests == 0 || at.After(now) || first.After(now)) {
		t.Fatalf("next due of %s: %v, want %v; %+v", webhook, at, first, w)
	}
	got, err := m.s.Due(context.Background(), []string{webhook})
	noError(t, err)
	if got != isDue {
		t.Fatalf("something of %s is due: %v; %+v", webhook, got, w)
	}
}

// checkRuns holds the runs to their equation: what was taken on was delivered, or is dead, pending or being sent.
func (m *model) checkRuns(t *rapid.T) {
	ctx := context.Background()
	for id, r := range m.runs {
		run, err := m.s.Run(ctx, id)
		noError(t, err)
		want := r.Run
		if r.EndedAt.IsZero() {
			want.Failed = r.left
			sending := 0
			for _, d := range m.deliveries {
				if d.Run == id && d.State == jobs.Sending {
					sending++
				}
				if d.Run == id && d.spentInRun && d.State == jobs.Pending {
					want.Failed++
				}
			}
			if underWay, _ := m.underWay(id); run.UnderWay() != underWay {
				t.Fatalf("%d of run %+v are under way, want %d", run.UnderWay(), run, underWay)
			}
			n, err := m.s.Sending(ctx, id)
			noError(t, err)
			if n != sending {
				t.Fatalf("%d of run %+v are being sent, want %d", n, run, sending)
			}
		}
		if diff := cmp.Diff(want, run); diff != "" {
			t.Fatalf("run (-want +got):\n%s", diff)
		}
		if run.Gathered+run.Carried != run.Delivered+run.TestAnswers+run.Pending()+run.Dead || run.Pending() < 0 {
			t.Fatalf("the counts of run %+v are no sum", run)
		}
	}
}

func noError(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *rapid.T, want, err error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func (m *model) newRow() string { m.rows++; return fmt.Sprint(m.rows) }
