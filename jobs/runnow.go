package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A Scope says whose records a run by hand takes on; nil means all.
type Scope struct {
	Webhooks, Chatbots, Types []string
}

// RunNow gathers, pushes all that is pending for the webhooks in scope, new or left from spent rounds, and waits for
// the retries, and for what other processes are sending to them, of which one may have died; with noWait for first
// attempts only: its own, and those that a process left that has died by now. It may run beside other runners on the same ledger: no record
// is pushed by two. progress, where given, is told of the run as it goes on. The run returned is as it stands in the
// end; a stream that could not be read is an error, and what the other streams gave is pushed all the same.
func (r *Runner) RunNow(ctx context.Context, scope Scope, noWait bool, progress func(Run)) (Run, error) {
	var run Run
	var gathering error
	var sending []Flight // by others, when the run begins
	elsewhere := 0
	err := r.session(ctx, func(ctx context.Context) error {
		if err := r.probe(ctx, scope); err != nil {
			return err
		}
		webhooks, err := r.inScope(ctx, scope, Active)
		if err != nil {
			return err
		}
		start := RunStart{Kind: Manual, Lease: r.holder.current(), Webhooks: webhooks, Chatbots: scope.Chatbots, Types: scope.Types}
		err = r.wait.do(ctx, TheLedger, func(ctx context.Context) error {
			flights, err := r.o.Ledger.Elsewhere(ctx, start)
			if err != nil {
				return err
			}
			sending = flights
			run, _, err = r.o.Ledger.StartRun(ctx, start)
			return err
		})
		if err != nil {
			return fmt.Errorf("start the run: %w", err)
		}
		working, stop := context.WithCancel(ctx)
		dispatched, gathered := make(chan error, 1), make(chan struct{})
		go func() {
			dispatched <- r.dispatch(working, webhooks, func(context.Context) {}, nil)
		}()
		begun := r.begin([]Run{run})[0]
		go func() {
			defer close(gathered)
			gathering = r.gatherFor(working, begun, func() error {
				return r.takeOver(working, begun.ID, start, sending, noWait)
			})
		}()
		err = r.await(ctx, &run, webhooks, noWait, progress, gathered, dispatched)
		stop()
		<-gathered
		<-dispatched
		if err == nil && noWait && len(sending) > 0 {
			var still map[uuid.UUID]Flight
			still, err = r.elsewhere(ctx, start)
			for _, f := range sending {
				if _, ok := still[f.ID]; ok {
					elsewhere++
				}
			}
		}
		return err
	})
	// What was recorded while stopping counts too.
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.Grace)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	defer context.AfterFunc(final, func() { r.vigil.abandon(done) })()
	if run.ID != "" {
		if last, lastErr := r.o.Ledger.Run(final, run.ID); lastErr == nil {
			run = last
			run.Elsewhere = elsewhere
			_, lastErr = r.o.Ledger.EndRuns(final)
			err = errors.Join(err, lastErr)
		} else if err == nil { // else the ledger is away, and err says so
			err = fmt.Errorf("read the run's end: %w", lastErr)
		}
	}
	away := err != nil && r.o.Unavailable(err)
	gathering = without(gathering, func(part error) bool {
		return errors.Is(part, context.Canceled) || away && r.o.Unavailable(part) // err says why, once
	})
	if gathering != nil {
		err = errors.Join(gathering, err)
	}
	return run, err
}

// without leaves out the parts of an error, which may be several, that are said otherwise.
func without(err error, said func(error) bool) error {
	if err == nil || !said(err) {
		return err
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var rest []error
	for _, part := range several.Unwrap() {
		rest = append(rest, without(part, said))
	}
	return errors.Join(rest...)
}

// Start begins a run by hand in a runner that serves: it reads and pushes for it, as for a scheduled one. It returns the
// run as it is begun. Where ctx ends before the runner has taken the run on, it is an error, and the run is ended unread.
func (r *Runner) Start(ctx context.Context, scope Scope) (Run, error) {
	held, err := r.inScope(ctx, scope, Held)
	if err == nil && len(held) > 0 {
		err = r.o.Ledger.Probe(ctx, held)
	}
	if err != nil {
		return Run{}, err
	}
	webhooks, err := r.inScope(ctx, scope, Active)
	if err != nil {
		return Run{}, err
	}
	start := RunStart{Kind: Manual, Lease: r.holder.current(), Webhooks: webhooks, Chatbots: scope.Chatbots, Types: scope.Types}
	run, _, err := r.o.Ledger.StartRun(ctx, start)
	if err != nil {
		return Run{}, fmt.Errorf("start the run: %w", err)
	}
	select {
	case r.begun <- run:
		return run, nil
	case <-ctx.Done():
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return Run{}, errors.Join(ctx.Err(), r.o.Ledger.GatherDone(ending, run.ID))
	}
}

// takeBegun reads for the runs that Start began, until ctx ends.
func (r *Runner) takeBegun(ctx context.Context) error {
	for {
		select {
		case run := <-r.begun:
			r.log.Info("run started", "run", run.ID, "webhooks", len(run.Webhooks))
			r.gatherInBackground(ctx, []Run{run}, []string{run.ID})
			nudge(r.wake) // what it took on is due
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probe has the held webhooks in scope probed, and returns when that is known: whose endpoint is well again is active then,
// and gets the rest.
func (r *Runner) probe(ctx context.Context, scope Scope) error {
	held, err := r.inScope(ctx, scope, Held)
	if err != nil || len(held) == 0 {
		return err
	}
	if err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error { return r.o.Ledger.Probe(ctx, held) }); err != nil {
		return fmt.Errorf("have held webhooks probed: %w", err)
	}
	for some := range slices.Chunk(held, pageSize) {
		if _, err := r.claim(ctx, some); err != nil { // one record of each
			return err
		}
		for {
			r.claims.Lock()
			rested := r.settledAll()
			r.claims.Unlock()
			if rested {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-r.moved:
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// inScope names the webhooks of a scope that are in this state, and sees which fires of their schedules have been.
func (r *Runner) inScope(ctx context.Context, scope Scope, state WebhookState) ([]string, error) {
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
		case w.State != state:
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

// await returns when the run is gathered and nothing of it is under way, or with noWait when nothing of it is left to
// be attempted now.
func (r *Runner) await(ctx context.Context, run *Run, webhooks []string, noWait bool, progress func(Run), gathered <-chan struct{}, dispatched chan error) error {
	looked := time.Now()
	for {
		read := false // before the run is looked at, so that its counts are complete
		select {
		case <-gathered:
			read = true
		default:
		}
		rested := false
		if noWait && read {
			var err error
			if rested, err = r.atRest(ctx, run.ID, webhooks); err != nil {
				return err
			}
		}
		if read && time.Since(looked) > r.o.LeaseTTL/2 { // before, what is put back is for takeOver to take on
			looked = time.Now()
			if err := r.lookAfter(ctx); err != nil {
				return err
			}
		}
		err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error {
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
		if read && (run.UnderWay() <= 0 || !run.EndedAt.IsZero() || rested) {
			return nil
		}
		unread, pause := gathered, 250*time.Millisecond
		if read {
			unread, pause = nil, 50*time.Millisecond
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-dispatched:
			dispatched <- err
			return err
		case <-unread:
		case <-r.moved:
			rest(ctx, pause)
		case <-time.After(r.o.Poll):
		}
	}
}

// lookAfter does what a daemon does for runs: another process that took a retry of this one may have died, and of what
// is left all may be held back, its webhook being disabled meanwhile.
func (r *Runner) lookAfter(ctx context.Context) error {
	_, err := r.reclaim(ctx)
	if err == nil {
		_, err = r.o.Ledger.EndRuns(ctx)
	}
	if err != nil && !r.o.Unavailable(err) {
		return fmt.Errorf("look after the runs: %w", err)
	}
	return nil
}

// atRest reports whether nothing of the run is due, queued, under way (in any process) or waiting to be recorded.
func (r *Runner) atRest(ctx context.Context, run string, webhooks []string) (rested bool, err error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	var due bool
	var sending int
	err = r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		if due, err = r.o.Ledger.Due(ctx, webhooks); err == nil {
			sending, err = r.o.Ledger.Sending(ctx, run)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("what is left to be attempted now: %w", err)
	}
	return sending == 0 && !due && r.settledAll(), nil
}

// settledAll reports whether nothing is queued, under way here or waiting to be recorded. It needs r.claims.
func (r *Runner) settledAll() bool { return r.pool.idle() && r.settler.open.Load() == 0 }
