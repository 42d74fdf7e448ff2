package ledger

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var moves = flag.Int("moves", 60, "how much each process of TestTogether does")

// TestTogether lets eight processes do at once what TestModel does in turns, on one ledger; some crash, and some settle
// what others were given since. At every moment the ledger keeps its rules, and in the end nothing is lost, and nothing
// was recorded twice. For longer: go test ./jobs/ledger -run TestTogether -moves 20000 -timeout 0.
func TestTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		c := &company{t: t, s: s, acked: map[uuid.UUID]int{}, entered: map[uuid.UUID]bool{}, versions: map[string]int{}}
		s.webhooks("a", "b", "c")
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var group sync.WaitGroup
		for i := range uint64(8) {
			p := &process{company: c, l: s.open(), rand: rand.New(rand.NewPCG(seed, i))}
			group.Go(func() {
				p.retake()
				for n := 0; n < *moves && !t.Failed(); n++ {
					p.move()
				}
			})
		}
		group.Wait()
		t.Logf("%d entered, %d acknowledged, %d moves called off by the database", len(c.entered), len(c.acked), c.calledOff.Load())
		c.drain(&process{company: c, l: s.Ledger, rand: rand.New(rand.NewPCG(seed, 8))})
	})
}

// A company is what all processes know: what was entered, and what was acknowledged.
type company struct {
	t         *testing.T
	s         *stage
	calledOff atomic.Int64
	rows      atomic.Int64

	mu       sync.Mutex
	acked    map[uuid.UUID]int // how often that was recorded
	entered  map[uuid.UUID]bool
	versions map[string]int // of each row that changes
}

type process struct {
	*company
	l       *Ledger
	rand    *rand.Rand
	lease   string
	flights []jobs.Delivery // sent, under this lease or one before it
}

// ok judges an error: those that say that another was faster, or that the database asks to try again, are none.
func (p *process) ok(err error, expected ...error) bool {
	switch {
	case err == nil:
		return true
	case slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }):
		if errors.Is(err, jobs.ErrLeaseLost) {
			p.retake()
		}
	case IsUnavailable(err):
		p.calledOff.Add(1)
	default:
		p.t.Error(err)
	}
	return false
}

func (p *process) retake() {
	for try := 0; ; try++ {
		token, err := p.l.TakeLease(context.Background(), "together", time.Minute)
		if p.lease = token; err == nil {
			return
		}
		if !IsUnavailable(err) || try > 100 {
			p.t.Fatal(err)
		}
	}
}

func (p *process) move() {
	ctx := context.Background()
	switch n := p.rand.IntN(100); {
	case n < 22:
		p.enter(ctx)
	case n < 32:
		p.enterVersions(ctx)
	case n < 52:
		p.claim(ctx, p.rand.IntN(8))
	case n < 72:
		p.settle(ctx)
	case n < 74: // crash: what is sent is never settled, and what was leased comes back when the lease has run out
		p.flights = nil
		p.retake()
	case n < 76: // paused for longer than the lease
		p.s.pass(90 * time.Second)
	case n < 81:
		p.ok(p.l.KeepLease(ctx, p.lease, time.Minute), jobs.ErrLeaseLost)
	case n < 85:
		_, err := p.l.Reclaim(ctx)
		p.ok(err)
	case n < 86:
		p.ok(p.l.DropLease(ctx, p.lease))
	case n < 87:
		p.ok(p.l.Prune(ctx, p.l.Now().Add(-time.Minute)))
	case n < 91:
		p.changeWebhook(ctx)
	case n < 96:
		p.run(ctx)
	default:
		if err := p.l.audit(); err != nil {
			p.t.Error(err)
		}
		p.s.pass(time.Second)
	}
}

// page is the stream as it is, and the webhooks that there were after it was read.
func (p *process) page(ctx context.Context, typ string) (e jobs.Entries, webhooks []jobs.Webhook) {
	stream, err := p.l.Stream(ctx, typ)
	if !p.ok(err) {
		return e, nil
	}
	registered, err := p.l.Webhooks(ctx)
	if !p.ok(err) {
		return e, nil
	}
	return jobs.Entries{Type: typ, Version: stream.Version, Lease: p.lease}, registered.Webhooks
}

func (p *process) enter(ctx context.Context) {
	e, webhooks := p.page(ctx, "Lead")
	gathering, err := p.l.Gathering(ctx)
	if !p.ok(err) {
		return
	}
	for range 1 + p.rand.IntN(4) {
		row := p.rows.Add(1)
		for _, w := range webhooks {
			d := record(w.ID, fmt.Sprint(row), []jobs.State{jobs.Pending, jobs.Sending, jobs.Sending, jobs.Dead}[p.rand.IntN(4)])
			if d.State == jobs.Sending && w.State != jobs.Active {
				d.State = jobs.Pending
			}
			if len(gathering) > 0 && w.State == jobs.Active {
				d.Run = gathering[0].ID
			}
			e.Deliveries = append(e.Deliveries, d)
			if p.rand.IntN(4) == 0 && row > 10 { // one that most likely is known
				again := record(w.ID, fmt.Sprint(p.rand.Int64N(row-1)+1), jobs.Sending)
				if !slices.ContainsFunc(e.Deliveries, func(d jobs.Delivery) bool { return d.ID == again.ID }) {
					e.Deliveries = append(e.Deliveries, again)
				}
			}
		}
	}
	news, err := p.l.Enter(ctx, e)
	if !p.ok(err, jobs.ErrBookmarkMoved, jobs.ErrLeaseLost) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range e.Deliveries {
		if !news[i] {
			continue
		}
		if p.entered[d.ID] {
			p.t.Errorf("row %s is new to webhook %s twice", d.Row, d.Webhook)
		}
		p.entered[d.ID] = true
		if d.State == jobs.Sending {
			d.Lease = p.lease
			p.flights = append(p.flights, d)
		}
	}
}

// enterVersions scans some rows, of which some have changed.
func (p *process) enterVersions(ctx context.Context) {
	e, webhooks := p.page(ctx, "Appointment")
	e.Versioned = true
	for range 1 + p.rand.IntN(3) {
		row := fmt.Sprint("changes ", p.rand.IntN(12))
		p.mu.Lock()
		p.versions[row] += p.rand.IntN(2)
		p.mu.Unlock()
		for _, w := range webhooks {
			if d := p.version(w.ID, row); !slices.ContainsFunc(e.Deliveries, func(o jobs.Delivery) bool { return o.ID == d.ID }) {
				e.Deliveries = append(e.Deliveries, d)
			}
		}
	}
	_, err := p.l.Enter(ctx, e)
	p.ok(err, jobs.ErrBookmarkMoved)
}

// version is a row as it is now. Every third version of it is its removal.
func (p *process) version(webhook, row string) jobs.Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := jobs.Key{Webhook: webhook, Type: "Appointment", Row: row, Version: fmt.Sprint(p.versions[row]), Action: jobs.ActionCreate}
	if p.versions[row]%3 == 2 {
		k.Action = jobs.ActionRemove
	}
	return jobs.Delivery{ID: k.ID(), Key: k, Chatbot: "bot", State: jobs.Pending, NextAt: p.l.Now()}
}

func (p *process) claim(ctx context.Context, each int) int {
	p.mu.Lock()
	before := make(map[uuid.UUID]bool, len(p.acked))
	for id := range p.acked {
		before[id] = true
	}
	p.mu.Unlock()
	claimed, err := p.l.Claim(ctx, jobs.Claim{Lease: p.lease, Each: each, Limit: 20})
	if !p.ok(err, jobs.ErrLeaseLost) {
		return 0
	}
	for _, d := range claimed {
		if before[d.ID] {
			p.t.Errorf("%s is sent again after its acknowledgement was recorded", d.ID)
		}
	}
	p.flights = append(p.flights, claimed...)
	return len(claimed)
}

// settle gives outcomes of what was sent, most of it, whoever has it by now.
func (p *process) settle(ctx context.Context) {
	var outcomes []jobs.Outcome
	var rest []jobs.Delivery
	outage := p.rand.IntN(5) == 0 // the endpoints are down, and may be held
	for _, d := range p.flights {
		if p.rand.IntN(5) == 0 {
			rest = append(rest, d)
			continue
		}
		o := p.outcome(d)
		if outage && o.Newer == nil {
			o = p.s.failed(d, time.Minute)
			o.Attempt.Fault = jobs.FaultDown
		}
		outcomes = append(outcomes, o)
	}
	if p.rand.IntN(3) > 0 && len(rest) > 0 { // one that is settled again, later
		rest = append(rest, rest[0])
	}
	p.flights = rest
	p.record(ctx, outcomes)
}

func (p *process) outcome(d jobs.Delivery) jobs.Outcome {
	if d.Version != "" {
		if now := p.version(d.Webhook, d.Row); now.Version != d.Version {
			o := p.s.died(d, jobs.Superseded)
			o.Newer, o.Delivery.LastError = &now, jobs.NewerVersion
			return o
		}
	}
	o := p.s.failed(d, time.Minute)
	switch n := p.rand.IntN(20); {
	case n < 9:
		return p.s.acked(d)
	case n < 10:
		o = p.s.acked(d)
		o.Delivery.TestAnswer = true
	case n < 13:
		return p.s.spent(d, time.Hour)
	case n < 14:
		return p.s.died(d, jobs.Withdrawn)
	case n < 15:
		o = jobs.Outcome{Lease: d.Lease, Delivery: d}
		o.Delivery.State, o.Delivery.NextAt, o.Delivery.Lease = jobs.Pending, p.s.Now(), ""
	case n < 18:
		o.Attempt.Fault = jobs.FaultDown
	case n < 19:
		o.Attempt.Fault = jobs.FaultUnmatched
	}
	return o
}

func (p *process) record(ctx context.Context, outcomes []jobs.Outcome) {
	recorded, err := p.l.Settle(ctx, outcomes)
	if !p.ok(err) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range outcomes {
		if recorded[i] && o.Delivery.State == jobs.Delivered {
			p.acked[o.Delivery.ID]++
		}
	}
}

func (p *process) changeWebhook(ctx context.Context) {
	registered, err := p.l.Webhooks(ctx)
	if !p.ok(err) {
		return
	}
	streams, err := p.l.AllStreams(ctx)
	if !p.ok(err) {
		return
	}
	c := jobs.Change{Generation: registered.Generation, Versions: map[string]int64{}}
	for _, s := range streams {
		c.Versions[s.Type] = s.Version
	}
	w := jobs.Webhook{ID: string(rune('a' + p.rand.IntN(3))), Chatbots: []string{"bot"}, URL: "https://crm.example/x", SignKey: "k", State: jobs.Active}
	switch n := p.rand.IntN(8); {
	case n == 0 && w.ID == "c":
		_, err := p.l.RemoveWebhook(ctx, c, w.ID)
		p.ok(err, jobs.ErrBookmarkMoved)
		return
	case n < 3:
		w.State = jobs.Disabled
	case n < 4:
		c.Pull = map[string]time.Time{"a": p.l.Now().Add(time.Minute), "b": p.l.Now().Add(time.Minute)}
	}
	c.Put = []jobs.Webhook{w}
	p.ok(p.l.ChangeWebhooks(ctx, c), jobs.ErrBookmarkMoved)
}

// run begins a run, or brings one forward.
func (p *process) run(ctx context.Context) {
	switch p.rand.IntN(4) {
	case 0:
		start := jobs.RunStart{Kind: jobs.Manual, Lease: p.lease}
		if p.rand.IntN(2) == 0 {
			start.Kind, start.Schedule, start.FireAt = jobs.Scheduled, "@every 1m", p.l.Now().Truncate(time.Minute)
		}
		_, _, err := p.l.StartRun(ctx, start)
		p.ok(err)
	case 1:
		_, err := p.l.Orphans(ctx, p.lease)
		p.ok(err, jobs.ErrLeaseLost)
	case 2:
		gathering, err := p.l.Gathering(ctx)
		if p.ok(err) && len(gathering) > 0 {
			p.ok(p.l.GatherDone(ctx, gathering[0].ID), jobs.ErrNotFound)
		}
	case 3:
		_, err := p.l.EndRuns(ctx)
		p.ok(err)
	}
}

// drain lets one process that is left send all that is owed, and looks what became of everything.
func (c *company) drain(p *process) {
	ctx, t, s := context.Background(), c.t, c.s
	s.pass(time.Hour)
	must[int](t)(s.Reclaim(ctx))
	s.webhooks("a", "b", "c")
	p.retake()
	e, webhooks := p.page(ctx, "Appointment")
	e.Versioned = true
	for row := range c.versions {
		for _, w := range webhooks {
			e.Deliveries = append(e.Deliveries, p.version(w.ID, row))
		}
	}
	must[[]bool](t)(s.Enter(ctx, e))
	for idle := 0; idle < 3; {
		s.must(s.KeepLease(ctx, p.lease, time.Minute))
		if p.claim(ctx, 20) == 0 {
			idle++
			s.pass(24 * time.Hour)
			continue
		}
		var outcomes []jobs.Outcome
		for _, d := range p.flights {
			o := p.outcome(d)
			if o.Newer == nil {
				o = s.acked(d)
			}
			outcomes = append(outcomes, o)
		}
		p.flights = nil
		p.record(ctx, outcomes)
	}

	found, ended := map[uuid.UUID]bool{}, map[string]bool{}
	for after := ""; ; {
		page, next, err := s.Deliveries(ctx, Filter{After: after, Limit: 1000})
		s.must(err)
		for _, d := range page {
			found[d.ID] = true
			if acks := c.acked[d.ID]; acks > 1 || (acks == 1) != (d.State == jobs.Delivered) || d.State != jobs.Delivered && d.State != jobs.Dead {
				t.Errorf("%d acknowledgements were recorded of %+v", acks, d)
			}
			if d.Reason != jobs.Superseded && d.Version == fmt.Sprint(c.versions[d.Row]) {
				ended[d.Webhook+" "+d.Row] = true
			}
		}
		if after = next; next == "" {
			break
		}
	}
	for id := range c.entered {
		if !found[id] {
			t.Errorf("%s is lost", id)
		}
	}
	for row, version := range c.versions {
		for _, webhook := range []string{"a", "b"} { // which were not removed
			if version%3 != 2 && !ended[webhook+" "+row] {
				t.Errorf("version %d of row %s was lost on its way to webhook %s", version, row, webhook)
			}
		}
	}
	_, err := s.Orphans(ctx, p.lease)
	s.must(err)
	open, _, err := s.ListRuns(ctx, 1000, "")
	s.must(err)
	for _, r := range open {
		if r.EndedAt.IsZero() && r.UnderWay() != 0 {
			t.Errorf("run %+v is never over", r)
		}
	}
}
