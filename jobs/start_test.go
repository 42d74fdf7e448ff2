package jobs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestStartInADaemon: a run that is begun by hand in a daemon takes on the records of its scope, new and pending, at
// once, is retried as any, and ends by itself; what is out of scope waits for its fire.
func TestStartInADaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other"))
		defer b.close()
		b.crm.answer = func(a attempt) error {
			if a.body == "Lead 2" {
				return refuse(a)
			}
			return nil
		}
		b.leads.add("bot", 2)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
		defer cancel()
		r := b.runner()
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- r.Serve(ctx, func() { close(ready) }) }()
		<-ready
		time.Sleep(time.Hour)
		start := time.Now()
		run, err := r.Start(ctx, jobs.Scope{Webhooks: []string{"acme"}})
		if err != nil {
			t.Fatal(err)
		}
		if run.Kind != jobs.Manual || !run.EndedAt.IsZero() {
			t.Errorf("the run as it is begun: %+v", run)
		}
		if _, err := r.Start(ctx, jobs.Scope{Webhooks: []string{"nobody"}}); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("a run of a webhook that there is not: %v", err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]time.Duration{0, 0, time.Minute, 3 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if got := b.crm.times("other", start); len(got) != 0 {
			t.Errorf("attempts for a webhook out of scope: %v", got)
		}
		if run, err = b.ledger.Run(context.Background(), run.ID); err != nil {
			t.Fatal(err)
		}
		if run.EndedAt.IsZero() || run.Gathered != 2 || run.Delivered != 1 || run.Failed != 1 {
			t.Errorf("the run in the end: %+v", run)
		}
	})
}

// TestStartWithoutADaemon: a run that no runner takes on is an error, and does not stay open.
func TestStartWithoutADaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.leads.add("bot", 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.runner().Start(ctx, jobs.Scope{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is begun: %v", err)
		}
		b.serve(time.Hour)
		runs, next, err := b.ledger.ListRuns(context.Background(), 10, "")
		if err != nil || len(runs) != 1 || next != "" || runs[0].EndedAt.IsZero() {
			t.Errorf("runs: %+v, %q, %v", runs, next, err)
		}
	})
}
