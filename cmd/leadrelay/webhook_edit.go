package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/jobs"
)

func newWebhookAddCommand(a *app) *cobra.Command {
	var w webhookFlags
	var id string
	cmd := &cobra.Command{
		Use:   "add --chatbot C --url U […]",
		Short: "Enter a webhook beside those of the configuration, and print its id and sign key",
		Long: `Enter a webhook in the ledger. Every running daemon pushes to it within seconds. It is not in the configuration
file, and is changed with webhook set. Its sign key is made unless one is given, and printed: hand it to the CRM's developer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := w.document(cmd.Flags().Changed, a.stdin)
			if err != nil {
				return err
			}
			if id != "" {
				doc["id"] = id
			}
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
	c, err := a.loadConfig("source", "ledger", "streams", "secrets_key_file", "http")
	if err != nil {
		return err
	}
	if _, err := webhookOf(c, doc); err != nil { // before a ledger is made
		return registrarError(err)
	}
	p := &parts{config: c}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := a.awaitSource(ctx, p, commandPatience); err != nil {
		return err
	}
	if p.ledger, err = a.createLedger(ctx, c, commandPatience); err != nil {
		return err
	}
	added, err := desk{parts: p}.Enter(ctx, doc)
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

// registrarError makes usage errors of what the user asked wrongly.
func registrarError(err error) error {
	if _, ok := errors.AsType[admin.Mistakes](err); ok {
		return &exitError{code: exitUsage, err: err}
	}
	for _, usage := range []error{jobs.ErrNotFound, jobs.ErrExists, jobs.ErrProvisioned, jobs.ErrNotRotated, jobs.ErrSignKeyOf} {
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
		Long: `Change a webhook that is not in the configuration file. Only what is named changes; a flag given as '' is the default
again: --type '' all types, --header '' no headers. A new key signs at once and alone; webhook rotate-key lets the old
one and the new one sign for a while.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := w.document(cmd.Flags().Changed, a.stdin)
			if err != nil {
				return err
			}
			takeDefaults(doc)
			if len(doc) == 0 {
				return usageErrorf("webhook set: name what to change; see leadrelay webhook set --help")
			}
			return a.editWebhook(cmd.Context(), func(d desk) (jobs.Webhook, error) { return d.Change(cmd.Context(), args[0], doc) }, "http")
		},
	}
	w.register(cmd.Flags(), false)
	return cmd
}

// takeDefaults makes the null of a merge patch of each flag that was given as an empty text. What has no default stays, and is
// refused as it would be in a configuration.
func takeDefaults(doc map[string]any) {
	for key, value := range doc {
		texts, several := value.([]string)
		if value == "" && key != "chatbot" && key != "url" || several && slices.Equal(texts, []string{""}) {
			doc[key] = nil
		}
	}
}

// editWebhook runs one change and prints the webhook as it is then; keys are what else it needs of the configuration.
func (a *app) editWebhook(ctx context.Context, change func(desk) (jobs.Webhook, error), keys ...string) error {
	return a.withBoth(ctx, func(p *parts) error {
		w, err := change(desk{parts: p})
		if err != nil {
			return registrarError(err)
		}
		return a.printWebhook(&w, false)
	}, keys...)
}

func newWebhookStateCommand(a *app, use, short string, state jobs.WebhookState) *cobra.Command {
	return &cobra.Command{
		Use:   use + " ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.editWebhook(cmd.Context(), func(d desk) (jobs.Webhook, error) { return d.SetState(cmd.Context(), args[0], state) })
		},
	}
}

func newWebhookRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Forget a webhook that is not in the configuration file; says what it leaves undelivered",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLedger(cmd.Context(), func(p *parts) error {
				undelivered, err := desk{parts: p}.Remove(cmd.Context(), args[0])
				if err != nil {
					return registrarError(err)
				}
				if a.json {
					return a.printJSON(map[string]any{"id": args[0], "undelivered": undelivered})
				}
				_, err = fmt.Fprintf(a.stdout, "webhook %s is removed; %d records were still owed to it, and are dead\n", args[0], undelivered)
				return err
			})
		},
	}
}

func newWebhookRotateCommand(a *app) *cobra.Command {
	var overlapText string
	var now, finish bool
	cmd := &cobra.Command{
		Use:   "rotate-key ID [--overlap D | --now | --finish]",
		Short: "Make a new sign key; the old one signs beside it for a while",
		Long: `Make a new sign key and print it. For the overlap every request carries two signatures, of the new key and the old,
so that the CRM may change over at any moment. --now: without overlap, for a key that leaked. --finish: end the overlap now.
While an overlap runs the key is not rotated again, but with --now.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			overlap, ok := jobs.ParseDuration(overlapText)
			if !ok || overlap <= 0 || overlap > jobs.LongestOverlap {
				return usageErrorf("--overlap %q: write 1h, 24h, 7d…, at most 365d, or --now", overlapText)
			}
			how := jobs.Rotation{Overlap: overlap, Finish: finish}
			if now {
				how.Overlap = 0
			}
			return a.withLedger(cmd.Context(), func(p *parts) error {
				w, err := desk{parts: p}.Rotate(cmd.Context(), args[0], how)
				if err != nil {
					return registrarError(err)
				}
				return a.printKey(w)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&overlapText, "overlap", "24h", "how `LONG` the old key signs too")
	f.BoolVar(&now, "now", false, "the old key stops at once")
	f.BoolVar(&finish, "finish", false, "make no key; the old one stops now")
	cmd.MarkFlagsMutuallyExclusive("overlap", "now", "finish")
	return cmd
}
