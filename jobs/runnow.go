package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Scope says whose records a run by hand takes on; nil means all.
type Scope struct {
	Webhooks, Chatbots, Types []string
}

// RunNow gathers, pushes all that is pending for the webhooks in scope, new or left from spent rounds, and waits for
// the retries; with noWait for the first attempts only. It may run beside other runners on the same ledger: no record
// is pushed by two. progress, where given, is told of the run as it goes on. The run returned is as it stands in the
// end; a stream that could not be read is an error, and what the other streams gave is pushed all the same.
func (r *Runner) RunNow(ctx context.Context, scope Scope, noWait bool, progress func(Run)) (Run, error) {
	var run Run
	var gathering error
	err := r.session(ctx, func(ctx context.Context) error {
		webhooks, err := r.inScope(ctx, scope)
		if err != nil {
			return err
		}
		start := RunStart{Kind: Manual, Lease: r.holder.current(), Webhooks: webhooks, Chatbots: scope.Chatbots, Types: scope.Types}
		err = r.wait.do(ctx, "the ledger", func(ctx context.Context) error {
			if _, err := r.o.Ledger.Reclaim(ctx); err != nil {
				return err
			}
			run, _, err = r.o.Ledger.StartRun(ctx, start)
			return err
		})
		if err != nil {
			return fmt.Errorf("start the run: %w", err)
		}
		dispatching, stop := context.WithCancel(ctx)
		defer stop()
		dispatched := make(chan error, 1)
		go func() {
			dispatched <- r.dispatch(dispatching, webhooks, func(context.Context) error { return nil })
		}()
		gathering = r.gatherFor(ctx, r.begin([]Run{run})[0])
		err = r.await(ctx, &run, webhooks, noWait, progress, dispatched)
		stop()
		<-dispatched
		return err
	})
	// What was recorded while stopping counts too.
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.Grace)
	defer cancel()
	if run.ID != "" {
		if last, lastErr := r.o.Ledger.Run(final, run.ID); lastErr == nil {
			run = last
		} else {
			err = errors.Join(err, fmt.Errorf("read the run's end: %w", lastErr))
		}
		err = errors.Join(err, r.o.Ledger.EndRuns(final))
	}
	if gathering != nil && !errors.Is(gathering, context.Canceled) {
		err = errors.Join(gathering, err)
	}
	return run, err
}

// inScope names the active webhooks of a scope, and sees which fires of their schedules have been.
func (r *Runner) inScope(ctx context.Context, scope Scope) ([]string, error) {
	ro, err := r.refresh(ctx)
	if err != nil {
		return nil, err
	}
	for key := range ro.fires {
		if _, err := r.seenTo(ctx, key); err != nil {
			return nil, err
		}
	}
	for _, id := range scope.Webhooks {
		if ro.byID[id] == nil {
			return nil, fmt.Errorf("webhook %s: %w", id, ErrNotFound)
		}
	}
	ids := []string{}
	for id, w := range ro.byID {
		switch {
		case w.State != Active:
		case scope.Webhooks != nil && !slices.Contains(scope.Webhooks, id):
		case scope.Chatbots != nil && !slices.ContainsFunc(scope.Chatbots, w.WantsChatbot):
		case scope.Types != nil && !slices.ContainsFunc(scope.Types, w.WantsType):
		default:
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// await returns when nothing of the run is under way, or with noWait when nothing is left to be attempted now.
func (r *Runner) await(ctx context.Context, run *Run, webhooks []string, noWait bool, progress func(Run), dispatched chan error) error {
	looked, moved := time.Now(), time.Now()
	for {
		rested, none, err := r.atRest(ctx, webhooks)
		if err != nil {
			return err
		}
		if !rested || !none {
			moved = time.Now()
		}
		if time.Since(looked) > r.o.LeaseTTL/2 { // another process that took a retry of this run may have died
			looked = time.Now()
			if _, err := r.o.Ledger.Reclaim(ctx); err != nil && !r.o.Unavailable(err) {
				return fmt.Errorf("reclaim dead leases: %w", err)
			}
		}
		err = r.wait.do(ctx, "the ledger", func(ctx context.Context) error {
			now, err := r.o.Ledger.Run(ctx, run.ID)
			if err == nil {
				*run = now
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read the run: %w", err)
		}
		if progress != nil {
			progress(*run)
		}
		if run.UnderWay() <= 0 || noWait && rested {
			return nil
		}
		if time.Since(moved) > 2*r.o.LeaseTTL { // what is left of it is held back: its webhook was disabled meanwhile
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-dispatched:
			dispatched <- err
			return err
		case <-r.moved:
			rest(ctx, 50*time.Millisecond)
		case <-time.After(r.o.Poll):
		}
	}
}

// atRest reports whether nothing is due, queued, under way or waiting to be recorded; none: nor pending for later.
func (r *Runner) atRest(ctx context.Context, webhooks []string) (rested, none bool, err error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	var due time.Time
	err = r.wait.do(ctx, "the ledger", func(ctx context.Context) (err error) {
		due, err = r.o.Ledger.NextDue(ctx, webhooks)
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("next due delivery: %w", err)
	}
	rested = (due.IsZero() || due.After(r.o.Ledger.Now())) && r.pool.idle() && r.settler.open.Load() == 0
	return rested, due.IsZero(), nil
}
