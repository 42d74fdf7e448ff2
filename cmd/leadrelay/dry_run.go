package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// A dryRequest is one request as `run-now --dry-run` prints it. Static headers' values and the rest of the URL are
// secrets and are not shown; the signature is real.
type dryRequest struct {
	Webhook string            `json:"webhook"`
	Type    string            `json:"type"`
	Row     string            `json:"row"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body,omitempty"`
	Error   string            `json:"error,omitempty"` // why it would be dead instead
}

// dryRun prints what a run would send: new rows behind the bookmarks, and what is pending and not waiting for a retry.
// It makes no ledger: without one, webhooks are taken as entered now.
func (a *app) dryRun(ctx context.Context, c *config.Resolved, o runNowOptions) (err error) {
	p := &parts{config: c}
	defer func() { err = errors.Join(err, p.Close()) }()
	if p.sink, err = newSink(c); err != nil {
		return err
	}
	if err := a.awaitSource(ctx, p, commandPatience); err != nil {
		return err
	}
	p.ledger, err = a.openLedger(ctx, c)
	if err != nil && !errors.Is(err, ledger.ErrNoLedger) {
		return err
	}
	desired, err := a.desired(ctx, p)
	if err != nil {
		return err
	}
	plan := jobs.Plan{
		Sources: p.streams, Sink: p.sink, Scope: o.scope, Desired: desired, NewKey: c.Dialects.NewKey, Signs: c.Dialects.NeedsKey, Now: time.Now,
	}
	if p.ledger != nil {
		plan.Ledger, plan.Pending = p.ledger, p.waiting
	}
	requests, found := []dryRequest{}, false
	err = plan.Each(ctx, func(planned jobs.Planned) error {
		found = true
		request, err := p.dry(planned)
		if err != nil {
			return err
		}
		if a.json {
			requests = append(requests, request)
			return nil
		}
		return a.printDry(request)
	})
	if err != nil {
		return err
	}
	if !found {
		fmt.Fprintln(a.stderr, "A run would send nothing: no row is new, and nothing is owed. A webhook gets rows that become visible after the first\n"+
			"run that knows it; for older ones set from: beginning before that run, or leadrelay backfill after it.")
	}
	if a.json {
		return a.printJSON(map[string]any{"requests": requests})
	}
	return nil
}

// waiting returns a page of a webhook's pending records that a run would take on: no retry of theirs lies ahead.
func (p *parts) waiting(ctx context.Context, webhook, after string) ([]jobs.Delivery, string, error) {
	page, next, err := p.ledger.Deliveries(ctx, ledger.Filter{Webhooks: []string{webhook}, State: jobs.Pending, Limit: 500, After: after})
	return slices.DeleteFunc(page, func(d jobs.Delivery) bool { return d.InRound && d.NextAt.After(p.ledger.Now()) }), next, err
}

func (p *parts) dry(planned jobs.Planned) (dryRequest, error) {
	w := planned.Webhook
	d := dryRequest{Webhook: w.ID, Type: planned.Key.Type, Row: planned.Key.Row, URL: jobs.MaskedURL(w.URL)}
	if planned.Err != nil {
		d.Error = planned.Err.Error()
		return d, nil
	}
	request, err := p.sink.Request(w, planned.Key.ID(), planned.Body, time.Now())
	if err != nil {
		return d, err
	}
	d.Body = string(planned.Body)
	d.Headers = make(map[string]string, len(request.Header))
	for name, values := range request.Header {
		d.Headers[name] = values[0]
	}
	if d.Headers["Authorization"] != "" { // a URL's user and password become one
		d.Headers["Authorization"] = jobs.Secret("").String()
	}
	for name := range w.Headers {
		d.Headers[http.CanonicalHeaderKey(name)] = jobs.Secret("").String()
	}
	return d, nil
}

func (a *app) printDry(d dryRequest) error {
	if d.Error != "" {
		_, err := fmt.Fprintf(a.stdout, "# %s row %s for webhook %s would be dead: %s\n\n", d.Type, shown(d.Row), d.Webhook, shown(d.Error))
		return err
	}
	fmt.Fprintf(a.stdout, "# %s row %s for webhook %s\nPOST %s\n", d.Type, shown(d.Row), d.Webhook, d.URL)
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		fmt.Fprintf(a.stdout, "%s: %s\n", name, d.Headers[name])
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s\n\n", d.Body)
	return err
}
