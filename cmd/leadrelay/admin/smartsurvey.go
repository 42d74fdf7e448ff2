package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

// subscriptionsPath is where webhooks are subscribed as SmartSurvey's page "Introduction" says: with an endpoint_url,
// events and a description. The page shows no path and no body; these are ours.
const subscriptionsPath = "/api/v1/subscriptions"

const smartsurveyDialect = "smartsurvey"

// NewSubscription is a subscription as it is sent.
type NewSubscription struct {
	EndpointURL string   `json:"endpoint_url" doc:"Where events are POSTed." example:"https://crm.example.com/responses"`
	Events      []string `json:"events" minItems:"1" maxItems:"100" uniqueItems:"true" nullable:"false" doc:"The events that are wanted." example:"[\"response.completed\",\"response.updated\"]"`
	Description string   `json:"description,omitempty" doc:"For people."`
}

// Subscription is one as it is shown.
type Subscription struct {
	ID          string   `json:"id" example:"b7f5a0c1d2e34f56"`
	EndpointURL string   `json:"endpoint_url" doc:"Scheme, host and first path segment; with reveal=true the whole." example:"https://crm.example.com/responses/…"`
	Events      []string `json:"events" doc:"The events that are wanted; empty: all." example:"[\"response.completed\",\"response.updated\"]"`
	Description string   `json:"description"`
	State       string   `json:"state" enum:"active,held,disabled"`
}

// KeyedSubscription is a new one, with the key that was made for it.
type KeyedSubscription struct {
	Subscription
	SignKey string `json:"sign_key" doc:"The key of X-SmartSurvey-Signature." example:"5f0c…"`
}

// A SubscriptionID is the subscription that a path names.
type SubscriptionID struct {
	ID string `path:"id" example:"b7f5a0c1d2e34f56" doc:"The subscription's id, which is its webhook's."`
}

func subscriptionOf(w *jobs.Webhook, reveal bool) Subscription {
	v := ViewOf(w, reveal)
	return Subscription{ID: v.ID, EndpointURL: v.URL, Events: v.Types, Description: v.Description, State: v.State}
}

// smartsurvey adds subscribing and unsubscribing.
func (a *API) smartsurvey() {
	const one = subscriptionsPath + "/{id}"
	op := func(id, method, path, summary, description string, errors ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{registrationTag}, Summary: summary, Description: description, Errors: errors,
		}
	}
	register(a, enteredBy("subscribe", subscriptionsPath, "Subscribe as SmartSurvey's page does",
		"It enters a webhook of dialect smartsurvey, with a sign key of its own. The same again is 409."), a.subscribe)
	register(a, op("list-subscriptions", http.MethodGet, subscriptionsPath, "List subscriptions", "The webhooks of dialect smartsurvey, by id."), a.listSubscriptions)
	register(a, op("get-subscription", http.MethodGet, one, "Show a subscription", "", http.StatusNotFound), a.getSubscription)
	unsubscribe := op("unsubscribe", http.MethodDelete, one, "Unsubscribe", "Its webhook is forgotten, and what it is still owed is dead.",
		http.StatusNotFound, http.StatusConflict)
	unsubscribe.DefaultStatus = http.StatusNoContent
	register(a, unsubscribe, a.unsubscribe)
}

func (a *API) subscribe(ctx context.Context, in *struct {
	ForChatbot
	Body NewSubscription
},
) (*struct {
	Location string `header:"Location"`
	Body     KeyedSubscription
}, error,
) {
	document, err := in.document(ctx, smartsurveyDialect, in.Body.EndpointURL, in.Body.Events...)
	if err != nil {
		return nil, err
	}
	document["description"] = in.Body.Description
	w, err := a.enter(ctx, document, map[string]string{"types": "events", "url": "endpoint_url"})
	if err != nil {
		return nil, err
	}
	return &struct {
		Location string `header:"Location"`
		Body     KeyedSubscription
	}{subscriptionsPath + "/" + w.ID, KeyedSubscription{subscriptionOf(&w, true), w.SignKey.Reveal()}}, nil
}

func (a *API) listSubscriptions(ctx context.Context, in *struct {
	Paging
	Revealing
},
) (*answer[List[Subscription]], error) {
	if err := in.may(ctx); err != nil {
		return nil, err
	}
	page, next, err := a.webhooksAfter(ctx, in.Paging, func(w *jobs.Webhook) bool { return w.Dialect == smartsurveyDialect })
	if err != nil {
		return nil, err
	}
	list := List[Subscription]{Items: []Subscription{}, Next: next}
	for i := range page {
		list.Items = append(list.Items, subscriptionOf(&page[i], in.Reveal))
	}
	return &answer[List[Subscription]]{list}, nil
}

func (a *API) getSubscription(ctx context.Context, in *struct {
	SubscriptionID
	Revealing
},
) (*answer[Subscription], error) {
	if err := in.may(ctx); err != nil {
		return nil, err
	}
	w, err := a.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &answer[Subscription]{subscriptionOf(w, in.Reveal)}, nil
}

// subscription is the webhook that one is.
func (a *API) subscription(ctx context.Context, id string) (*jobs.Webhook, error) {
	w, err := a.find(ctx, id)
	if err == nil && w.Dialect != smartsurveyDialect {
		err = fmt.Errorf("webhook %s: %w", id, jobs.ErrNotFound)
	}
	return w, err
}

func (a *API) unsubscribe(ctx context.Context, in *SubscriptionID) (*struct{}, error) {
	if _, err := a.subscription(ctx, in.ID); err != nil {
		return nil, err
	}
	n, err := a.desk(ctx).Remove(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	a.Log.Info("webhook removed", "webhook", in.ID, "undelivered", n, "by", callerOf(ctx).Name)
	return nil, nil
}
