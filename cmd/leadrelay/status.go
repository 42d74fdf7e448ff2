package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print what is pending, failing, delivered and dead, by webhook, and where the streams are",
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// The shapes of `status --json`.
type (
	statusReport struct {
		Webhooks []webhookReport `json:"webhooks"`
		Streams  []streamReport  `json:"streams"`
	}
	webhookReport struct {
		ID            string     `json:"id"`
		Chatbot       any        `json:"chatbot"` // a text, or a list of several
		URL           string     `json:"url"`
		Dialect       string     `json:"dialect"`
		State         string     `json:"state"`
		StateReason   string     `json:"state_reason"`
		Pending       int        `json:"pending"`
		Failing       int        `json:"failing"`
		Sending       int        `json:"sending"`
		Delivered     int        `json:"delivered"`
		TestAnswers   int        `json:"test_answers"`
		Dead          int        `json:"dead"`
		OldestPending *time.Time `json:"oldest_pending"`
		LastError     string     `json:"last_error"`
		LastRun       *time.Time `json:"last_run"`
		NextRun       *time.Time `json:"next_run"`
	}
	streamReport struct {
		Type     string   `json:"type"`
		Bookmark string   `json:"bookmark"`
		Gaps     int      `json:"gaps"`
		Lag      *float64 `json:"lag_seconds"` // null: the source did not answer
		Error    string   `json:"error,omitempty"`
	}
)

func (a *app) status(ctx context.Context) (err error) {
	c, err := a.loadConfig("source", "ledger", "streams", "secrets_key_file")
	if err != nil {
		return err
	}
	p := &parts{config: c}
	defer func() { err = errors.Join(err, p.Close()) }()
	if p.ledger, err = a.openLedger(ctx, c); err != nil {
		return err
	}
	report := statusReport{Webhooks: []webhookReport{}, Streams: []streamReport{}}
	set, err := p.ledger.Webhooks(ctx)
	if err != nil {
		return err
	}
	counts, err := p.ledger.Status(ctx)
	if err != nil {
		return err
	}
	of := make(map[string]ledger.WebhookStatus, len(counts))
	for _, s := range counts {
		of[s.Webhook] = s
	}
	now := p.ledger.Now()
	for i := range set.Webhooks {
		report.Webhooks = append(report.Webhooks, reportWebhook(&set.Webhooks[i], of[set.Webhooks[i].ID], now))
	}
	if report.Streams, err = a.reportStreams(ctx, p); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(report)
	}
	return a.printStatus(report, now)
}

func reportWebhook(w *jobs.Webhook, s ledger.WebhookStatus, now time.Time) webhookReport {
	r := webhookReport{
		ID: w.ID, Chatbot: oneOrList(w.Chatbots), URL: jobs.MaskedURL(w.URL), Dialect: w.Dialect,
		State: string(w.State), StateReason: w.StateReason,
		Pending: s.Pending, Failing: s.Failing, Sending: s.Sending, Delivered: s.Delivered, TestAnswers: s.TestAnswers, Dead: s.Dead,
		OldestPending: known(s.OldestPending), LastError: s.LastError, LastRun: known(s.LastRun),
	}
	if schedule, err := jobs.ParseSchedule(w.Schedule, w.Timezone); err == nil && w.State != jobs.Disabled {
		r.NextRun = known(schedule.Next(now))
	}
	return r
}

func oneOrList(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

// known is nil for a time that is not known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// reportStreams asks the source how far behind the bookmarks are; where it is away the bookmarks are reported alone.
func (a *app) reportStreams(ctx context.Context, p *parts) ([]streamReport, error) {
	streams, err := p.ledger.AllStreams(ctx)
	if err != nil {
		return nil, err
	}
	reports := []streamReport{}
	if err := p.openSource(ctx); err != nil {
		a.log.Warn("the source did not answer; streams are reported without their lag", "error", err)
	}
	for _, st := range streams {
		r := streamReport{Type: st.Type, Bookmark: string(st.Bookmark), Error: st.Error}
		for _, src := range p.streams {
			if src.Type() != st.Type {
				continue
			}
			r.Bookmark, r.Gaps = src.Describe(st.Bookmark)
			lag, err := src.Lag(ctx, st.Bookmark)
			if err != nil {
				a.log.Warn("the lag of a stream is not known", "stream", st.Type, "error", err)
				continue
			}
			seconds := max(0, lag.Seconds())
			r.Lag = &seconds
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func (a *app) printStatus(r statusReport, now time.Time) error {
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WEBHOOK\tCHATBOT\tURL\tSTATE\tPENDING\tFAILING\tSENDING\tDELIVERED\tTEST ANSWERS\tDEAD\tLAST ERROR\tLAST RUN\tNEXT RUN")
	tests := 0
	for _, w := range r.Webhooks {
		state := w.State
		if w.StateReason != "" {
			state += " (" + w.StateReason + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", w.ID, chatbotText(w.Chatbot), w.URL, state,
			w.Pending, w.Failing, w.Sending, w.Delivered, w.TestAnswers, w.Dead, dash(w.LastError), ago(w.LastRun, now), ago(w.NextRun, now))
		tests += w.TestAnswers
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "STREAM\tBOOKMARK\tGAPS\tLAG")
	for _, s := range r.Streams {
		lag := "unknown"
		if s.Lag != nil {
			lag = time.Duration(*s.Lag * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", s.Type, s.Bookmark, s.Gaps, lag)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Streams {
		if s.Error != "" {
			fmt.Fprintf(a.stdout, "\nStream %s is stopped: %s\n", s.Type, s.Error)
		}
	}
	if tests > 0 {
		fmt.Fprintf(a.stdout, "\n%d records were acknowledged only as test requests. GoHighLevel says that when a workflow is unpublished, and drops the record.\n", tests)
	}
	return nil
}

func chatbotText(v any) string {
	if list, ok := v.([]string); ok {
		return fmt.Sprintf("%s +%d", list[0], len(list)-1)
	}
	if v == jobs.AllChatbots {
		return "* (all)"
	}
	return fmt.Sprint(v)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago words a time beside now.
func ago(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return "-"
	case t.After(now):
		return "in " + short(t.Sub(now))
	}
	return short(now.Sub(*t)) + " ago"
}

func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// openBoth opens the ledger that is there and the source's streams.
func (a *app) openBoth(ctx context.Context, c *config.Resolved) (*parts, error) {
	p := &parts{config: c}
	var err error
	if p.ledger, err = a.openLedger(ctx, c); err != nil {
		return nil, err
	}
	if err := p.openSource(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the source: %w", err), p.Close())
	}
	return p, nil
}
