package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
)

func newReconcileCommand(a *app) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Prove that every row of the source is delivered, pending or dead; name and enter what is missing",
		Long: `Hold the rows of the source against the ledger: of each row, and each webhook that wants it by its chatbot, types
and from, the ledger has to know what became of it. What it does not know is missing: it is named, and entered, so that
it is sent with the webhook's next run, or at once by a daemon where the webhook is immediate. Safe beside a daemon,
which does this every night by itself (reconcile in the configuration). New rows are gathered first.

Looked at are the rows created in the last days (reconcile.days and today, by UTC days), or since --since; in streams
with updated or deleted, those changed since. Rows without such a time are always looked at.

What is counted: source = delivered + pending + dead + missing. A row that two webhooks are owed counts twice. A row that
has just come, or that a backfill has yet to come to, is not counted; nor is one that the webhook did not want when it
came (it wanted other chatbots or types then) or that a stream reset went past, where it is not in the ledger.

Exit codes: 0 nothing was missing; 3 rows were missing, whether or not they could be entered; 1 a database failed or a
stream stopped.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := timeFlag("--since", since)
			if err != nil {
				return err
			}
			if from.After(time.Now()) {
				return usageErrorf("--since %s lies ahead: no row was created since", since)
			}
			return a.reconcile(cmd.Context(), from)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "rows created since this time, such as 2026-01-31 or 2026-01-31T12:00:00Z (default: reconcile.days ago)")
	return cmd
}

// The shapes of `reconcile --json`.
type (
	reconcileReport struct {
		Since   time.Time       `json:"since"`
		Missing int             `json:"missing"`
		Entered int             `json:"entered"`
		Unread  int             `json:"unread"` // not counted below: a backfill, or the next scan, has yet to come by
		Streams []balanceReport `json:"streams"`
		Rows    []missedReport  `json:"rows"` // of what was missing the first thousand
	}
	counts struct {
		Source    int `json:"source"`
		Delivered int `json:"delivered"`
		Pending   int `json:"pending"`
		Dead      int `json:"dead"`
		Missing   int `json:"missing"`
	}
	balanceReport struct {
		Type    string `json:"type"`
		Chatbot string `json:"chatbot"`
		counts
		Days []dayReport `json:"days"`
	}
	dayReport struct {
		Day *string `json:"day"` // null: rows without a time
		counts
	}
	missedReport struct {
		Type    string  `json:"type"`
		Chatbot string  `json:"chatbot"`
		Webhook string  `json:"webhook"`
		Row     string  `json:"row"`
		Day     *string `json:"day"`
	}
)

func (a *app) reconcile(ctx context.Context, since time.Time) error {
	return a.withBoth(ctx, func(p *parts) error { return a.reconcileWith(ctx, p, since) }, "http", "push", "reconcile")
}

func (a *app) reconcileWith(ctx context.Context, p *parts, since time.Time) (err error) {
	if p.sink, err = newSink(p.config); err != nil {
		return err
	}
	if since.IsZero() {
		since = jobs.Window(p.ledger.Now(), p.config.Reconcile.Days)
	}
	show, shown := a.countProgress("holding rows against the ledger")
	done, err := p.runner(a, commandPatience).Reconcile(ctx, since, show)
	shown()
	if err != nil && len(done.Balances) == 0 {
		return err
	}
	if a.json {
		err = errors.Join(err, a.printJSON(reportReconciled(&done)))
	} else {
		var types []string
		for _, src := range p.streams {
			types = append(types, src.Type())
		}
		err = errors.Join(err, a.printReconciled(&done, types))
	}
	if err == nil && done.Total.Missing > 0 {
		return &exitError{code: exitPending}
	}
	return err
}

func reportReconciled(done *jobs.Reconciliation) reconcileReport {
	r := reconcileReport{
		Since: done.Since, Missing: done.Total.Missing, Entered: done.Entered, Unread: done.Unread,
		Streams: make([]balanceReport, len(done.Balances)), Rows: make([]missedReport, len(done.Named)),
	}
	for i, b := range done.Balances {
		days := make([]dayReport, len(b.Days))
		for j, d := range b.Days {
			days[j] = dayReport{dayText(d.Day), counts(d.Count)}
		}
		r.Streams[i] = balanceReport{b.Type, b.Chatbot, counts(b.Count), days}
	}
	for i, m := range done.Named {
		r.Rows[i] = missedReport{m.Type, m.Chatbot, m.Webhook, m.Row, dayText(m.Day)}
	}
	return r
}

// dayText is a day as it is written; nil: none is known.
func dayText(day time.Time) *string {
	if day.IsZero() {
		return nil
	}
	text := day.Format(time.DateOnly)
	return &text
}

// shownAtMost is how many lines a list of what is missing has: the rest is in --json.
const shownAtMost = 50

// printReconciled prints the sums of each type, and of chatbots and days only those in which something was missing: there
// may be ten thousand of them.
func (a *app) printReconciled(done *jobs.Reconciliation, types []string) error {
	out := a.stdout
	sums := map[string]*jobs.Count{}
	for _, typ := range types {
		sums[typ] = &jobs.Count{}
	}
	for i := range done.Balances {
		sums[done.Balances[i].Type].Add(done.Balances[i].Count)
	}
	fmt.Fprintf(out, "rows since %s:\n", done.Since.Format("2006-01-02 15:04 MST"))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TYPE\tOWED\tDELIVERED\tPENDING\tDEAD\tMISSING")
	for _, typ := range types {
		c := sums[typ]
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\n", typ, c.Source, c.Delivered, c.Pending, c.Dead, c.Missing)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if done.Unread > 0 {
		fmt.Fprintf(out, "%d more %s not gathered yet: a backfill has yet to come by, or they have just come\n", done.Unread, are(done.Unread))
	}
	if done.Total.Missing == 0 {
		return nil
	}
	fmt.Fprintln(out, "\nWhere something was missing:")
	fmt.Fprintln(t, "TYPE\tCHATBOT\tDAY\tOWED\tDELIVERED\tPENDING\tDEAD\tMISSING")
	lines := 0
	for _, b := range done.Balances {
		for _, d := range b.Days {
			if d.Missing == 0 {
				continue
			}
			if lines++; lines <= shownAtMost {
				day := "unknown"
				if text := dayText(d.Day); text != nil {
					day = *text
				}
				printRow(t, b.Type, b.Chatbot, day, d.Source, d.Delivered, d.Pending, d.Dead, d.Missing)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	andMore(out, lines-shownAtMost, "chatbots and days")
	fmt.Fprintf(out, "\nMissing, of which %d %s entered now:\n", done.Entered, are(done.Entered))
	fmt.Fprintln(t, "TYPE\tROW\tCHATBOT\tWEBHOOK")
	for _, m := range done.Named[:min(len(done.Named), shownAtMost)] {
		printRow(t, m.Type, m.Row, m.Chatbot, m.Webhook)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	andMore(out, done.Total.Missing-shownAtMost, "rows")
	return nil
}

// andMore says how many lines a list was cut by.
func andMore(out io.Writer, n int, what string) {
	if n > 0 {
		fmt.Fprintf(out, "and %d more %s: see --json\n", n, what)
	}
}
