package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
)

func newBackfillCommand(a *app) *cobra.Command {
	var webhook, since, until string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "backfill --webhook ID",
		Short: "Enter rows that are older than a webhook",
		Long: `Let a webhook have the rows that were there before it was entered. What was delivered to it before is not sent
again. The rows are pushed by the webhook's next run (leadrelay run-now --webhook ID), or within some ten seconds by a
daemon where the webhook is immediate. Rows without a creation time are among them whatever --since and --until say.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := timeFlag("--since", since)
			if err != nil {
				return err
			}
			before, err := timeFlag("--until", until)
			if err != nil {
				return err
			}
			if !before.IsZero() && !from.Before(before) {
				return usageErrorf("--until %s is not after --since %s: no row was created between them", until, since)
			}
			return a.backfill(cmd.Context(), webhook, from, before, dryRun)
		},
	}
	f := cmd.Flags()
	f.StringVar(&webhook, "webhook", "", "the webhook")
	f.StringVar(&since, "since", "", "only rows created since this time, such as 2026-01-31 or 2026-01-31T12:00:00Z")
	f.StringVar(&until, "until", "", "only rows created before this time; 2026-02-01 is that day's beginning")
	f.BoolVar(&dryRun, "dry-run", false, "count the rows only")
	_ = cmd.MarkFlagRequired("webhook")
	return cmd
}

// timeFlag reads a time that may be left out.
func timeFlag(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := parseTime(text)
	if err != nil {
		return t, usageErrorf("%s %w", flag, err)
	}
	return t, nil
}

// parseTime reads a date or a time as people type them; without a zone it is UTC.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-01-31 or 2026-01-31T12:00:00Z", text)
}

func (a *app) backfill(ctx context.Context, webhook string, since, before time.Time, dryRun bool) error {
	rows := 0
	err := a.withBoth(ctx, func(p *parts) (err error) {
		rows, err = jobs.BackfillByHand(ctx, p.ledger, p.streams, webhook, since, before, dryRun)
		return err
	})
	if errors.Is(err, jobs.ErrNotFound) {
		return &exitError{code: exitUsage, err: err}
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"webhook": webhook, "rows": rows, "begun": !dryRun && rows > 0})
	}
	within := ""
	if !since.IsZero() {
		within += ", created since " + since.Format(time.RFC3339)
	}
	if !before.IsZero() {
		within += ", created before " + before.Format(time.RFC3339)
	}
	switch {
	case rows == 0:
		_, err = fmt.Fprintf(a.stdout, "no row is older than webhook %s%s\n", webhook, within)
	case dryRun:
		_, err = fmt.Fprintf(a.stdout, "%s %s older than webhook %s%s\n", countOf(rows, "row"), are(rows), webhook, within)
	default:
		_, err = fmt.Fprintf(a.stdout, "%s %s older than webhook %s%s; its next run sends what it has not had: leadrelay run-now --webhook %[3]s\n", countOf(rows, "row"), are(rows), webhook, within)
	}
	return err
}
