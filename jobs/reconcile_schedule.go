package jobs

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// reconcileKey is the name under which the ledger keeps the fires of a schedule of reconciliations.
func reconcileKey(s *Schedule) string { return "reconcile " + s.Key() }

// keepReconciled reconciles whenever Options.ReconcileAt fires, once for all processes that do so at the same times,
// until ctx ends. Where the one that has a fire is killed, that one is lost: the next looks at the same days again.
func (r *Runner) keepReconciled(ctx context.Context) error {
	s := r.o.ReconcileAt
	if s == nil {
		return nil
	}
	loop := r.vigil.begin("the reconciliation")
	defer loop.End()
	ctx = loop.in(ctx)
	var last time.Time // fire
	for ctx.Err() == nil {
		if last.IsZero() {
			err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
				last, err = r.o.Ledger.LastFire(ctx, reconcileKey(s))
				return err
			})
			if err != nil {
				r.sayOnce("reconciling failed; trying again", "", err)
				rest(ctx, unreadable)
				continue
			}
		}
		now := r.o.Ledger.Now()
		if at, due := s.Last(last, now); due {
			r.sayOnce("reconciling failed", "", r.reconcileFor(ctx, last, at))
			last = at
			continue
		}
		rest(ctx, min(s.Next(last).Sub(now), max(r.o.Poll, time.Minute))) // clocks are set, and machines sleep
	}
	return ctx.Err()
}

// reconcileFor reconciles for a fire, unless another process does. Where this one is stopped the fire is left to others.
// Where the ledger's first answer was lost the fire may have been noted for this process: it reconciles then, which harms
// nobody where another one does as well.
func (r *Runner) reconcileFor(ctx context.Context, last, at time.Time) error {
	key, mine, asked := reconcileKey(r.o.ReconcileAt), false, 0
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
		asked++
		mine, err = r.o.Ledger.Fire(ctx, key, at)
		return err
	})
	if err != nil || !mine && asked == 1 {
		return err
	}
	began := time.Now()
	done, err := r.Reconcile(ctx, Window(r.o.Ledger.Now(), r.o.ReconcileDays), nil)
	if ctx.Err() != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return r.o.Ledger.Unfire(ending, key, at, last)
	}
	what := "reconciled"
	if err != nil {
		what = "reconciled in part"
	}
	r.logReconciled(what, &done, time.Since(began))
	return err
}

// loggedAtMost is how many missing rows a line of the log names.
const loggedAtMost = 10

func (r *Runner) logReconciled(what string, done *Reconciliation, took time.Duration) {
	t := &done.Total
	r.log.Info(what, "since", done.Since.Format(time.DateOnly), "owed", t.Source, "delivered", t.Delivered, "pending", t.Pending,
		"dead", t.Dead, "missing", t.Missing, "took", took.Round(time.Millisecond))
	if t.Missing == 0 {
		return
	}
	var rows []string
	for i := range done.Named[:min(len(done.Named), loggedAtMost)] {
		m := &done.Named[i]
		rows = append(rows, fmt.Sprintf("%s %s of chatbot %s for webhook %s", m.Type, m.Row, m.Chatbot, m.Webhook))
	}
	if more := t.Missing - len(rows); more > 0 {
		rows = append(rows, fmt.Sprintf("and %d more", more))
	}
	r.log.Warn("rows were missing from the ledger; they are entered and will be sent",
		"missing", t.Missing, "entered", done.Entered, "rows", strings.Join(rows, ", "))
}
