package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sources"
)

func newStreamCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "stream", Short: "Show and reset the streams' bookmarks"}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "Print the streams' bookmarks, gaps and lag",
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.streamList(cmd.Context()) },
	})
	var to string
	reset := &cobra.Command{
		Use:   "reset TYPE --to now|ID",
		Short: "Say where a stream goes on, after its database was restored or its table changed",
		Long: `Set a stream's bookmark: to the table's end as it is now (--to now), or behind the row with this id (--to ID;
--to 0 is before every row of a table with integer ids). Rows that were delivered before are not sent again: their keys are in the ledger.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.streamReset(cmd.Context(), args[0], to) },
	}
	reset.Flags().StringVar(&to, "to", "", "now, or a row's id")
	_ = reset.MarkFlagRequired("to")
	cmd.AddCommand(reset)
	return cmd
}

func (a *app) streamList(ctx context.Context) error {
	var streams []streamReport
	err := a.withLedger(ctx, func(p *parts) (err error) {
		streams, err = a.reportStreams(ctx, p)
		return err
	}, "source", "streams")
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"streams": streams})
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tBOOKMARK\tGAPS\tLAG\tSTOPPED")
	for _, s := range streams {
		lag := "unknown"
		if s.Lag != nil {
			lag = time.Duration(*s.Lag * float64(time.Second)).Round(time.Second).String()
		}
		printRow(t, s.Type, s.Bookmark, s.Gaps, lag, dash(s.Error))
	}
	return t.Flush()
}

// A resettable source knows the position behind one row.
type resettable interface {
	At(ctx context.Context, row string) (jobs.Bookmark, error)
}

func (a *app) streamReset(ctx context.Context, typ, to string) error {
	return a.withBoth(ctx, func(p *parts) error { return a.resetStream(ctx, p, typ, to) })
}

func (a *app) resetStream(ctx context.Context, p *parts, typ, to string) (err error) {
	for _, src := range p.streams {
		if src.Type() != typ {
			continue
		}
		var at jobs.Bookmark
		if to == "now" {
			at, err = src.End(ctx)
		} else {
			at, err = src.(resettable).At(ctx, to)
		}
		if sources.IsNoRow(err) {
			return usageErrorf("--to %s: %w; write now or a row's id", to, err)
		}
		if err != nil {
			return fmt.Errorf("--to %s: %w", to, err)
		}
		if err := restart(ctx, p.ledger, src, at); err != nil {
			return err
		}
		if err := p.ledger.ResetStream(ctx, typ, src.Definition(), at); err != nil {
			return err
		}
		position, _ := src.Describe(at)
		if a.json {
			return a.printJSON(map[string]string{"type": typ, "bookmark": position})
		}
		_, err = fmt.Fprintf(a.stdout, "stream %s goes on behind %s\n", typ, shown(position))
		return err
	}
	return usageErrorf("the configuration has no stream %s", typ)
}

// restart lets the webhooks begin at a stream's new bookmark where it is another stream than the ledger knows: their
// beginnings are words of the old one, which mean nothing now. A backfill that was under way begins again.
func restart(ctx context.Context, l jobs.Ledger, src jobs.Source, at jobs.Bookmark) error {
	for {
		st, err := l.Stream(ctx, src.Type())
		if err != nil || st.Definition == src.Definition() {
			return err
		}
		set, err := l.Webhooks(ctx)
		if err != nil {
			return err
		}
		change := jobs.Change{Generation: set.Generation}
		for _, sub := range set.Subscriptions {
			if sub.Type != src.Type() {
				continue
			}
			sub.Start = at
			if sub.Until != "" {
				sub.Backfill, sub.Until = "", at
			}
			change.Subscriptions = append(change.Subscriptions, sub)
		}
		if len(change.Subscriptions) == 0 {
			return nil
		}
		if err := l.ChangeWebhooks(ctx, change); !errors.Is(err, jobs.ErrBookmarkMoved) {
			return err
		}
	}
}
