package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

const webhookTag = "webhooks"

// A WebhookID is the webhook that a path names.
type WebhookID struct {
	ID string `path:"id" example:"acme" doc:"The webhook's id."`
}

// Revealing asks for whole URLs.
type Revealing struct {
	Reveal bool `query:"reveal" doc:"Show the whole URL. Needs a token that may write."`
}

// may refuses to reveal anything to those who may only read.
func (r Revealing) may(ctx context.Context) error {
	if r.Reveal && !callerOf(ctx).Write {
		return huma.Error403Forbidden("reveal needs a token that may write")
	}
	return nil
}

// Keyed is a webhook's id and sign key.
type Keyed struct {
	ID      string `json:"id" example:"acme"`
	SignKey string `json:"sign_key" doc:"Hand it to the CRM's developer. Empty where requests are not signed." example:"5f0c…"`
}

func keyed(w *jobs.Webhook) *answer[Keyed] { return &answer[Keyed]{Keyed{w.ID, w.SignKey.Reveal()}} }

// webhooks adds what reads webhooks.
func (a *API) webhooks() {
	register(a, huma.Operation{
		OperationID: "list-webhooks", Method: http.MethodGet, Path: webhooksPath, Tags: []string{webhookTag},
		Summary:     "List webhooks",
		Description: "By id. Pages stay right while webhooks come and go: none is shown twice, and none that stays is left out.",
	}, a.listWebhooks)
	register(a, huma.Operation{
		OperationID: "get-webhook", Method: http.MethodGet, Path: webhooksPath + "/{id}", Tags: []string{webhookTag},
		Summary: "Show a webhook", Errors: []int{http.StatusNotFound},
	}, a.getWebhook)
	register(a, huma.Operation{
		OperationID: "get-webhook-key", Method: http.MethodGet, Path: webhooksPath + "/{id}/key", Tags: []string{webhookTag},
		Summary:     "Show a webhook's sign key",
		Description: "Needs a token that may write. Every call is logged, with the caller's name.", Errors: []int{http.StatusNotFound},
	}, a.getKey)
}

func (a *API) listWebhooks(ctx context.Context, in *struct {
	Paging
	Revealing
	Chatbot string `query:"chatbot" doc:"Those that get this chatbot's records."`
},
) (*answer[List[Webhook]], error) {
	if err := in.may(ctx); err != nil {
		return nil, err
	}
	page, next, err := a.webhooksAfter(ctx, in.Paging, func(w *jobs.Webhook) bool { return in.Chatbot == "" || w.WantsChatbot(in.Chatbot) })
	if err != nil {
		return nil, err
	}
	list := List[Webhook]{Items: []Webhook{}, Next: next}
	for i := range page {
		list.Items = append(list.Items, ViewOf(&page[i], in.Reveal))
	}
	return &answer[List[Webhook]]{list}, nil
}

// webhooksAfter is a page of the webhooks that there are for the caller, only of these.
func (a *API) webhooksAfter(ctx context.Context, p Paging, only func(*jobs.Webhook) bool) (page []jobs.Webhook, next string, err error) {
	all, err := a.desk(ctx).Webhooks(ctx)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(w jobs.Webhook) bool { return !only(&w) })
	// By the ids' bytes, whatever order a database's language gives them.
	slices.SortFunc(all, func(a, b jobs.Webhook) int { return cmp.Compare(a.ID, b.ID) })
	if p.After != "" {
		i, there := slices.BinarySearchFunc(all, p.After, func(w jobs.Webhook, id string) int { return cmp.Compare(w.ID, id) })
		if there {
			i++
		}
		all = all[i:]
	}
	if len(all) > p.Limit {
		all = all[:p.Limit]
		next = all[p.Limit-1].ID
	}
	return all, next, nil
}

// find returns one webhook that there is for the caller.
func (a *API) find(ctx context.Context, id string) (*jobs.Webhook, error) {
	all, err := a.desk(ctx).Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(w jobs.Webhook) bool { return w.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("webhook %s: %w", id, jobs.ErrNotFound)
	}
	return &all[i], nil
}

func (a *API) getWebhook(ctx context.Context, in *struct {
	WebhookID
	Revealing
},
) (*answer[Webhook], error) {
	if err := in.may(ctx); err != nil {
		return nil, err
	}
	w, err := a.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &answer[Webhook]{ViewOf(w, in.Reveal)}, nil
}

func (a *API) getKey(ctx context.Context, in *WebhookID) (*answer[Keyed], error) {
	who := callerOf(ctx)
	if !who.Write {
		return nil, huma.Error403Forbidden("sign keys are shown to tokens that may write")
	}
	w, err := a.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	a.Log.Info("a sign key was shown", "webhook", w.ID, "to", who.Name)
	return keyed(w), nil
}
