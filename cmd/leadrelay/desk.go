package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sinks"
)

// A desk does by hand what is asked for: on a command line, or over HTTP.
type desk struct {
	*parts
	chatbot string       // whose webhooks are seen and touched, those of several chatbots not among them; "": all
	runner  *jobs.Runner // that serves; nil on a command line
}

// sees reports whether there is such a webhook for who asks.
func (d desk) sees(w *jobs.Webhook) bool {
	return d.chatbot == "" || len(w.Chatbots) == 1 && w.Chatbots[0] == d.chatbot
}

func (d desk) registrar() jobs.Registrar {
	r := jobs.Registrar{
		Ledger: d.ledger, Sources: d.streams, Sees: d.sees,
		NewKey: d.config.Dialects.NewKey, Signs: d.config.Dialects.NeedsKey, Fits: d.config.Dialects.Fits,
	}
	if d.chatbot != "" {
		r.Most = d.config.Admin.WebhooksPerChatbot
	}
	return r
}

// Webhooks returns those that there are for who asks, by id.
func (d desk) Webhooks(ctx context.Context) ([]jobs.Webhook, error) {
	set, err := d.ledger.Webhooks(ctx)
	return slices.DeleteFunc(set.Webhooks, func(w jobs.Webhook) bool { return !d.sees(&w) }), err
}

// Enter enters the webhook that a document describes; one without an id is given one. A chatbot's token chooses none: the
// id could be the one that the operator gives another chatbot's webhook later, and an answer would tell whether it is taken.
func (d desk) Enter(ctx context.Context, document map[string]any) (jobs.Webhook, error) {
	if document["id"] != nil && d.chatbot != "" {
		return jobs.Webhook{}, admin.Mistakes{{Key: "id", Text: "is made by leadrelay for this token; leave it out"}}
	}
	if document["id"] == nil {
		document["id"] = strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	}
	w, err := webhookOf(d.config, document)
	if err != nil {
		return w, err
	}
	if err := d.own(ctx, &w, document); err != nil {
		return w, err
	}
	w, err = d.registrar().Add(ctx, w)
	if errors.Is(err, jobs.ErrTooMany) {
		err = admin.Mistakes{{Text: fmt.Sprintf("chatbot %s has %d webhooks that were entered, the most that there may be (admin.webhooks_per_chatbot): remove one, or ask who runs leadrelay",
			d.chatbot, d.config.Admin.WebhooksPerChatbot)}}
	}
	return w, err
}

// own refuses to make a webhook one that there is not for who asks, or let it sign with the keys of one.
func (d desk) own(ctx context.Context, w *jobs.Webhook, document map[string]any) error {
	if !d.sees(w) {
		return admin.Mistakes{{Key: "chatbot", Text: "this token is for the chatbot " + d.chatbot + " alone"}}
	}
	if d.chatbot == "" || document["sign_key_of"] == nil || w.SignKeyOf == "" {
		return nil
	}
	ids, err := d.ids(ctx)
	if err == nil && !slices.Contains(ids, w.SignKeyOf) {
		err = admin.Mistakes{{Key: "sign_key_of", Text: "there is no such webhook"}}
	}
	return err
}

// Put makes the webhook of this id what a document says, or enters it where the caller may choose an id.
func (d desk) Put(ctx context.Context, id string, document map[string]any) (w jobs.Webhook, entered bool, err error) {
	document["id"] = id
	for range 3 { // it may come and go meanwhile
		w, err = d.replace(ctx, id, document)
		if !errors.Is(err, jobs.ErrNotFound) || d.chatbot != "" {
			return w, false, err
		}
		w, err = d.Enter(ctx, document)
		if exists, ok := errors.AsType[*jobs.ExistsError](err); !ok || exists.ID != id {
			return w, err == nil, err
		}
	}
	return w, false, err
}

func (d desk) replace(ctx context.Context, id string, document map[string]any) (jobs.Webhook, error) {
	to, err := webhookOf(d.config, document)
	if err == nil {
		err = d.own(ctx, &to, document)
	}
	if err != nil {
		return to, err
	}
	return d.registrar().Change(ctx, id, func(w *jobs.Webhook) error {
		if document["from"] != nil && to.From != w.From {
			return admin.Mistakes{fromStays}
		}
		to := to // f may be called again
		key := to.SignKey
		to.SignKey, to.KeyMade, to.OldKey, to.OldKeyUntil = w.SignKey, w.KeyMade, w.OldKey, w.OldKeyUntil
		if to.SignKeyOf == "" {
			to.SignKeyOf = w.SignKeyOf
		}
		*w = to
		return giveKey(d.config.Dialects, w, key)
	})
}

// giveKey gives a changed webhook a key, where there is one; else it keeps its own, where that still fits.
func giveKey(dialects *sinks.Registry, w *jobs.Webhook, key jobs.Secret) error {
	switch {
	case key != "" && (key != w.SignKey || w.SignKeyOf != ""):
		w.SignKey, w.SignKeyOf, w.KeyMade = key, "", false
	case w.SignKeyOf != "": // the other's, and looked at with it
		return nil
	case key != "", w.SignKey == "" && !dialects.NeedsKey(w.Dialect), w.SignKey != "" && dialects.Fits(w.Dialect, w.SignKey):
		return nil
	case w.SignKey == "" || w.KeyMade:
		w.SignKey, w.KeyMade = dialects.NewKey(w.Dialect), true
	default:
		return admin.Mistakes{{Key: "sign_key", Text: fmt.Sprintf("the webhook's is none of dialect %s; give one", w.Dialect)}}
	}
	w.OldKey, w.OldKeyUntil = "", time.Time{}
	return nil
}

// Change changes what a document names; nil is the default.
func (d desk) Change(ctx context.Context, id string, document map[string]any) (jobs.Webhook, error) {
	return d.registrar().Change(ctx, id, func(w *jobs.Webhook) error {
		if err := applyTo(w, d.config, document); err != nil {
			return err
		}
		return d.own(ctx, w, document)
	})
}

// SetState disables a webhook by hand, or lets it run again.
func (d desk) SetState(ctx context.Context, id string, state jobs.WebhookState) (jobs.Webhook, error) {
	return d.registrar().SetState(ctx, id, state)
}

// Rotate rotates a webhook's key.
func (d desk) Rotate(ctx context.Context, id string, how jobs.Rotation) (jobs.Webhook, error) {
	return d.registrar().Rotate(ctx, id, how)
}

// Remove forgets a webhook and counts what it is still owed.
func (d desk) Remove(ctx context.Context, id string) (int, error) {
	return d.registrar().Remove(ctx, id)
}

// Deliveries returns a page of those of webhooks and chatbots that there are for who asks.
func (d desk) Deliveries(ctx context.Context, q admin.DeliveryQuery) ([]jobs.Delivery, string, error) {
	f := ledger.Filter{Chatbot: q.Chatbot, Type: q.Type, State: q.State, Row: q.Row, Limit: q.Limit, After: q.After}
	if q.Webhook != "" {
		f.Webhooks = []string{q.Webhook}
	}
	if d.chatbot != "" {
		ids, err := d.ids(ctx)
		if err != nil {
			return nil, "", err
		}
		if f.Webhooks != nil {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id != q.Webhook })
		}
		if q.Chatbot != "" && q.Chatbot != d.chatbot {
			ids = []string{}
		}
		f.Webhooks, f.Chatbot = ids, d.chatbot
	}
	return d.ledger.Deliveries(ctx, f)
}

// ids are those of the webhooks that there are for who asks.
func (d desk) ids(ctx context.Context) ([]string, error) {
	webhooks, err := d.Webhooks(ctx)
	ids := make([]string, len(webhooks))
	for i := range webhooks {
		ids[i] = webhooks[i].ID
	}
	return ids, err
}

// Delivery returns one delivery and what is known of its attempts.
func (d desk) Delivery(ctx context.Context, id uuid.UUID) (jobs.Delivery, []jobs.Attempt, error) {
	delivery, err := d.ledger.Delivery(ctx, id)
	if err != nil {
		return delivery, nil, err
	}
	if d.chatbot != "" {
		ids, err := d.ids(ctx)
		if err != nil {
			return jobs.Delivery{}, nil, err
		}
		if delivery.Chatbot != d.chatbot || !slices.Contains(ids, delivery.Webhook) {
			return jobs.Delivery{}, nil, fmt.Errorf("delivery %s: %w", id, jobs.ErrNotFound)
		}
	}
	attempts, err := d.ledger.Attempts(ctx, id)
	return delivery, attempts, err
}

// Runs returns a page of runs, the newest first.
func (d desk) Runs(ctx context.Context, limit int, after string) ([]jobs.Run, string, error) {
	return d.ledger.ListRuns(ctx, limit, after)
}

// Run returns one run.
func (d desk) Run(ctx context.Context, id string) (jobs.Run, error) { return d.ledger.Run(ctx, id) }

// Streams are the types that there are streams of.
func (d desk) Streams() []string {
	var types []string
	for _, src := range d.streams {
		types = append(types, src.Type())
	}
	return types
}

// StartRun begins a run by hand in the daemon that serves.
func (d desk) StartRun(ctx context.Context, scope jobs.Scope) (jobs.Run, error) {
	for i, typ := range scope.Types {
		if err := knownType(d.config, typ); err != nil {
			return jobs.Run{}, admin.Mistakes{{Key: fmt.Sprintf("types[%d]", i), Text: err.Error()}}
		}
	}
	if d.chatbot != "" {
		for i, chatbot := range scope.Chatbots {
			if chatbot != d.chatbot {
				return jobs.Run{}, admin.Mistakes{{Key: fmt.Sprintf("chatbots[%d]", i), Text: "this token is for the chatbot " + d.chatbot + " alone"}}
			}
		}
		scope.Chatbots = []string{d.chatbot}
		ids, err := d.ids(ctx)
		if err != nil {
			return jobs.Run{}, err
		}
		for i, id := range scope.Webhooks {
			if !slices.Contains(ids, id) {
				return jobs.Run{}, admin.Mistakes{{Key: fmt.Sprintf("webhooks[%d]", i), Text: "there is no such webhook"}}
			}
		}
		if scope.Webhooks == nil {
			scope.Webhooks = ids
		}
	}
	return d.runner.Start(ctx, scope)
}

// knownType says that the configuration has no stream of a type.
func knownType(c *config.Resolved, typ string) error {
	if slices.ContainsFunc(c.Streams, func(s config.Stream) bool { return s.Type == typ }) {
		return nil
	}
	return errors.New("the configuration has no such stream")
}
