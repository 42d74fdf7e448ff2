package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
)

// An activeRun is a run whose pages are being read.
type activeRun struct {
	Run
	ours     bool            // this process pushes what it reads for it
	webhooks map[string]bool // nil: all
	skipping bool            // fires of its schedule meanwhile, which was said
}

// runOf is the run that takes a record on; nil where none does.
func runOf(runs []*activeRun, w *Webhook, rec *Record) *activeRun {
	for _, a := range runs {
		if a.includes(w, rec.Type) && (len(a.Chatbots) == 0 || slices.Contains(a.Chatbots, rec.Chatbot)) {
			return a
		}
	}
	return nil
}

// includes reports whether the run takes on records of this type for w.
func (a *activeRun) includes(w *Webhook, typ string) bool {
	return (a.webhooks == nil || a.webhooks[w.ID]) && (len(a.Types) == 0 || slices.Contains(a.Types, typ))
}

// gathering returns the runs whose pages are being read: by this process, and by others, whose webhooks' records this
// process may come to read first.
func (r *Runner) gathering(ctx context.Context) ([]*activeRun, error) {
	var theirs []Run
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		theirs, err = r.o.Ledger.Gathering(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("runs under way: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := slices.Clone(r.runs)
	for _, run := range theirs {
		if !slices.ContainsFunc(runs, func(a *activeRun) bool { return a.ID == run.ID }) {
			runs = append(runs, r.active(run, false))
		}
	}
	return runs, nil
}

// active needs r.mu.
func (r *Runner) active(run Run, ours bool) *activeRun {
	a := &activeRun{Run: run, ours: ours}
	ids := run.Webhooks
	if run.Kind == Scheduled {
		ids = []string{}
		if f := r.roster.fires[run.Schedule]; f != nil {
			ids = f.webhooks
		}
	}
	if ids != nil {
		a.webhooks = make(map[string]bool, len(ids))
		for _, id := range ids {
			a.webhooks[id] = true
		}
	}
	return a
}

// begin makes runs known to every scan from now on.
func (r *Runner) begin(runs []Run) []*activeRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	var begun []*activeRun
	for _, run := range runs {
		if !slices.ContainsFunc(r.runs, func(a *activeRun) bool { return a.ID == run.ID }) {
			begun = append(begun, r.active(run, true))
		}
	}
	r.runs = append(r.runs, begun...)
	return begun
}

// reading are the ids of the runs that this process gathers for.
func (r *Runner) reading() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[string]bool, len(r.runs))
	for _, a := range r.runs {
		ids[a.ID] = true
	}
	return ids
}

func (r *Runner) end(run *activeRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = slices.DeleteFunc(r.runs, func(a *activeRun) bool { return a == run })
}

// A failure is a stream that could not be read to its end.
type failure struct {
	source Source
	err    error
}

// gatherFor reads all streams, and the backfills of this run's webhooks, to their ends, calls more, and says in the ledger
// that the run has all that it is to have.
func (r *Runner) gatherFor(ctx context.Context, run *activeRun, more func() error) error {
	failed := r.gatherAll(ctx, r.o.Sources, []*activeRun{run})
	err := more()
	return errors.Join(r.finish(ctx, run, true, failed), err)
}

// gatherAll reads streams, and the backfills of these runs' webhooks, to their ends. A stream that fails does not keep
// the others.
func (r *Runner) gatherAll(ctx context.Context, streams []Source, runs []*activeRun) []failure {
	errs := make([]error, len(streams))
	var scans sync.WaitGroup
	for i, src := range streams {
		scans.Go(func() {
			loop := r.vigil.begin("the reading of stream " + src.Type())
			defer loop.End()
			errs[i] = r.gatherStream(loop.in(ctx), src, runs)
		})
	}
	scans.Wait()
	var failed []failure
	for i, err := range errs {
		if err != nil {
			failed = append(failed, failure{streams[i], err})
		}
	}
	return failed
}

// finish reads streams that failed again for as long as the run has time, and then declares it gathered where it is
// mine, this process's to declare. When ctx ends it stays gathering: another process takes it over.
func (r *Runner) finish(ctx context.Context, run *activeRun, mine bool, failed []failure) error {
	defer r.end(run)
	loop := r.vigil.begin("the end of run " + run.ID)
	defer loop.End()
	ctx = loop.in(ctx)
	for ctx.Err() == nil {
		again := r.again(run, failed)
		if len(again) == 0 {
			break
		}
		r.sayOnce("gathering failed; trying again", "", joined(failed))
		rest(ctx, unreadable)
		loop.idle()
		failed = r.gatherAll(ctx, again, []*activeRun{run})
	}
	if ctx.Err() != nil {
		return errors.Join(joined(failed), ctx.Err())
	}
	err := joined(failed)
	if mine {
		err = errors.Join(err, r.wait.do(ctx, TheLedger, func(ctx context.Context) error { return r.o.Ledger.GatherDone(ctx, run.ID) }))
	}
	nudge(r.moved)
	return err
}

// again are the streams of these that a run reads again soon, lest their rows wait for its next fire, which may be a
// day away: those that are not stopped, which people must see to, while the next fire is not near.
func (r *Runner) again(run *activeRun, failed []failure) (streams []Source) {
	f := r.webhooks().fires[run.Schedule]
	now := r.o.Ledger.Now()
	if run.Kind != Scheduled || f == nil || f.schedule.Next(run.FireAt).Before(now.Add(2*unreadable)) {
		return nil
	}
	for _, one := range failed {
		if _, stopped := errors.AsType[*StoppedError](one.err); !stopped {
			streams = append(streams, one.source)
		}
	}
	return streams
}

func joined(failed []failure) error {
	errs := make([]error, len(failed))
	for i, one := range failed {
		errs[i] = one.err
	}
	return errors.Join(errs...)
}

func (r *Runner) gatherStream(ctx context.Context, src Source, runs []*activeRun) error {
	if err := r.gatherNew(ctx, src); err != nil {
		return err
	}
	return r.backfillAll(ctx, src, runs)
}

func (r *Runner) gatherNew(ctx context.Context, src Source) (err error) {
	defer r.contain("reading a stream", &err)
	return r.gather(ctx, src)
}

// contain, deferred, makes an error of a panic: it ends what was being done, not the daemon.
func (r *Runner) contain(doing string, err *error) {
	if p := recover(); p != nil {
		r.log.Error("panic", "doing", doing, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = errors.Join(*err, fmt.Errorf("panic while %s", doing))
	}
}
