package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"golang.org/x/sync/errgroup"
)

// An activeRun is a run whose pages are being read.
type activeRun struct {
	Run
	ours     bool            // this process pushes what it reads for it
	webhooks map[string]bool // nil: all
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
	err := r.wait.do(ctx, "the ledger", func(ctx context.Context) (err error) {
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

func (r *Runner) end(runs []*activeRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = slices.DeleteFunc(r.runs, func(a *activeRun) bool { return slices.Contains(runs, a) })
}

// gatherFor reads all streams, and the backfills of these runs' webhooks, to their ends. mine are the runs whose
// gathering this process then declares done. A stream that fails does not keep the others.
func (r *Runner) gatherFor(ctx context.Context, runs []*activeRun, mine []string) (err error) {
	defer r.end(runs)
	defer r.contain("gathering", &err)
	errs := make([]error, len(r.o.Sources))
	var g errgroup.Group
	for i, src := range r.o.Sources {
		g.Go(func() error {
			errs[i] = r.gatherStream(ctx, src, runs)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // the runs stay gathering: another process takes them over
	}
	for _, id := range mine {
		err := r.wait.do(ctx, "the ledger", func(ctx context.Context) error { return r.o.Ledger.GatherDone(ctx, id) })
		errs = append(errs, err)
	}
	nudge(r.moved)
	return errors.Join(errs...)
}

func (r *Runner) gatherStream(ctx context.Context, src Source, runs []*activeRun) (err error) {
	defer r.contain("reading a stream", &err)
	if err := r.gather(ctx, src); err != nil {
		return err
	}
	return r.backfillAll(ctx, src, runs)
}

// contain, deferred, makes an error of a panic: it ends what was being done, not the daemon.
func (r *Runner) contain(doing string, err *error) {
	if p := recover(); p != nil {
		r.log.Error("panic", "doing", doing, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = errors.Join(*err, fmt.Errorf("panic while %s", doing))
	}
}
