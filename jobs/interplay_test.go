package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// A flawed ledger is a real one of which a method fails when told to.
type flawed struct {
	*ledger.Ledger
	settle   func() error
	startRun func(jobs.RunStart) error
	run      func() error
	fire     func() error // after Fire was done
	enter    func(jobs.Entries) error
	webhooks func() error
	claim    func() bool            // false: it finds nothing
	gathers  func()                 // before Gathering returns
	away     func() bool            // true: leases, and what is sending, cannot be changed
	states   func()                 // before States does
	orphans  func([]jobs.Run) error // after Orphans was done
	lost     map[string]bool
}

func (f *flawed) KeepLease(ctx context.Context, lease string, ttl time.Duration) error {
	if f.away != nil && f.away() {
		return errAway
	}
	return f.Ledger.KeepLease(ctx, lease, ttl)
}

func (f *flawed) Reclaim(ctx context.Context, own ...string) (int, error) {
	if f.away != nil && f.away() {
		return 0, errAway
	}
	return f.Ledger.Reclaim(ctx, own...)
}

func (f *flawed) Orphans(ctx context.Context, lease string) ([]jobs.Run, error) {
	if f.away != nil && f.away() {
		return nil, errAway
	}
	runs, err := f.Ledger.Orphans(ctx, lease)
	if err == nil && f.orphans != nil {
		err = f.orphans(runs)
	}
	return runs, err
}

func (f *flawed) Run(ctx context.Context, id string) (jobs.Run, error) {
	if f.run != nil {
		if err := f.run(); err != nil {
			return jobs.Run{}, err
		}
	}
	return f.Ledger.Run(ctx, id)
}

func (f *flawed) Fire(ctx context.Context, schedule string, at time.Time) (bool, error) {
	mine, err := f.Ledger.Fire(ctx, schedule, at)
	if err == nil && f.fire != nil {
		err = f.fire()
	}
	return mine, err
}

func (f *flawed) States(ctx context.Context, ids []uuid.UUID) ([]jobs.State, error) {
	if f.states != nil {
		f.states()
	}
	states, err := f.Ledger.States(ctx, ids)
	for i := range states {
		if f.lost[ids[i].String()] {
			states[i] = ""
			delete(f.lost, ids[i].String())
		}
	}
	return states, err
}

func (f *flawed) Claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	if f.claim != nil && !f.claim() {
		return nil, nil
	}
	return f.Ledger.Claim(ctx, c)
}

func (f *flawed) Settle(ctx context.Context, o []jobs.Outcome) ([]bool, error) {
	if f.away != nil && f.away() {
		return nil, errAway
	}
	if f.settle != nil {
		if err := f.settle(); err != nil {
			return nil, err
		}
	}
	return f.Ledger.Settle(ctx, o)
}

func (f *flawed) StartRun(ctx context.Context, s jobs.RunStart) (jobs.Run, bool, error) {
	if f.startRun != nil {
		if err := f.startRun(s); err != nil {
			return jobs.Run{}, false, err
		}
	}
	return f.Ledger.StartRun(ctx, s)
}

func (f *flawed) Enter(ctx context.Context, e jobs.Entries) ([]bool, error) {
	if f.enter != nil {
		if err := f.enter(e); err != nil {
			return nil, err
		}
	}
	return f.Ledger.Enter(ctx, e)
}

func (f *flawed) Webhooks(ctx context.Context) (jobs.Registered, error) {
	if f.webhooks != nil {
		if err := f.webhooks(); err != nil {
			return jobs.Registered{}, err
		}
	}
	return f.Ledger.Webhooks(ctx)
}

func (f *flawed) Gathering(ctx context.Context) ([]jobs.Run, error) {
	runs, err := f.Ledger.Gathering(ctx)
	if f.gathers != nil {
		f.gathers()
	}
	return runs, err
}

func (f *flawed) use(o *jobs.Options) { o.Ledger = f }

// TestStopWhileTheLedgerIsAway: a daemon that cannot record what it has sent ends all the same when it is told to.
func TestStopWhileTheLedgerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@every 1m" }))
		defer b.close()
		l := &flawed{Ledger: b.ledger, settle: func() error { return errAway }}
		b.leads.add("bot", 1100) // more outcomes than the settler holds
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		err := b.runner(l.use, shortLease).Serve(ctx, func() {})
		lost, ok := errors.AsType[*jobs.UnrecordedError](err)
		if sent := len(b.crm.times("acme", start)); !ok || lost.Outcomes != sent || !errors.Is(err, errAway) {
			t.Errorf("%d records were sent, and it says: %v", sent, err)
		}
		if took := time.Since(start) - 90*time.Second; took > 25*time.Second {
			t.Errorf("it took %v to stop", took)
		}
		time.Sleep(time.Minute) // its lease runs out
		b.runNow(false, shortLease)
		if diff := cmp.Diff(map[string]int{"delivered": 1100}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestStopWhileTheLedgerComesBack: a ledger that is back in time gets what was sent, and the end is a good one.
func TestStopWhileTheLedgerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@every 1m" }))
		defer b.close()
		b.leads.add("bot", 20)
		start := time.Now()
		l := &flawed{Ledger: b.ledger, settle: func() error {
			if time.Since(start) < 95*time.Second {
				return errAway
			}
			return nil
		}}
		b.serve(90*time.Second, l.use)
		if diff := cmp.Diff(map[string]int{"delivered": 20}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestBackfillGoesOn: a backfill that broke off goes on where it is, in the same process.
func TestBackfillGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		rows := b.leads.add("bot", 1200)
		b.provision(hook("acme", func(w *jobs.Webhook) { w.From, w.Schedule = jobs.FromBeginning, "@hourly" }))
		pages := 0
		l := &flawed{Ledger: b.ledger, enter: func(e jobs.Entries) error {
			if e.Backfill == nil {
				return nil
			}
			if pages++; pages == 2 {
				return errors.New("a fault that waiting does not mend")
			}
			return nil
		}}
		b.serve(150*time.Minute, l.use)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestARunThatCannotStartKeepsNoOther: two schedules fire together, and the second's run cannot begin.
func TestARunThatCannotStartKeepsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("daily"), hook("other", func(w *jobs.Webhook) { w.Schedule = "0 0,12 * * *" }))
		defer b.close()
		l := &flawed{Ledger: b.ledger, startRun: func(s jobs.RunStart) error {
			if slices.Contains(s.Webhooks, "other") {
				return errors.New("a fault that waiting does not mend")
			}
			return nil
		}}
		rows := b.leads.add("bot", 3)
		b.serve(24*time.Hour+30*time.Second, l.use)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("daily")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestAScanThatFailsIsTriedAgainSoon: a fault in the middle of a daily run does not put its rows off by a day.
func TestAScanThatFailsIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		start := time.Now()
		b.leads.fail = func() error {
			if at := time.Since(start); at >= 24*time.Hour && at < 24*time.Hour+10*time.Minute {
				return errors.New("permission denied for table leads")
			}
			return nil
		}
		rows := b.leads.add("bot", 3)
		b.serve(25 * time.Hour)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestLeaseLostWhileGathering: another process took the lease away in the middle of a run: the run goes on under a new
// one.
func TestLeaseLostWhileGathering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		pages := 0
		l := &flawed{Ledger: b.ledger, enter: func(e jobs.Entries) error {
			if pages++; pages == 2 {
				if err := b.ledger.DropLease(context.Background(), e.Lease); err != nil {
					return err
				}
			}
			return nil
		}}
		rows := b.leads.add("bot", 1100)
		run, err := b.runner(l.use, shortLease).RunNow(context.Background(), jobs.Scope{}, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if run.Gathered != len(rows) || run.Delivered != len(rows) {
			t.Errorf("run: %+v", run)
		}
		if got := b.crm.got("acme"); len(got) != len(rows) {
			t.Errorf("%d of %d records came", len(got), len(rows))
		}
	})
}

// TestRunNowEndsWhereAWebhookWasDisabled: what is held back is not waited for, though others wait for their next fire.
func TestRunNowEndsWhereAWebhookWasDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("goes"), hook("stays"))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 1)
		go func() {
			time.Sleep(2 * time.Minute)
			b.provision(hook("stays"))
		}()
		start := time.Now()
		run, err := b.runner(func(o *jobs.Options) { o.LeaseTTL, o.Poll = 30*time.Second, time.Second }).
			RunNow(context.Background(), jobs.Scope{}, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 10*time.Minute {
			t.Errorf("took %v", took)
		}
		if run.Gathered != 2 || run.Pending() != 2 || run.Failed != 1 {
			t.Errorf("run: %+v", run)
		}
	})
}

// TestAPageReadAsAScheduleFires: a row that immediate mode reads just before a daily fire, and enters just after it,
// goes with that fire and not with the next day's.
func TestAPageReadAsAScheduleFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("daily"), hook("at once", func(w *jobs.Webhook) { w.Immediate, w.Schedule = true, "0 12 * * *" }))
		defer b.close()
		start := time.Now()
		var held atomic.Bool
		l := &flawed{Ledger: b.ledger}
		l.gathers = func() { // the scan is slow between asking for runs and drafting
			if time.Since(start) > 24*time.Hour-time.Minute && !held.Swap(true) {
				time.Sleep(2 * time.Second)
			}
		}
		go func() {
			time.Sleep(24*time.Hour - time.Second)
			b.leads.add("bot", 1)
		}()
		b.serve(25*time.Hour, l.use)
		if diff := cmp.Diff(once("Lead", "1"), b.crm.got("daily")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestBackfillByHandKeepsWhatIsUnderWay: a backfill by hand since a time does not cut off one that takes in more.
func TestBackfillByHandKeepsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		rows := b.leads.add("bot", 3)
		time.Sleep(time.Hour)
		since := time.Now()
		rows = append(rows, b.leads.add("bot", 2)...)
		b.provision(hook("acme", func(w *jobs.Webhook) { w.From = jobs.FromBeginning }))
		if _, err := jobs.BackfillByHand(context.Background(), b.ledger, []jobs.Source{b.leads}, "acme", since, time.Time{}, false); err != nil {
			t.Fatal(err)
		}
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestBackfillsWithin: a backfill by hand takes rows created within its bounds and rows without a creation time; one
// that adjoins it while it is under way is joined to it, one that does not is refused.
func TestBackfillsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		hour := time.Now()
		at := func(n int) time.Time { return hour.Add(time.Duration(n) * time.Hour) }
		var rows []string
		for range 6 { // a row an hour, at its beginning
			rows = append(rows, b.leads.add("bot", 1)...)
			time.Sleep(time.Hour)
		}
		b.leads.append(jobs.Record{Type: "Lead", Row: "7", Chatbot: "bot", Action: jobs.ActionCreate})
		b.provision(hook("acme"))
		backfill := func(since, before time.Time, dryRun bool) (int, error) {
			return jobs.BackfillByHand(context.Background(), b.ledger, []jobs.Source{b.leads}, "acme", since, before, dryRun)
		}
		for _, c := range []struct {
			since, before time.Time
			dryRun        bool
			rows          int
			refused       bool
		}{
			{since: at(1), before: at(2), rows: 2},
			{since: at(2), before: at(3), rows: 2},
			{since: at(5), rows: 2, refused: true},
			{before: at(1), rows: 2, dryRun: true},
			{since: at(5), rows: 2, dryRun: true},
			{before: at(-1), rows: 1, refused: true},
		} {
			n, err := backfill(c.since, c.before, c.dryRun)
			if errors.Is(err, jobs.ErrBackfilling) != c.refused || err == nil && n != c.rows {
				t.Errorf("from %v to %v: %d rows, %v", c.since.Sub(hour), c.before.Sub(hour), n, err)
			}
		}
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", append(rows[1:3:3], "7")...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		if _, err := backfill(at(5), time.Time{}, false); err != nil {
			t.Errorf("when the other has ended: %v", err)
		}
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", append(rows[1:3:3], rows[5], "7")...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestAPanicWhileReadingAgain costs a minute, not the daemon.
func TestAPanicWhileReadingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@hourly" }))
		defer b.close()
		start := time.Now()
		var refused sync.Once
		b.crm.answer = func(a attempt) (err error) {
			refused.Do(func() { err = refuse(a) })
			return err
		}
		b.leads.fail = func() error {
			if at := time.Since(start); at > 61*time.Minute-time.Second && at < 61*time.Minute+time.Second {
				panic("a bug")
			}
			return nil
		}
		b.leads.add("bot", 1)
		b.serve(65 * time.Minute)
		if diff := cmp.Diff([]time.Duration{time.Hour, 62 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

// TestNoWaitWaitsForWhatADaemonSends: first attempts that a daemon makes for the run are waited for too.
func TestNoWaitWaitsForWhatADaemonSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 20)
		b.runNow(false) // all wait for tomorrow's fire
		b.crm.answer = func(attempt) error { time.Sleep(5 * time.Second); return nil }
		ctx, cancel := context.WithCancel(context.Background())
		daemon := make(chan error, 1)
		go func() {
			daemon <- b.runner(func(o *jobs.Options) { o.Poll = 50 * time.Millisecond }).Serve(ctx, func() {})
		}()
		l := &flawed{Ledger: b.ledger, claim: func() bool { return false }} // the daemon is always first
		run, err := b.runner(l.use, func(o *jobs.Options) { o.Poll = time.Second }).RunNow(ctx, jobs.Scope{}, true, nil)
		if err != nil || run.Carried != 20 || run.Delivered != 20 {
			t.Errorf("run: %+v, %v", run, err)
		}
		cancel()
		if err := <-daemon; err != nil {
			t.Error(err)
		}
		if fmt.Sprint(b.states()) != "map[delivered:20]" {
			t.Errorf("states: %v", b.states())
		}
	})
}
