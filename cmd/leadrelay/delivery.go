package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

func newDeliveryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "delivery", Short: "Say what became of records"}
	var o struct {
		webhooks        []string
		typ, state, row string
		limit           int
		after           string
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "Print deliveries, the newest first",
		Long: `Print deliveries, the newest first: which record (type and row) is owed to which webhook, and what became of it.
"Did webhook acme get row 4711, and if not, why not?" is: leadrelay delivery list --webhook acme --row 4711`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := ledger.Filter{Webhooks: o.webhooks, Type: o.typ, State: jobs.State(o.state), Row: o.row, Limit: o.limit, After: o.after}
			switch f.State {
			case "", jobs.Pending, jobs.Sending, jobs.Delivered, jobs.Dead:
			default:
				return usageErrorf("--state %q: write pending, sending, delivered or dead", o.state)
			}
			if o.limit < 1 || o.limit > 10_000 {
				return usageErrorf("--limit %d: write 1 to 10000", o.limit)
			}
			return a.deliveryList(cmd.Context(), f)
		},
	}
	f := list.Flags()
	f.StringArrayVar(&o.webhooks, "webhook", nil, "of this webhook (repeatable)")
	f.StringVar(&o.typ, "type", "", "of this type")
	f.StringVar(&o.state, "state", "", "pending, sending, delivered or dead")
	f.StringVar(&o.row, "row", "", "of the row with this id")
	f.IntVar(&o.limit, "limit", 100, "at most so many")
	f.StringVar(&o.after, "after", "", "go on behind a page: the `TEXT` that \"more:\" (or \"next\" with --json) gave")
	cmd.AddCommand(list)
	return cmd
}

// deliveryItem is an item of `delivery list --json`.
type deliveryItem struct {
	ID        string     `json:"id"`
	Webhook   string     `json:"webhook"`
	Type      string     `json:"type"`
	Row       string     `json:"row"`
	State     string     `json:"state"`
	Reason    string     `json:"reason"`
	Attempts  int        `json:"attempts"`
	LastError string     `json:"last_error"`
	NextAt    *time.Time `json:"next_at"`
}

func (a *app) deliveryList(ctx context.Context, f ledger.Filter) (err error) {
	c, err := a.loadConfig("ledger", "secrets_key_file")
	if err != nil {
		return err
	}
	l, err := a.openLedger(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	deliveries, next, err := l.Deliveries(ctx, f)
	if f.After != "" && errors.Is(err, jobs.ErrNotFound) {
		return usageErrorf("--after %q: no page named it as its next", f.After)
	}
	if err != nil {
		return err
	}
	if len(deliveries) == 0 {
		if err := knownToLedger(ctx, l, f); err != nil {
			return err
		}
	}
	items := []deliveryItem{}
	for _, d := range deliveries {
		item := deliveryItem{
			ID: d.ID.String(), Webhook: d.Webhook, Type: d.Type, Row: d.Row, State: string(d.State), Reason: string(d.Reason),
			Attempts: d.Attempts, LastError: d.LastError,
		}
		if d.State == jobs.Pending {
			item.NextAt = known(d.NextAt)
		}
		items = append(items, item)
	}
	if a.json {
		return a.printJSON(map[string]any{"items": items, "next": next})
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WEBHOOK\tTYPE\tROW\tSTATE\tATTEMPTS\tLAST ERROR\tDUE\tID")
	now := l.Now()
	for _, i := range items {
		state := i.State
		if i.Reason != "" {
			state += " (" + i.Reason + ")"
		}
		printRow(t, i.Webhook, i.Type, i.Row, state, i.Attempts, dash(i.LastError), ago(i.NextAt, now), i.ID)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(items) == 0 {
		_, err = fmt.Fprintln(a.stdout, "No delivery is like that. A row has one when a run has gathered it for a webhook that wants its chatbot and type,\nand is not older than the webhook (leadrelay backfill enters those).")
	}
	if next != "" {
		_, err = fmt.Fprintf(a.stdout, "more: --after %s\n", next)
	}
	return err
}

// knownToLedger says which webhook or type of a filter that found nothing is none: a removed webhook has deliveries still.
func knownToLedger(ctx context.Context, l *ledger.Ledger, f ledger.Filter) error {
	set, err := l.Webhooks(ctx)
	if err != nil {
		return err
	}
	for _, id := range f.Webhooks {
		if slices.ContainsFunc(set.Webhooks, func(w jobs.Webhook) bool { return w.ID == id }) {
			continue
		}
		any, _, err := l.Deliveries(ctx, ledger.Filter{Webhooks: []string{id}, Limit: 1})
		if err != nil {
			return err
		}
		if len(any) == 0 {
			return usageErrorf("--webhook %s: %w; leadrelay webhook list prints those that are", id, jobs.ErrNotFound)
		}
	}
	if f.Type == "" {
		return nil
	}
	streams, err := l.AllStreams(ctx)
	if err == nil && !slices.ContainsFunc(streams, func(s jobs.Stream) bool { return s.Type == f.Type }) {
		err = usageErrorf("--type %s: the ledger has no such stream; leadrelay stream list prints those that are", f.Type)
	}
	return err
}
