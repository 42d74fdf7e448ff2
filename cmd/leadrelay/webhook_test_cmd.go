package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
)

func newWebhookTestCommand(a *app) *cobra.Command {
	var reveal bool
	cmd := &cobra.Command{
		Use:   "test ID",
		Short: "Send one marked sample the way records go, and say what is wrong with the answer",
		Long: `Send one sample to a webhook by the way that records go: its dialect, sign key, headers, TLS, proxy, address check,
timeout and answer rule. The sample is marked (X-Webhook-Test: 1, FirstName Test) and is no delivery: nothing is recorded,
and rates and schedules play no part. A disabled webhook is tested too.

Printed are what is wrong and what to do, the request, and the answer, at most the first 8 KiB of its body. Sign keys, the
values of the webhook's headers, cookies and the rest of the URL are redacted wherever they stand; so is all but the
beginning of a signature that never expires. --reveal shows URL, redirects and signatures whole.

Exit codes: 0 the CRM accepted the sample; 3 it did not, or it was not reached; 2 there is no such webhook; 1 the ledger
failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.webhookTest(cmd.Context(), args[0], reveal) },
	}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "print the URL, redirects and signatures in full")
	return cmd
}

func (a *app) webhookTest(ctx context.Context, id string, reveal bool) (err error) {
	c, err := a.loadConfig("ledger", "secrets_key_file", "streams", "http", "push")
	if err != nil {
		return err
	}
	p := &parts{config: c}
	defer func() { err = errors.Join(err, p.Close()) }()
	if p.sink, err = newSink(c); err != nil {
		return err
	}
	if p.ledger, err = a.openLedger(ctx, c); err != nil {
		return err
	}
	trial, err := desk{parts: p}.Test(ctx, id, reveal)
	switch {
	case errors.Is(err, jobs.ErrNotFound) && slices.ContainsFunc(c.Webhooks, func(w jobs.Webhook) bool { return w.ID == id }):
		return usageErrorf("%w yet: leadrelay serve or run-now enters what the configuration names", err)
	case errors.Is(err, jobs.ErrNotFound):
		return &exitError{code: exitUsage, err: err}
	case err != nil:
		return err
	}
	trial.Notes = append(trial.Notes, notProvisioned(c.Webhooks, id, trial)...)
	if a.json {
		err = a.printJSON(trial)
	} else {
		err = a.printTrial(id, trial)
	}
	if err == nil && !trial.OK {
		return &exitError{code: exitPending}
	}
	return err
}

// notProvisioned says so where what the configuration says of a webhook has not come into the ledger yet: it is tested
// as the daemons know it. Texts that refer to the environment are not compared.
func notProvisioned(webhooks []jobs.Webhook, id string, trial jobs.Trial) []string {
	for _, w := range webhooks {
		if text := w.URL.Reveal(); w.ID == id && !strings.Contains(text, "${") && trial.Request.URL != jobs.MaskedURL(w.URL) && trial.Request.URL != text {
			return []string{"The configuration file has another URL than the ledger: leadrelay serve or run-now brings it in."}
		}
	}
	return nil
}

// Test sends one sample to a webhook, by the way that records go, and records nothing. The error is jobs.ErrNotFound,
// the ledger's or ctx's; whatever is wrong with the webhook or its CRM is in the Trial, which holds no secrets. reveal
// shows the whole URL.
func (d desk) Test(ctx context.Context, id string, reveal bool) (jobs.Trial, error) {
	webhooks, err := d.Webhooks(ctx)
	if err != nil {
		return jobs.Trial{}, err
	}
	i := slices.IndexFunc(webhooks, func(w jobs.Webhook) bool { return w.ID == id })
	if i < 0 {
		return jobs.Trial{}, fmt.Errorf("webhook %s: %w", id, jobs.ErrNotFound)
	}
	w, now := &webhooks[i], time.Now()
	rec := sample(w, d.config.Streams, d.sink.Event, now)
	body, err := d.sink.Encode(w, &rec, now)
	if err != nil { // a constant of the configuration that the dialect cannot send
		return jobs.Trial{}, fmt.Errorf("the sample of type %s: %w", rec.Type, err)
	}
	trial, err := d.sink.Try(ctx, jobs.Request{Webhook: w, ID: uuid.New(), Body: body, Attempt: 1}, reveal)
	if err != nil {
		return jobs.Trial{}, err
	}
	if w.State != jobs.Active {
		state := string(w.State)
		if w.StateReason != "" {
			state += " (" + w.StateReason + ")"
		}
		then := "run-now tries one record, and sends the rest if it is acknowledged"
		if w.State == jobs.Disabled {
			then = "webhook enable lets it send again"
		}
		trial.Notes = append(trial.Notes, "The webhook is "+state+": its records are not sent, tests are. leadrelay "+then+".")
	}
	return trial, nil
}

func (a *app) printTrial(id string, t jobs.Trial) error {
	var b strings.Builder
	if t.OK {
		fmt.Fprintf(&b, "webhook %s: the test was accepted\n", id)
	} else {
		fmt.Fprintf(&b, "webhook %s: the test failed: %s\n", id, strings.TrimSpace(t.Code+" "+t.Detail))
	}
	fmt.Fprintf(&b, "%s\n", shown(t.Reason))
	for _, note := range t.Notes {
		fmt.Fprintf(&b, "Note: %s\n", shown(note))
	}
	sent := "sent"
	if !t.Request.Sent {
		sent = "not sent"
	}
	fmt.Fprintf(&b, "\n--- request, %s\n%s %s\n", sent, t.Request.Method, t.Request.URL)
	printMessage(&b, t.Request.Headers, t.Request.Body)
	if t.Answer == nil {
		b.WriteString("--- no answer\n")
	} else {
		fmt.Fprintf(&b, "--- answer, after %.3f s\n%s\n", t.Answer.Seconds, t.Answer.Line)
		printMessage(&b, t.Answer.Headers, t.Answer.Body)
		if t.Answer.Cut {
			b.WriteString("--- cut here: there may be more of the answer\n")
		}
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

func printMessage(b *strings.Builder, headers map[string]string, body string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(b, "%s: %s\n", name, headers[name])
	}
	fmt.Fprintf(b, "\n%s\n\n", body)
}
