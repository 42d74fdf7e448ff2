package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestVersionsAtRandom lets a row change, be scanned, claimed, sent, answered, given up, and leases run out, in any order,
// by two processes. What the CRM was told of it is what its webhook wants to hear, in order, and in the end as the row is.
func TestVersionsAtRandom(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		other := s.open()
		rapid.Check(t, func(t *rapid.T) {
			s.reset(t)
			s.webhooks("a")
			w := &versionWorld{s: s, processes: []*Ledger{s.Ledger, other}}
			w.wanted = rapid.SampledFrom([]jobs.Actions{
				0, 0, jobs.Creates, jobs.Updates, jobs.Removes, jobs.Creates | jobs.Updates, jobs.Creates | jobs.Removes, jobs.Updates | jobs.Removes,
			}).Draw(t, "wanted")
			w.leases = []string{s.lease(), s.lease()}
			run, _, err := s.StartRun(context.Background(), jobs.RunStart{Kind: jobs.Manual, Lease: w.leases[0]})
			noError(t, err)
			w.run = run.ID
			t.Repeat(map[string]func(*rapid.T){
				"change": w.change, "read": w.read, "scan": w.scan, "claim": w.claim, "answer": w.answer, "die": w.die,
				"answer late": w.late, "start a run": w.start, "": w.check,
			})
			w.drain(t)
		})
	})
}

// A versionWorld is one row, the webhook that it is owed to, and the CRM.
type versionWorld struct {
	s         *stage
	processes []*Ledger
	leases    []string
	run       string
	wanted    jobs.Actions
	version   int
	removed   bool
	steps     int
	flying    []jobs.Delivery // sent
	lost      []jobs.Delivery // sent by a process that vanished
	page      *jobs.Entries   // read, and not entered

	told      []string // acknowledged actions, and those that were sent to no acknowledgement, with a question mark
	last      string   // version that was acknowledged last
	givenUp   string   // version that is dead because it failed for too long
	confirmed bool     // the CRM acknowledged that the row is there, and nothing else was sent since

	wasConfirmed bool // before what is flying was sent
}

func (w *versionWorld) has(action string) bool { return w.wanted.Has(action) }

// now is the row as a scan drafts it; ok: there is something in it for the webhook.
func (w *versionWorld) now() (d jobs.Delivery, ok bool) {
	action := jobs.ActionCreate
	switch {
	case w.removed:
		action = jobs.ActionRemove
	case !w.has(action):
		action = jobs.ActionUpdate
		ok = w.version == 0
	}
	d = versionSeen("a", "1", fmt.Sprint("v", w.version), action)
	d.NextAt, d.Wanted, d.Run = w.s.Now(), w.wanted, w.run
	return d, w.has(action) && !ok
}

func (w *versionWorld) change(t *rapid.T) {
	w.version++
	w.removed = rapid.IntRange(0, 2).Draw(t, "removed") == 0
}

// read reads a page, which scan may enter when the row is another by then.
func (w *versionWorld) read(t *rapid.T) {
	if w.page != nil {
		return
	}
	stream, err := w.s.Stream(context.Background(), "Lead")
	noError(t, err)
	w.page = &jobs.Entries{Type: "Lead", Version: stream.Version, Versioned: true}
	if d, ok := w.now(); ok {
		w.page.Deliveries = []jobs.Delivery{d}
	}
}

func (w *versionWorld) scan(t *rapid.T) {
	w.read(t)
	page := *w.page
	w.page = nil
	_, err := w.process(t).Enter(context.Background(), page)
	if errors.Is(err, jobs.ErrBookmarkMoved) {
		err = nil
	}
	noError(t, err)
}

func (w *versionWorld) process(t *rapid.T) *Ledger {
	return w.processes[rapid.IntRange(0, 1).Draw(t, "process")]
}

// claim claims what is due and, as a process does, sends it if it is still what the row is.
func (w *versionWorld) claim(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "process")
	claimed, err := w.processes[i].Claim(context.Background(), jobs.Claim{Lease: w.leases[i], Each: 10, Limit: 10})
	noError(t, err)
	now, ok := w.now()
	for _, d := range claimed {
		if d.Version == now.Version && (d.Action == jobs.ActionRemove) == w.removed {
			if !w.has(d.Action) {
				t.Fatalf("%s is sent to a webhook that does not want it", d.Action)
			}
			w.flying = append(w.flying, d)
			w.told, w.wasConfirmed, w.confirmed = append(w.told, d.Action+"?"), w.confirmed, false
			continue
		}
		o := w.s.died(d, jobs.Superseded)
		o.Newer, o.Delivery.LastError = &now, jobs.NewerVersion
		if !ok {
			o.Newer, o.Delivery.Reason, o.Delivery.LastError = nil, jobs.Withdrawn, jobs.RowGone
		}
		_, err := w.processes[i].Settle(context.Background(), []jobs.Outcome{o})
		noError(t, err)
	}
	if len(w.flying) > 1 {
		t.Fatalf("%d versions of a row are under way at once", len(w.flying))
	}
}

func (w *versionWorld) answer(t *rapid.T) {
	if len(w.flying) > 0 {
		w.settle(t, rapid.SampledFrom([]string{"ack", "ack", "fail", "fail", "spend", "put back", "give up"}).Draw(t, "answer"))
	}
}

func (w *versionWorld) settle(t *rapid.T, answer string) {
	d := w.flying[0]
	w.flying = nil
	var o jobs.Outcome
	switch answer {
	case "ack":
		o = w.s.acked(d)
		w.told[len(w.told)-1], w.last, w.confirmed = d.Action, d.Version, d.Action != jobs.ActionRemove
	case "fail":
		o = w.s.failed(d, 0)
	case "spend":
		o = w.s.spent(d, 0)
	case "put back": // it was not sent after all
		o = jobs.Outcome{Lease: d.Lease, Delivery: d}
		o.Delivery.State, o.Delivery.NextAt, o.Delivery.Lease = jobs.Pending, w.s.Now(), ""
		w.told, w.confirmed = w.told[:len(w.told)-1], w.wasConfirmed
	case "give up":
		o = w.s.spent(d, 0)
		o.Delivery.State, o.Delivery.Reason, o.Delivery.SettledAt = jobs.Dead, jobs.Expired, w.s.Now()
		w.givenUp = d.Version
	}
	held, err := w.process(t).Settle(context.Background(), []jobs.Outcome{o})
	noError(t, err)
	if !held[0] {
		t.Fatal("an outcome under a lease that holds was not recorded")
	}
}

// die lets both processes vanish: what they had under way is owed again.
func (w *versionWorld) die(t *rapid.T) {
	for i := range w.leases {
		if rapid.Bool().Draw(t, "by itself") {
			noError(t, w.processes[i].DropLease(context.Background(), w.leases[i]))
		}
	}
	w.s.pass(2 * time.Minute)
	_, err := w.process(t).Reclaim(context.Background())
	noError(t, err)
	for i := range w.leases {
		w.leases[i], err = w.processes[i].TakeLease(context.Background(), "again", time.Minute)
		noError(t, err)
	}
	w.lost = append(w.lost, w.flying...)
	w.flying = nil
}

// late lets a process that was thought dead settle what it sent.
func (w *versionWorld) late(t *rapid.T) {
	if len(w.lost) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.lost)-1).Draw(t, "which")
	d := w.lost[i]
	w.lost = slices.Delete(w.lost, i, i+1)
	held, err := w.process(t).Settle(context.Background(), []jobs.Outcome{w.s.acked(d)})
	noError(t, err)
	if held[0] {
		t.Fatal("an outcome under a lease that was lost is recorded")
	}
}

// start begins another run, which takes on what is pending.
func (w *versionWorld) start(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "process")
	run, _, err := w.processes[i].StartRun(context.Background(), jobs.RunStart{Kind: jobs.Manual, Lease: w.leases[i]})
	noError(t, err)
	w.run = run.ID
}

func (w *versionWorld) check(t *rapid.T) {
	if w.steps++; w.steps%5 == 0 {
		noError(t, w.s.audit())
	}
	there, maybe := false, false // the row is there, as the CRM acknowledged; it may be gone, having been sent so
	for i, told := range w.told {
		switch told {
		case jobs.ActionCreate:
			if there && !maybe {
				t.Fatalf("told %v: created what was there, at %d", w.told, i)
			}
			there, maybe = true, false
		case jobs.ActionUpdate:
			if !there && w.has(jobs.ActionCreate) {
				t.Fatalf("told %v: changed what was not there, at %d", w.told, i)
			}
		case jobs.ActionRemove:
			there = false
		case jobs.ActionRemove + "?":
			maybe = maybe || !w.has(jobs.ActionUpdate)
		}
	}
}

// drain scans and sends until nothing is owed.
func (w *versionWorld) drain(t *rapid.T) {
	if len(w.flying) > 0 {
		w.settle(t, "ack")
	}
	for idle := 0; idle < 3; idle++ {
		w.scan(t)
		w.claim(t)
		if len(w.flying) > 0 {
			w.settle(t, "ack")
			idle = 0
		}
		w.check(t)
	}
	for _, d := range w.s.all() {
		if d.State != jobs.Delivered && d.State != jobs.Dead {
			t.Fatalf("version %s is still %s", d.Version, d.State)
		}
	}
	run := w.s.run(w.run)
	if run.UnderWay() != 0 {
		t.Fatalf("%d of a run are under way: %+v", run.UnderWay(), run)
	}
	if why := w.untold(); why != "" && w.givenUp != fmt.Sprint("v", w.version) {
		t.Fatalf("%s; the row is v%d (removed: %v), wanted %d; told %v, of %q last; %v", why, w.version, w.removed, w.wanted, w.told, w.last, w.s.story())
	}
}

// untold says what the CRM has to hear and has not heard.
func (w *versionWorld) untold() string {
	as := func(action string) bool {
		return slices.Contains(w.told, action) || slices.Contains(w.told, action+"?")
	}
	last := ""
	if len(w.told) > 0 {
		last = w.told[len(w.told)-1]
	}
	switch {
	case w.removed && w.has(jobs.ActionRemove):
		if last != jobs.ActionRemove && (len(w.told) > 0 || !w.has(jobs.ActionCreate)) {
			return "the CRM was not told that the row is gone"
		}
	case w.removed:
	case w.has(jobs.ActionUpdate) && (w.has(jobs.ActionCreate) || w.version > 0):
		if w.last != fmt.Sprint("v", w.version) {
			return "the CRM was not told what the row is"
		}
	case w.has(jobs.ActionCreate) && !w.has(jobs.ActionUpdate):
		if !w.confirmed && (w.givenUp == "" || !as(jobs.ActionCreate)) {
			return "the CRM was not told that the row is there"
		}
	}
	return ""
}
