package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// fireRetry is how long a schedule whose run could not be started waits for the next try.
const fireRetry = time.Second

// fire begins the runs of schedules that are due, one run for all the fires that were missed, and reads for them. One that
// fails keeps neither the others nor what is due from going; fires is told of it.
func (r *Runner) fire(ctx context.Context, fires *Loop) {
	ro, now := r.webhooks(), r.o.Ledger.Now()
	var started []*activeRun
	var mine []string
	maps.DeleteFunc(r.fireAgain, func(key string, _ time.Time) bool { return ro.fires[key] == nil })
	for _, key := range slices.Sorted(maps.Keys(ro.fires)) {
		if again, failed := r.fireAgain[key]; failed && now.Before(again) {
			continue
		}
		run, ours, err := r.fireOne(ctx, key, ro.fires[key], now)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.fireAgain[key] = r.o.Ledger.Now().Add(fireRetry)
			if !errors.Is(err, ErrLeaseLost) { // whose keeper is watched
				fires.fail(err)
				r.sayOnce("a run could not be started; trying again", key, err)
			}
			continue
		}
		if _, failed := r.fireAgain[key]; failed {
			delete(r.fireAgain, key)
			r.sayOnce("a run could not be started; trying again", key, nil)
		}
		if ours {
			mine = append(mine, run.ID)
		}
		if run.Gathering { // another's run too: the daemons share its pages
			started = append(started, r.begin([]Run{run})...)
		}
	}
	if len(r.fireAgain) == 0 {
		fires.succeed()
	}
	r.gatherBegun(ctx, started, mine)
}

// fireOne begins the run of one schedule where it is due; the zero Run: it is not.
func (r *Runner) fireOne(ctx context.Context, key string, f *fires, now time.Time) (run Run, ours bool, err error) {
	last, err := r.seenTo(ctx, key)
	if err != nil {
		return run, false, err
	}
	at, due := f.schedule.Last(last, now)
	if !due {
		return run, false, nil
	}
	if run, first := r.stillGathering(key); run != "" {
		if first { // while the source is away for hours a schedule may fire a hundred times
			r.log.Warn("a schedule fires while its run is still gathering; its fires are skipped until that ends", "schedule", key, "run", run)
		}
		r.sawTo(key, at)
		return Run{}, false, nil
	}
	start := RunStart{Kind: Scheduled, Lease: r.holder.current(), Schedule: key, FireAt: at, Webhooks: f.webhooks}
	err = r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		run, ours, err = r.o.Ledger.StartRun(ctx, start)
		return err
	})
	if err != nil {
		return Run{}, false, fmt.Errorf("start the run of schedule %s: %w", key, err)
	}
	r.sawTo(key, at)
	if ours {
		r.log.Info("run started", "run", run.ID, "schedule", key, "fire", at, "webhooks", len(f.webhooks))
	}
	return run, ours, nil
}

// gatherInBackground reads for runs until they are read, without keeping the dispatcher. mine are those that this
// process then declares gathered.
func (r *Runner) gatherInBackground(ctx context.Context, runs []Run, mine []string) {
	r.gatherBegun(ctx, r.begin(runs), mine)
}

func (r *Runner) gatherBegun(ctx context.Context, begun []*activeRun, mine []string) {
	if len(begun) == 0 {
		return
	}
	r.chores.Go(func() {
		failed := r.gatherAll(ctx, r.o.Sources, begun)
		for _, run := range begun {
			r.chores.Go(func() {
				r.sayOnce("gathering failed", "", r.finish(ctx, run, slices.Contains(mine, run.ID), failed))
			})
		}
	})
}

// seenTo is a schedule's last fire.
func (r *Runner) seenTo(ctx context.Context, key string) (time.Time, error) {
	r.mu.Lock()
	last, ok := r.lastFire[key]
	r.mu.Unlock()
	if ok {
		return last, nil
	}
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		last, err = r.o.Ledger.LastFire(ctx, key)
		return err
	})
	if err != nil {
		return last, fmt.Errorf("last fire of schedule %s: %w", key, err)
	}
	r.sawTo(key, last)
	return last, nil
}

func (r *Runner) sawTo(key string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastFire[key] = at
}

// stillGathering is the run of a schedule that this process gathers for; first: nobody asked before.
func (r *Runner) stillGathering(key string) (run string, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.runs {
		if a.Kind == Scheduled && a.Schedule == key {
			first, a.skipping = !a.skipping, true
			return a.ID, first
		}
	}
	return "", false
}

// follow reads a stream whenever a row may have come, while some webhook is immediate. Backfills go beside it: a long one
// must not keep the new rows of all webhooks waiting.
func (r *Runner) follow(ctx context.Context, src Source) error {
	loop := r.vigil.begin("the reading of stream " + src.Type())
	defer loop.End()
	ctx = loop.in(ctx)
	var filling atomic.Bool
	for {
		if r.webhooks().immediate {
			err := r.gatherNew(ctx, src)
			r.sayOnce("gathering failed", src.Type(), err)
			if err == nil && filling.CompareAndSwap(false, true) {
				r.chores.Go(func() {
					defer filling.Store(false)
					loop := r.vigil.begin("the backfills from stream " + src.Type())
					defer loop.End()
					ctx := loop.in(ctx)
					r.sayOnce("a backfill failed; trying again", src.Type(), r.backfillAll(ctx, src, nil))
				})
			}
			loop.Pause(r.o.SourcePoll)
			err = src.Wait(ctx, r.o.SourcePoll)
			loop.back()
			if err == nil {
				continue
			} else if ctx.Err() == nil {
				r.log.Debug("waiting for new rows failed; looking again soon", "stream", src.Type(), "error", err)
			}
		}
		rest(ctx, r.o.Poll)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// keepHouse sees to what dead processes left, closes runs, notices changed webhooks and prunes, until ctx ends.
func (r *Runner) keepHouse(ctx context.Context) error {
	loop := r.vigil.begin("the housekeeping")
	defer loop.End()
	ctx = loop.in(ctx)
	pruned := time.Time{}
	for {
		err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error {
			if n, err := r.reclaim(ctx); err != nil {
				return err
			} else if n > 0 {
				r.log.Warn("records that a dead process was sending are due again", "records", n)
				nudge(r.wake)
			}
			if err := r.adopt(ctx); err != nil {
				return err
			}
			ended, err := r.o.Ledger.EndRuns(ctx)
			for i := range ended {
				r.logEnd(&ended[i])
			}
			return err
		})
		r.bulletin.flush(false)
		if !errors.Is(err, ErrLeaseLost) { // whose keeper says so
			r.sayOnce("housekeeping failed; trying again", "", err)
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrLeaseLost) {
			loop.succeed()
		} else {
			loop.fail(err)
		}
		if r.o.Retention > 0 && time.Since(pruned) > pruneEvery && err == nil {
			pruned = time.Now()
			loop.ask(TheLedger)
			err := r.o.Ledger.Prune(ctx, r.o.Ledger.Now().Add(-r.o.Retention))
			loop.back()
			if err != nil && ctx.Err() == nil {
				r.log.Error("old attempts and runs were not pruned; trying again", "error", err)
			}
		}
		for end := time.Now().Add(5 * r.o.Poll); time.Now().Before(end); {
			_ = r.noticeChanges(ctx) // which logs its error
			rest(ctx, r.o.Poll)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
}

// reclaim puts back what dead processes were sending, where it is known who is dead.
func (r *Runner) reclaim(ctx context.Context) (int, error) {
	if !r.holder.steady() {
		return 0, nil
	}
	return r.o.Ledger.Reclaim(ctx, r.holder.current())
}

// adopt reads for the runs that dead processes were reading for, and for those that the ledger gave to this one without its
// knowing.
func (r *Runner) adopt(ctx context.Context) error {
	if !r.holder.steady() {
		return nil
	}
	known := r.reading() // before the ledger is asked, which may still have as gathering what ends meanwhile
	orphans, err := r.o.Ledger.Orphans(ctx, r.holder.current())
	if err != nil {
		return err
	}
	var ids []string
	orphans = slices.DeleteFunc(orphans, func(run Run) bool { return known[run.ID] })
	for _, run := range orphans {
		ids = append(ids, run.ID)
		r.log.Warn("run taken over: nobody was reading for it", "run", run.ID, "schedule", run.Schedule)
	}
	r.gatherInBackground(ctx, orphans, ids)
	return nil
}

// logEnd says what became of a run.
func (r *Runner) logEnd(run *Run) {
	r.log.Info("run ended", "run", run.ID, "schedule", run.Schedule, "gathered", run.Gathered, "carried", run.Carried, "delivered", run.Delivered,
		"test_answers", run.TestAnswers, "pending", run.Pending(), "dead", run.Dead, "took", run.EndedAt.Sub(run.StartedAt).Round(time.Millisecond))
}

// A said is an error that was logged, and when.
type said struct {
	text string
	at   time.Time
}

// sayOnce logs what failed (of which stream or run), once an hour while the reason stays the same. Without an error it
// is over: the next one is said at once.
func (r *Runner) sayOnce(what, of string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	key := what + " " + of
	r.mu.Lock()
	last := r.said[key]
	say := text != "" && (text != last.text || time.Since(last.at) >= time.Hour)
	if say || text == "" {
		r.said[key] = said{text, time.Now()}
	}
	r.mu.Unlock()
	if say {
		r.log.Error(what, "error", text)
	}
}
