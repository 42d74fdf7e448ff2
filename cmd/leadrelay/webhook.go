package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/jobs"
)

func newWebhookCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "webhook", Short: "Enter, change, test and show webhooks and their sign keys"}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "Print the webhooks",
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.webhookList(cmd.Context()) },
	})
	var reveal bool
	show := &cobra.Command{
		Use:   "show ID [--reveal]",
		Short: "Print one webhook; with --reveal its whole URL, sign key and headers too",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.webhookShow(cmd.Context(), args[0], reveal) },
	}
	show.Flags().BoolVar(&reveal, "reveal", false, "print the URL, the sign key and the headers in full")
	cmd.AddCommand(show, newWebhookAddCommand(a), newWebhookSetCommand(a),
		newWebhookStateCommand(a, "enable", "Let a disabled or held webhook send again", jobs.Active),
		newWebhookStateCommand(a, "disable", "Stop a webhook; it still gathers, and sends nothing", jobs.Disabled),
		newWebhookRemoveCommand(a), newWebhookRotateCommand(a), newWebhookTestCommand(a))
	return cmd
}

// webhookDetail is `webhook show --json`, and an item of `webhook list --json`.
type webhookDetail struct {
	admin.Webhook
	SignKey string `json:"sign_key,omitempty"`
}

func detail(w *jobs.Webhook, reveal bool) webhookDetail {
	d := webhookDetail{Webhook: admin.ViewOf(w, reveal)}
	if reveal {
		d.SignKey = w.SignKey.Reveal()
		for name, value := range w.Headers {
			d.Headers[name] = value.Reveal()
		}
	}
	return d
}

func (a *app) registered(ctx context.Context) (set jobs.Registered, err error) {
	err = a.withLedger(ctx, func(p *parts) error {
		set, err = p.ledger.Webhooks(ctx)
		return err
	})
	return set, err
}

func (a *app) webhookList(ctx context.Context) error {
	set, err := a.registered(ctx)
	if err != nil {
		return err
	}
	items := []webhookDetail{}
	for i := range set.Webhooks {
		items = append(items, detail(&set.Webhooks[i], false))
	}
	if a.json {
		return a.printJSON(map[string]any{"items": items, "next": ""})
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WEBHOOK\tCHATBOT\tURL\tDIALECT\tTYPES\tSCHEDULE\tIMMEDIATE\tSTATE")
	for _, w := range items {
		printRow(t, w.ID, chatbotText(oneOrList(w.Chatbot)), w.URL, w.Dialect, listed(w.Types, "all"), w.Schedule+" "+w.Timezone, w.Immediate, w.State)
	}
	return t.Flush()
}

func (a *app) webhookShow(ctx context.Context, id string, reveal bool) error {
	set, err := a.registered(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(set.Webhooks, func(w jobs.Webhook) bool { return w.ID == id })
	if i < 0 {
		return usageErrorf("webhook %s: %w", id, jobs.ErrNotFound)
	}
	return a.printWebhook(&set.Webhooks[i], reveal)
}

func (a *app) printWebhook(w *jobs.Webhook, reveal bool) error {
	d := detail(w, reveal)
	if a.json {
		return a.printJSON(d)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { printRow(t, name+":", value) }
	line("id", d.ID)
	line("chatbot", chatbots(d.Chatbot))
	line("url", d.URL)
	if reveal {
		line("sign_key", d.SignKey)
	} else {
		line("sign_key", jobs.Secret("").String()+" (--reveal prints it)")
	}
	if d.SignKeyOf != "" {
		line("sign_key_of", d.SignKeyOf)
	}
	line("types", listed(d.Types, "all"))
	line("dialect", d.Dialect)
	line("schedule", d.Schedule+" "+d.Timezone)
	line("immediate", d.Immediate)
	line("retry_at", listed(d.RetryAt, "none"))
	line("rate", cmp.Or(d.Rate, "none"))
	line("ack", ackText(d.Ack))
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		line("header "+name, d.Headers[name])
	}
	line("from", d.From)
	line("description", dash(d.Description))
	if d.StateReason != "" {
		d.State += " (" + d.StateReason + ")"
	}
	line("state", d.State)
	line("entered_at", d.EnteredAt.Format(time.RFC3339))
	return t.Flush()
}

// ackText words an answer rule as the configuration writes it.
func ackText(document any) string {
	switch ack := document.(type) {
	case string:
		return ack
	case jobs.AckRule:
		text := "{path: " + scalar(ack.Path)
		if len(ack.Equals) > 0 {
			text += ", equals: " + listed(ack.Equals, "")
		}
		if len(ack.Prefix) > 0 {
			text += ", prefix: " + listed(ack.Prefix, "")
		}
		return text + "}"
	case []string:
		return listed(ack, "none")
	}
	return fmt.Sprint(document)
}

// listed words a list as the configuration writes it.
func listed(list []string, empty string) string {
	if len(list) == 0 {
		return empty
	}
	words := make([]string, len(list))
	for i, word := range list {
		words[i] = scalar(word)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// chatbots are one text, or a list as the configuration writes it.
func chatbots(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return listed(list, "")
}

// scalar quotes a text that YAML would not take for itself within a list.
func scalar(word string) string {
	if word == "" || strings.ContainsAny(word, " ,:[]{}\"'#") || strings.ContainsAny(word[:1], "&*!|>%@`-?") {
		return strconv.Quote(word)
	}
	return word
}
