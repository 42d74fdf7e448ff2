package ledger

import (
	"context"
	"database/sql"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// GatherDone says that all pages of a run were read.
func (l *Ledger) GatherDone(ctx context.Context, id string) error {
	return l.changeOne(ctx, "end the gathering of run "+id, sqlGatherDone, id, false)
}

// Orphans gives this lease the scheduled runs that were left gathering, and returns all that it has; and ends the manual
// ones whose process is gone. Scheduled ones that were gathered need no owner: their records are claimed by anyone, and
// EndRuns ends them.
func (l *Ledger) Orphans(ctx context.Context, lease string) ([]jobs.Run, error) {
	var runs []jobs.Run
	err := l.change(ctx, "take over orphaned runs", func(ctx context.Context, t *tx) error {
		runs = nil
		if err := t.hold(ctx, lease); err != nil {
			return err
		}
		if _, err := t.exec(ctx, sqlEndManual, lease, t.now); err != nil {
			return err
		}
		return t.each(ctx, sqlOrphans, []any{lease, t.now}, func(rows *sql.Rows) error {
			r, err := scanRun(rows)
			runs = append(runs, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return runs, nil
}

// EndRuns closes the runs that are gathered and have nothing under way, but for records whose webhook was held or
// disabled since: these stay pending and are counted so.
func (l *Ledger) EndRuns(ctx context.Context) (ended []jobs.Run, err error) {
	err = l.change(ctx, "end runs", func(ctx context.Context, t *tx) error {
		ended = nil
		collect := func(to *[]jobs.Run) func(*sql.Rows) error {
			return func(rows *sql.Rows) error {
				r, err := scanRun(rows)
				*to = append(*to, r)
				return err
			}
		}
		if err := t.each(ctx, sqlEndRuns, []any{t.now}, collect(&ended)); err != nil {
			return err
		}
		var open []jobs.Run
		err := t.each(ctx, sqlOpenRuns, nil, collect(&open))
		for i := 0; i < len(open) && err == nil; i++ {
			err = t.endStalled(ctx, &open[i], collect(&ended))
		}
		return err
	})
	return ended, err
}

// tryingOn is how long after the last retry offset a run waits for the probe of a held webhook.
const tryingOn = 30 * time.Second

// endStalled ends a run of which nothing is under way but records that cannot be sent.
func (t *tx) endStalled(ctx context.Context, r *jobs.Run, ended func(*sql.Rows) error) error {
	var stopped []string
	err := t.each(ctx, sqlStopped, []any{r.StartedAt}, func(rows *sql.Rows) error {
		var id string
		var state jobs.WebhookState
		var offsets []string
		var since time.Time
		if err := rows.Scan(&id, &state, list{&offsets}, instant{&since}); err != nil {
			return err
		}
		retryAt, err := parseOffsets(id, offsets)
		if state == jobs.Held && t.now.Sub(since) <= lastOffset(retryAt)+tryingOn {
			return err // it is still being tried, as its records would be
		}
		stopped = append(stopped, id)
		return err
	})
	if err != nil || len(stopped) == 0 {
		return err
	}
	var stalled int
	if err := t.one(ctx, sqlStalled, []any{r.ID, stopped}, &stalled); err != nil || stalled == 0 {
		return err
	}
	return t.each(ctx, sqlEndStalled, []any{t.now, r.ID, stalled}, ended)
}
