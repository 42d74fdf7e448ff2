package ledger

import (
	"context"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

func (m *model) start(t *rapid.T) {
	lease, now := m.lease(t), m.s.Now()
	start := jobs.RunStart{Kind: jobs.Manual, Lease: lease}
	if rapid.Bool().Draw(t, "scheduled") {
		start.Kind, start.Schedule, start.FireAt = jobs.Scheduled, "@daily", now.Truncate(fire)
	}
	if rapid.IntRange(0, 2).Draw(t, "scoped") == 0 {
		start.Webhooks = []string{"b", "c"}
	}
	run, mine, err := m.ledger(t).StartRun(context.Background(), start)
	noError(t, err)
	if r := m.runs[run.ID]; mine != (r == nil || r.lease == lease) {
		t.Fatalf("run known %v, mine %v", r, mine)
	} else if r != nil {
		return
	}
	gathered, carried := run.Gathered, run.Carried
	run.Gathered, run.Carried = 0, 0
	r := &modelRun{Run: run, lease: lease}
	m.runs[run.ID] = r
	m.adopt(r, start)
	if r.Gathered != gathered || r.Carried != carried {
		t.Fatalf("the run took on %d and %d, want %d and %d", gathered, carried, r.Gathered, r.Carried)
	}
}

// adopt takes on what is pending, and in no other run whose process lives.
func (m *model) adopt(r *modelRun, start jobs.RunStart) {
	now := m.s.Now()
	for _, d := range m.deliveries {
		if d.State != jobs.Pending || d.Run == r.ID || m.webhooks[d.Webhook].state != jobs.Active || d.NotBefore.After(now) ||
			start.Webhooks != nil && !slices.Contains(start.Webhooks, d.Webhook) || d.NextAt.After(now) && (d.InRound || start.Kind == jobs.Scheduled) {
			continue
		}
		if old := m.openRun(d.Run); old.ID != "" {
			if m.live(old.lease) {
				continue
			}
			old.left++ // and is counted there as failed, if it was not already
		}
		if d.Attempts == 0 {
			r.Gathered++
		} else {
			r.Carried++
		}
		d.Run, d.spentInRun = r.ID, false
		if d.NextAt.After(now) {
			d.NextAt = now
		}
	}
}

// takeOver lets a run by hand take on what came back from others.
func (m *model) takeOver(t *rapid.T) {
	for _, r := range m.openRuns() {
		if r.Kind != jobs.Manual || !r.Gathering {
			continue
		}
		start := jobs.RunStart{Kind: jobs.Manual, Lease: r.lease, Webhooks: r.Webhooks}
		noError(t, m.ledger(t).TakeOver(context.Background(), r.ID, start))
		m.adopt(r, start)
		return
	}
}

func (m *model) gathered(t *rapid.T) {
	for _, r := range m.openRuns() {
		if r.Gathering {
			noError(t, m.ledger(t).GatherDone(context.Background(), r.ID))
			r.Gathering = false
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
	for _, r := range m.openRuns() {
		lost := !m.live(r.lease) && m.live(lease)
		if taken[r.ID] != ((lost || r.lease == lease) && r.Kind == jobs.Scheduled && r.Gathering) {
			t.Fatalf("run taken over: %v; %+v", taken[r.ID], r)
		}
		switch {
		case taken[r.ID]:
			r.lease = lease
		case lost && r.Kind == jobs.Manual:
			m.end(r)
		}
	}
}

// end freezes a run's counts.
func (m *model) end(r *modelRun) {
	r.EndedAt = m.s.Now()
	r.Failed = r.left
	for _, d := range m.deliveries {
		if d.Run == r.ID && d.State == jobs.Pending && d.spentInRun {
			r.Failed++
		}
	}
}

func (m *model) endRuns(t *rapid.T) {
	ended, err := m.ledger(t).EndRuns(context.Background())
	noError(t, err)
	is := map[string]bool{}
	for _, r := range ended {
		is[r.ID] = true
	}
	for _, r := range m.openRuns() {
		underWay, stalled := m.underWay(r.ID)
		if want := !r.Gathering && underWay == stalled; want != is[r.ID] {
			t.Fatalf("run ended: %v; %d are under way, %d cannot be sent; %+v", is[r.ID], underWay, stalled, r)
		}
		if is[r.ID] {
			m.end(r)
		}
	}
}

// underWay counts a run's records whose round is not spent, and those of them that wait for a webhook that stopped
// since the run began, and is no longer tried as its records would be.
func (m *model) underWay(run string) (n, stalled int) {
	r, now := m.runs[run], m.s.Now()
	for _, d := range m.deliveries {
		if d.Run != run || d.spentInRun || d.State != jobs.Pending && d.State != jobs.Sending {
			continue
		}
		n++
		w := m.webhooks[d.Webhook]
		stands := w.state == jobs.Disabled || w.state == jobs.Held && now.Sub(w.stopped) > modelRetries[1]+tryingOn
		if d.State == jobs.Pending && stands && !w.stopped.Before(r.StartedAt) {
			stalled++
		}
	}
	return n, stalled
}

// prune forgets attempts and runs, and no delivery.
func (m *model) prune(t *rapid.T) {
	before := m.s.Now().Add(-rapid.SampledFrom([]time.Duration{time.Minute, fire}).Draw(t, "retention"))
	noError(t, m.ledger(t).Prune(context.Background(), before))
	for _, d := range m.deliveries {
		if d.State == jobs.Delivered && d.Attempts == 1 {
			continue // it lives in the delivery's row
		}
		d.attempts = slices.DeleteFunc(d.attempts, func(a jobs.Attempt) bool { return a.At.Before(before) })
		if len(d.attempts) == 0 {
			d.attempts = nil
		}
	}
	for id, r := range m.runs {
		if !r.EndedAt.IsZero() && r.EndedAt.Before(before) {
			delete(m.runs, id)
		}
	}
}
