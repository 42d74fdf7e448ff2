package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// webhookFlags are the parts of a webhook as `webhook add` and `set` take them. Their texts are read by the
// configuration's own decoder, so a webhook may be written here just as it may be there.
type webhookFlags struct {
	chatbots, types, retryAt, ack, headers                              []string
	url, dialect, schedule, timezone, immediate, from, key, description string
}

func (w *webhookFlags) register(f *pflag.FlagSet, add bool) {
	f.StringArrayVar(&w.chatbots, "chatbot", nil, "the chatbot whose records it gets, or \"*\" for all (repeatable)")
	f.StringVar(&w.url, "url", "", "where they are POSTed")
	f.StringArrayVar(&w.types, "type", nil, "a type of record it gets (repeatable; default all)")
	f.StringVar(&w.dialect, "dialect", "", "the format that the receiver understands (default smarterbot)")
	f.StringVar(&w.schedule, "schedule", "", "when it is pushed to: cron, @hourly, @every 1h… (default the configuration's)")
	f.StringVar(&w.timezone, "timezone", "", "the schedule's zone (default the configuration's)")
	f.StringVar(&w.immediate, "immediate", "", "true: also as soon as a record is committed (default the configuration's)")
	f.StringArrayVar(&w.retryAt, "retry-at", nil, "an offset from the first failure, such as 1m (repeatable; default the dialect's; none: no retries)")
	f.StringArrayVar(&w.ack, "ack", nil, "an accepted value of the answer's status, or 2xx (repeatable)")
	f.StringArrayVar(&w.headers, "header", nil, "a static header, `NAME: VALUE`, or @FILE with one a line (repeatable); values are secrets")
	f.StringVar(&w.description, "description", "", "a note for people")
	if add {
		f.StringVar(&w.from, "from", "", "now, beginning or a time: which older rows it gets (default now)")
		f.StringVar(&w.key, "sign-key", "", "@FILE or - for standard input (default: one is made)")
	}
}

// document is these flags as a configuration has them. changed says which were given.
func (w *webhookFlags) document(changed func(string) bool, stdin io.Reader) (map[string]any, error) {
	doc := map[string]any{}
	for _, one := range []struct {
		flag, key string
		value     any
	}{
		{"chatbot", "chatbot", w.chatbots},
		{"url", "url", w.url},
		{"type", "types", w.types},
		{"dialect", "dialect", w.dialect},
		{"schedule", "schedule", w.schedule},
		{"timezone", "timezone", w.timezone},
		{"from", "from", w.from},
		{"description", "description", w.description},
	} {
		if changed(one.flag) {
			doc[one.key] = one.value
		}
	}
	if len(w.chatbots) == 1 {
		doc["chatbot"] = w.chatbots[0]
	}
	if changed("immediate") {
		switch w.immediate {
		case "true", "false":
			doc["immediate"] = w.immediate == "true"
		default:
			return nil, usageErrorf("--immediate %q: write true or false", w.immediate)
		}
	}
	if changed("retry-at") {
		doc["retry_at"] = w.retryAt
		if len(w.retryAt) == 1 && w.retryAt[0] == "none" {
			doc["retry_at"] = []string{}
		}
	}
	if changed("ack") {
		doc["ack"] = w.ack
		if len(w.ack) == 1 && w.ack[0] == jobs.Ack2xx {
			doc["ack"] = jobs.Ack2xx
		}
	}
	if changed("header") {
		headers, err := readHeaders(w.headers)
		if err != nil {
			return nil, err
		}
		doc["headers"] = headers
	}
	if changed("sign-key") {
		key, err := readSecret("--sign-key", w.key, stdin)
		if err != nil {
			return nil, err
		}
		doc["sign_key"] = key
	}
	return doc, nil
}

// readSecret reads a secret that must not stand on a command line, where every user of the machine sees it.
func readSecret(flag, where string, stdin io.Reader) (string, error) {
	var text []byte
	var err error
	file, named := strings.CutPrefix(where, "@")
	switch {
	case where == "-":
		text, err = io.ReadAll(io.LimitReader(stdin, 64<<10))
	case named:
		text, err = environment().ReadFile(file)
	default:
		return "", usageErrorf("%s: write @FILE, or - for standard input: other users see what is on a command line", flag)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

func readHeaders(given []string) (map[string]string, error) {
	headers := map[string]string{}
	for _, text := range given {
		lines := []string{text}
		if file, named := strings.CutPrefix(text, "@"); named {
			read, err := environment().ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--header: %w", err)
			}
			lines = strings.Split(strings.TrimSpace(string(read)), "\n")
		}
		for _, line := range lines {
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, usageErrorf("--header: write NAME: VALUE, or @FILE")
			}
			headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return headers, nil
}

// webhookOf reads a document of one webhook as the configuration c would hold it.
func webhookOf(c *config.Resolved, doc map[string]any) (jobs.Webhook, error) {
	streams := []any{}
	for _, s := range c.Streams {
		streams = append(streams, map[string]any{"type": s.Type, "table": "any"})
	}
	text, err := json.Marshal(map[string]any{
		"streams": streams, "source": "sqlite:/nowhere", "schedule": c.Schedule, "timezone": c.Timezone, "immediate": c.Immediate,
		"http": map[string]any{"allow_http": c.HTTP.AllowHTTP}, "webhooks": []any{doc},
	})
	if err != nil {
		return jobs.Webhook{}, err
	}
	// JSON is YAML, but what a configuration expands is here what it is.
	text = []byte(strings.ReplaceAll(string(text), "${", "$${"))
	parsed, err := config.Parse("webhook", text, configOptions())
	if err == nil {
		var resolved *config.Resolved
		if resolved, err = parsed.Resolve(environment()); err == nil {
			return resolved.Webhooks[0], nil
		}
	}
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) {
		return jobs.Webhook{}, &exitError{code: exitUsage, err: err}
	}
	var lines []error
	for _, m := range mistakes {
		lines = append(lines, fmt.Errorf("%s: %s", strings.TrimPrefix(strings.TrimPrefix(m.Path, "webhooks[0]"), "."), m.Text))
	}
	return jobs.Webhook{}, &exitError{code: exitUsage, err: errors.Join(lines...)}
}

func newWebhookAddCommand(a *app) *cobra.Command {
	var w webhookFlags
	var id string
	cmd := &cobra.Command{
		Use:   "add --chatbot C --url U",
		Short: "Enter a webhook beside those of the configuration, and print its id and sign key",
		Long: `Enter a webhook in the ledger. Every running daemon pushes to it within seconds. It is not in the configuration
file, and is changed with webhook set. Its sign key is made unless one is given, and printed: hand it to the CRM's developer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := w.document(cmd.Flags().Changed, a.stdin)
			if err != nil {
				return err
			}
			if id == "" {
				id = strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
			}
			doc["id"] = id
			return a.webhookAdd(cmd.Context(), doc)
		},
	}
	w.register(cmd.Flags(), true)
	cmd.Flags().StringVar(&id, "id", "", "its name: letters, digits, - and _ (default: one is made)")
	_ = cmd.MarkFlagRequired("chatbot")
	_ = cmd.MarkFlagRequired("url")
	return cmd
}

func (a *app) webhookAdd(ctx context.Context, doc map[string]any) (err error) {
	c, err := a.loadConfig("source", "ledger", "streams", "secrets_key_file")
	if err != nil {
		return err
	}
	w, err := webhookOf(c, doc)
	if err != nil {
		return err
	}
	p := &parts{config: c}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.openSource(ctx); err != nil {
		return fmt.Errorf("open the source: %w", err)
	}
	if p.ledger, err = a.createLedger(ctx, c); err != nil {
		return err
	}
	added, err := p.registrar().Add(ctx, w)
	if err != nil {
		return registrarError(err)
	}
	return a.printKey(added)
}

// printKey prints a webhook's id and key, which is what `add` and `rotate-key` are for.
func (a *app) printKey(w jobs.Webhook) error {
	if a.json {
		return a.printJSON(map[string]string{"id": w.ID, "sign_key": w.SignKey.Reveal()})
	}
	_, err := fmt.Fprintf(a.stdout, "id:        %s\nsign_key:  %s\n", w.ID, w.SignKey.Reveal())
	return err
}

func (p *parts) registrar() jobs.Registrar {
	return jobs.Registrar{Ledger: p.ledger, Sources: p.streams, NewKey: sinks.NewKey, Signs: signs}
}

// registrarError makes usage errors of what the user asked wrongly.
func registrarError(err error) error {
	for _, usage := range []error{jobs.ErrNotFound, jobs.ErrExists, jobs.ErrProvisioned} {
		if errors.Is(err, usage) {
			return &exitError{code: exitUsage, err: err}
		}
	}
	return err
}

func newWebhookSetCommand(a *app) *cobra.Command {
	var w webhookFlags
	cmd := &cobra.Command{
		Use:   "set ID",
		Short: "Change a webhook that is not in the configuration file; only what is named changes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := w.document(cmd.Flags().Changed, a.stdin)
			if err != nil {
				return err
			}
			if len(doc) == 0 {
				return usageErrorf("webhook set: name what to change; see leadrelay webhook set --help")
			}
			return a.editWebhook(cmd.Context(), func(p *parts) (jobs.Webhook, error) {
				return p.registrar().Change(cmd.Context(), args[0], func(w *jobs.Webhook) error { return applyTo(w, p.config, doc) })
			})
		},
	}
	w.register(cmd.Flags(), false)
	return cmd
}

// applyTo changes what a document names.
func applyTo(w *jobs.Webhook, c *config.Resolved, doc map[string]any) error {
	whole := map[string]any{"id": w.ID, "chatbot": w.Chatbots, "url": w.URL.Reveal(), "dialect": w.Dialect}
	for key, value := range doc {
		whole[key] = value
	}
	if w.AllChatbots() && doc["chatbot"] == nil {
		whole["chatbot"] = jobs.AllChatbots
	}
	to, err := webhookOf(c, whole)
	if err != nil {
		return err
	}
	for key := range doc {
		switch key {
		case "chatbot":
			w.Chatbots = to.Chatbots
		case "url":
			w.URL = to.URL
		case "types":
			w.Types = to.Types
		case "dialect":
			w.Dialect = to.Dialect
		case "schedule":
			w.Schedule = to.Schedule
		case "timezone":
			w.Timezone = to.Timezone
		case "immediate":
			w.Immediate = to.Immediate
		case "retry_at":
			w.RetryAt = to.RetryAt
		case "ack":
			w.Ack = to.Ack
		case "headers":
			w.Headers = to.Headers
		case "description":
			w.Description = to.Description
		}
	}
	return nil
}

// editWebhook runs one change and prints the webhook as it is then.
func (a *app) editWebhook(ctx context.Context, change func(*parts) (jobs.Webhook, error)) (err error) {
	c, err := a.loadConfig("source", "ledger", "streams", "secrets_key_file")
	if err != nil {
		return err
	}
	p, err := a.openBoth(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	w, err := change(p)
	if err != nil {
		return registrarError(err)
	}
	return a.printWebhook(&w, false)
}

func newWebhookStateCommand(a *app, use, short string, state jobs.WebhookState) *cobra.Command {
	return &cobra.Command{
		Use:   use + " ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.editWebhook(cmd.Context(), func(p *parts) (jobs.Webhook, error) {
				return p.registrar().SetState(cmd.Context(), args[0], state)
			})
		},
	}
}

func newWebhookRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Forget a webhook that is not in the configuration file; says what it leaves undelivered",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, err := a.loadConfig("ledger", "secrets_key_file")
			if err != nil {
				return err
			}
			l, err := a.openLedger(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Close()) }()
			undelivered, err := jobs.Registrar{Ledger: l}.Remove(cmd.Context(), args[0])
			if err != nil {
				return registrarError(err)
			}
			if a.json {
				return a.printJSON(map[string]any{"id": args[0], "undelivered": undelivered})
			}
			_, err = fmt.Fprintf(a.stdout, "webhook %s is removed; %d records were still owed to it, and are dead\n", args[0], undelivered)
			return err
		},
	}
}

func newWebhookRotateCommand(a *app) *cobra.Command {
	var overlap time.Duration
	var now, finish bool
	cmd := &cobra.Command{
		Use:   "rotate-key ID",
		Short: "Make a new sign key; the old one signs beside it for a while",
		Long: `Make a new sign key and print it. For the overlap every request carries two signatures, of the new key and the old,
so that the CRM may change over at any moment. --now: without overlap, for a key that leaked. --finish: end the overlap now.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if overlap <= 0 {
				return usageErrorf("--overlap %v: write 1h, 24h…, or --now", overlap)
			}
			c, err := a.loadConfig("ledger", "secrets_key_file")
			if err != nil {
				return err
			}
			l, err := a.openLedger(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Close()) }()
			how := jobs.Rotation{Overlap: overlap, Finish: finish}
			if now {
				how.Overlap = 0
			}
			w, err := jobs.Registrar{Ledger: l, NewKey: sinks.NewKey}.Rotate(cmd.Context(), args[0], how)
			if err != nil {
				return &exitError{code: exitUsage, err: registrarError(err)}
			}
			return a.printKey(w)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&overlap, "overlap", 24*time.Hour, "how long the old key signs too")
	f.BoolVar(&now, "now", false, "the old key stops at once")
	f.BoolVar(&finish, "finish", false, "make no key; the old one stops now")
	cmd.MarkFlagsMutuallyExclusive("overlap", "now", "finish")
	return cmd
}
