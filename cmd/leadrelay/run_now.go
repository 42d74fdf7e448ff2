package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
)

const (
	commandPatience = 30 * time.Second // with a database that is away
	countedWithin   = 30 * time.Second // what is owed beside the run
)

type runNowOptions struct {
	scope  jobs.Scope
	dryRun bool
	noWait bool
}

func newRunNowCommand(a *app) *cobra.Command {
	var o runNowOptions
	cmd := &cobra.Command{
		Use:   "run-now",
		Short: "Gather, push all that is pending, and wait for the retries",
		Long: `Gather new records, then push all that is pending for these webhooks, new or left from spent rounds, and
wait for the retries (--no-wait: for first attempts only). Safe beside a daemon: no record is pushed twice, and
what it is sending to these webhooks is waited for. What a process that died was sending is taken over when its lease
has run out, half a minute later at most.

What is counted: gathered (taken on without any attempt before) + carried (from earlier rounds)
= delivered + test answers + pending + dead. failed of the pending have spent their round in this run and wait for
their webhook's next scheduled fire. Of a held webhook one record is tried, which is not counted, and where it is
acknowledged the rest is sent. Test answers are acknowledgements by "Success: test request received".

A signal (Ctrl-C): take no more, let requests under way end, record them. A second one ends it at once, which leaves what
was under way to be sent again.

Exit codes: 0 everything of the run is delivered; 3 something of it is not, or with --no-wait is still being sent elsewhere,
or a webhook that is held, or that HTTP 410 disabled,
is owed something; 1 a database failed, or was away for
30 seconds, or a stream stopped.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runNow(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.scope.Webhooks, "webhook", nil, "only this webhook's records (repeatable)")
	f.StringArrayVar(&o.scope.Chatbots, "chatbot", nil, "only this chatbot's records (repeatable)")
	f.StringArrayVar(&o.scope.Types, "type", nil, "only records of this type (repeatable)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the signed requests; send and record nothing")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait for retries; the daemon, or the next run, makes them")
	return cmd
}

// runResult is `run-now --json`.
type runResult struct {
	Run         string  `json:"run"`
	Gathered    int     `json:"gathered"`
	Carried     int     `json:"carried"`
	Delivered   int     `json:"delivered"`
	TestAnswers int     `json:"test_answers"`
	Failed      int     `json:"failed"`
	Pending     int     `json:"pending"`
	Dead        int     `json:"dead"`
	Seconds     float64 `json:"seconds"`
}

func (a *app) runNow(ctx context.Context, o runNowOptions) (err error) {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	for _, typ := range o.scope.Types {
		if err := knownType(c, typ); err != nil {
			return usageErrorf("--type %s: %w", typ, err)
		}
	}
	if o.dryRun {
		return a.dryRun(ctx, c, o)
	}
	began := time.Now()
	p, err := a.open(ctx, c, commandPatience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.provision(ctx, a, commandPatience); err != nil {
		return err
	}
	if err := p.webhookSource(a).first(ctx, commandPatience); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { a.log.Info("stopping: requests under way are let to end; a second signal ends it at once") })()
	show, shown := a.runProgress()
	run, err := p.runner(a, commandPatience).RunNow(ctx, o.scope, o.noWait, show)
	shown()
	if errors.Is(err, jobs.ErrNotFound) && run.ID == "" {
		return &exitError{code: exitUsage, err: err}
	}
	if run.ID == "" {
		return err
	}
	result := runResult{
		Run: run.ID, Gathered: run.Gathered, Carried: run.Carried, Delivered: run.Delivered, TestAnswers: run.TestAnswers,
		Failed: run.Failed, Pending: run.Pending(), Dead: run.Dead, Seconds: time.Since(began).Round(time.Millisecond).Seconds(),
	}
	if printed := a.printRun(result); printed != nil {
		return errors.Join(err, printed)
	}
	asking, cancel := context.WithTimeout(ctx, countedWithin)
	defer cancel()
	defer context.AfterFunc(asking, func() { p.drop("", time.Now()) })() // the driver would wait on
	if run.Gathered+run.Carried == 0 && err == nil {
		a.hintOlder(asking, p, o.scope)
	}
	heldBack := 0
	var uncounted error
	if err == nil {
		heldBack, uncounted = a.hintElsewhere(asking, p, o.scope, result.Pending)
	}
	if run.Elsewhere > 0 {
		fmt.Fprintf(a.hintWriter(), "Not waited for: %s that another process was sending. If it died the daemon sends them again within a minute, or the next run does.\n", countOf(run.Elsewhere, "record"))
	}
	switch {
	case err != nil:
		return err
	case uncounted != nil && ctx.Err() == nil: // it may be that nothing is owed, and it may be that something is
		return uncounted
	case result.Pending > 0 || result.Dead > 0 || run.Elsewhere > 0 || heldBack > 0:
		return &exitError{code: exitPending}
	case ctx.Err() != nil:
		return &exitError{code: exitFailed, err: errors.New("interrupted")}
	}
	return nil
}

func (a *app) printRun(r runResult) error {
	if a.json {
		return a.printJSON(r)
	}
	_, err := fmt.Fprintf(a.stdout, "gathered %d, carried %d: delivered %d, pending %d (%d failed in this run), dead %d; %.1f s\n",
		r.Gathered, r.Carried, r.Delivered, r.Pending, r.Failed, r.Dead, r.Seconds)
	if err == nil && r.TestAnswers > 0 {
		_, err = fmt.Fprintf(a.stdout, "%d more were acknowledged only as test requests: some CRMs say so and drop the record (see leadrelay status)\n", r.TestAnswers)
	}
	return err
}

// hintOlder says, where a run found nothing and its webhooks never had anything, how many rows are older than they.
func (a *app) hintOlder(ctx context.Context, p *parts, scope jobs.Scope) {
	counts, err := p.olderRows(ctx, scope)
	if err != nil {
		a.log.Debug("older rows were not counted", "error", err)
		return
	}
	for _, c := range counts {
		fmt.Fprintf(a.hintWriter(), "Nothing to send: %s for webhook %s %s older than the webhook. To send older rows: leadrelay backfill --webhook %[2]s\n", countOf(c.rows, "row"), c.webhook, are(c.rows))
	}
}

// hintElsewhere says what is owed to the scope's webhooks and is not this run's, and counts what of it is owed to those
// that are held, or were disabled by no operator: without the rest the run may end well.
func (a *app) hintElsewhere(ctx context.Context, p *parts, scope jobs.Scope, pending int) (heldBack int, err error) {
	of, err := p.ledger.Owed(ctx, scope)
	if err != nil {
		return 0, err
	}
	set, err := p.ledger.Webhooks(ctx)
	if err != nil {
		return 0, err
	}
	owed, stands, named := -pending, 0, 0
	for _, n := range of {
		owed += n
	}
	for i := range set.Webhooks {
		w := &set.Webhooks[i]
		n := of[w.ID]
		if w.State == jobs.Active || n == 0 {
			continue
		}
		stands += n
		// Whoever disabled a webhook knows of it, unless it is this one that the run is for.
		if byOperator := w.StateReason == jobs.ReasonByHand || w.StateReason == jobs.ReasonNotYAML || w.StateReason == jobs.ReasonNotRow; !byOperator || scope.Webhooks != nil {
			heldBack += n
		}
		if named++; named <= 20 {
			fmt.Fprintf(a.hintWriter(), "Webhook %s is %s, with %s pending: %s\n", w.ID, w.State, countOf(n, "record"), shown(w.StateReason))
		}
	}
	if owed > stands {
		fmt.Fprintf(a.hintWriter(), "Not in this run: %s that wait for a retry or another run. See leadrelay delivery list --state pending\n", countOf(owed-stands, "record"))
	}
	return heldBack, nil
}

// hintWriter is where advice goes: beside the result, or out of the way of a JSON document.
func (a *app) hintWriter() io.Writer {
	if a.json {
		return a.stderr
	}
	return a.stdout
}

type olderRows struct {
	webhook string
	rows    int
}

// olderRows counts, for webhooks in scope that never had a delivery, the rows that are older than they.
func (p *parts) olderRows(ctx context.Context, scope jobs.Scope) ([]olderRows, error) {
	set, err := p.ledger.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	statuses, err := p.ledger.Status(ctx)
	if err != nil {
		return nil, err
	}
	had := map[string]bool{}
	for _, s := range statuses {
		had[s.Webhook] = s.Pending+s.Sending+s.Delivered+s.TestAnswers+s.Dead > 0
	}
	chatbots := map[string][]string{}
	for _, w := range set.Webhooks {
		if w.State == jobs.Active && !had[w.ID] && (scope.Webhooks == nil || slices.Contains(scope.Webhooks, w.ID)) {
			chatbots[w.ID] = w.Chatbots
		}
	}
	rows := map[string]int{}
	var found []olderRows
	const most = 20 // webhooks counted: this is a hint, and each may read a whole table
	for _, sub := range set.Subscriptions {
		wanted, ok := chatbots[sub.Webhook]
		if !ok || sub.Until != "" || len(rows) >= most {
			continue
		}
		for _, src := range p.streams {
			if src.Type() != sub.Type {
				continue
			}
			n, err := src.CountOlder(ctx, sub.Start, wanted, time.Time{}, time.Time{})
			if err != nil {
				return nil, err
			}
			rows[sub.Webhook] += n
		}
	}
	for webhook, n := range rows {
		if n > 0 {
			found = append(found, olderRows{webhook, n})
		}
	}
	slices.SortFunc(found, func(a, b olderRows) int { return b.rows - a.rows })
	return found, nil
}
