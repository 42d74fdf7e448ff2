package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print what is pending, failing, delivered and dead, by webhook, and where the streams are",
		Long: `Print what is pending, failing, delivered and dead, by webhook, and where the streams are.

Failing is of the pending what failed at least once. Delivered is without test answers, and dead without what is
superseded: such a version of a row is not sent since a newer one is, and that one is counted.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
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
			if why := st.Misfit(src); why != "" {
				r.Error = why
				continue
			}
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
