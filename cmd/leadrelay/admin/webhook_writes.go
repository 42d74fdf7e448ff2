package admin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

// webhookWrites adds what changes webhooks.
func (a *API) webhookWrites() {
	const one = webhooksPath + "/{id}"
	op := func(id, method, path, summary, description string, errors ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{webhookTag}, Summary: summary, Description: description,
			Errors: append(errors, http.StatusConflict, http.StatusNotFound),
		}
	}
	const body = http.StatusRequestEntityTooLarge
	create := op("create-webhook", http.MethodPost, webhooksPath, "Enter a webhook",
		"Every running daemon pushes to it within seconds. The same chatbot, url, dialect and types again is 409, and its Location is the webhook that is there.",
		body)
	create.DefaultStatus = http.StatusCreated
	register(a, create, a.createWebhook)
	put := op("put-webhook", http.MethodPut, one, "Enter a webhook of this id, or make it what is sent",
		"What is left out is the default. Left out, sign_key stays what it is, and from always does. A new webhook is 201, else 200. A chatbot's token enters none: it chooses no id.", body)
	register(a, put, a.putWebhook)
	a.answers(put, http.StatusCreated, "Created")
	register(a, op("change-webhook", http.MethodPatch, one, "Change what is named",
		"A merge patch: null sets a member to its default. A sign_key signs at once and alone; rotate-key lets both sign for a while.", body), a.changeWebhook)
	register(a, op("remove-webhook", http.MethodDelete, one, "Forget a webhook",
		"What it is still owed is counted as undelivered, and dead."), a.removeWebhook)
	register(a, op("rotate-webhook-key", http.MethodPost, one+"/rotate-key", "Make a new sign key",
		"For the overlap (24h, where nothing is sent) requests carry the signatures of both keys. now: without overlap, for a key that leaked. finish: make no key; the old one ends now. In an overlap another one is 409.",
		body), a.rotateKey)
	registerWithin(a, op("test-webhook", http.MethodPost, one+"/test", "Send a sample, and say what is wrong with the answer",
		"One marked sample goes the way that records go, disabled or not. It is no delivery, and nothing of it is kept. What is wrong at the CRM is in the answer to this call, which is 200 all the same."),
		2*a.PushTimeout+patience, a.testWebhook) // what failed is looked into with a connection of its own
	register(a, op("enable-webhook", http.MethodPost, one+"/enable", "Let a disabled or held webhook send again", ""), a.setState(jobs.Active))
	register(a, op("disable-webhook", http.MethodPost, one+"/disable", "Stop a webhook", "It still gathers, and sends nothing."), a.setState(jobs.Disabled))
}

// answers adds a second status to an operation, with the body of the first.
func (a *API) answers(op huma.Operation, status int, description string) {
	item := a.huma.OpenAPI().Paths[op.Path]
	described := map[string]*huma.Operation{http.MethodPut: item.Put, http.MethodPost: item.Post}[op.Method]
	again := *described.Responses["200"]
	again.Description = description
	described.Responses[strconv.Itoa(status)] = &again
}

func (a *API) createWebhook(ctx context.Context, in *answer[newDocument]) (*struct {
	Location string `header:"Location"`
	Body     Keyed
}, error,
) {
	w, err := a.desk(ctx).Enter(ctx, withoutNull(in.Body))
	if err != nil {
		return nil, err
	}
	a.Log.Info("webhook entered", "webhook", w.ID, "by", callerOf(ctx).Name)
	return &struct {
		Location string `header:"Location"`
		Body     Keyed
	}{webhooksPath + "/" + w.ID, keyed(&w).Body}, nil
}

// withoutNull leaves out what is null: in a new webhook it is as good as left out.
func withoutNull(document map[string]any) map[string]any {
	given := map[string]any{}
	for name, value := range document {
		if value != nil {
			given[name] = value
		}
	}
	return given
}

// sameID refuses a document that names another webhook than the path.
func sameID(document map[string]any, id string) error {
	if named, ok := document["id"]; ok && named != id {
		return Mistakes{{"id", "is not the one in the path; a webhook's id stays what it is"}}
	}
	return nil
}

// Kept is a webhook's id, and the sign key of one that is new.
type Kept struct {
	ID      string `json:"id" example:"acme"`
	SignKey string `json:"sign_key,omitempty" doc:"Of a new webhook whose requests are signed."`
}

func (a *API) putWebhook(ctx context.Context, in *struct {
	WebhookID
	Body newDocument
},
) (*struct {
	Status int
	Body   Kept
}, error,
) {
	document := withoutNull(in.Body)
	if err := sameID(document, in.ID); err != nil {
		return nil, err
	}
	w, entered, err := a.desk(ctx).Put(ctx, in.ID, document)
	if err != nil {
		return nil, err
	}
	status, did, body := http.StatusOK, "webhook changed", Kept{ID: w.ID}
	if entered {
		status, did, body = http.StatusCreated, "webhook entered", Kept(keyed(&w).Body)
	}
	a.Log.Info(did, "webhook", w.ID, "by", callerOf(ctx).Name)
	return &struct {
		Status int
		Body   Kept
	}{status, body}, nil
}

func (a *API) changeWebhook(ctx context.Context, in *struct {
	WebhookID
	Body changeDocument
},
) (*answer[Webhook], error) {
	if err := sameID(in.Body, in.ID); err != nil {
		return nil, err
	}
	delete(in.Body, "id")
	w, err := a.desk(ctx).Change(ctx, in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	a.Log.Info("webhook changed", "webhook", w.ID, "by", callerOf(ctx).Name)
	return &answer[Webhook]{ViewOf(&w, false)}, nil
}

// Removed says what a removed webhook was still owed.
type Removed struct {
	ID          string `json:"id" example:"acme"`
	Undelivered int    `json:"undelivered" doc:"Records that it was still owed; they are dead, removed."`
}

func (a *API) removeWebhook(ctx context.Context, in *WebhookID) (*answer[Removed], error) {
	n, err := a.desk(ctx).Remove(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	a.Log.Info("webhook removed", "webhook", in.ID, "undelivered", n, "by", callerOf(ctx).Name)
	return &answer[Removed]{Removed{in.ID, n}}, nil
}

// Rotation says how a key is rotated; at most one of its members is given.
type Rotation struct {
	Overlap string `json:"overlap,omitempty" doc:"How long the old key signs too, such as 24h." example:"24h"`
	Now     bool   `json:"now,omitempty" doc:"The old key stops at once."`
	Finish  bool   `json:"finish,omitempty" doc:"Make no key; the old one stops now."`
}

// how is the rotation that is meant.
func (r *Rotation) how() (jobs.Rotation, error) {
	const day = 24 * time.Hour
	switch {
	case r == nil:
		return jobs.Rotation{Overlap: day}, nil
	case r.Now && r.Finish, r.Overlap != "" && (r.Now || r.Finish):
		return jobs.Rotation{}, unfit("body", Mistake{"", "name one of overlap, now and finish"})
	case r.Now:
		return jobs.Rotation{}, nil
	case r.Finish:
		return jobs.Rotation{Finish: true}, nil
	case r.Overlap == "":
		return jobs.Rotation{Overlap: day}, nil
	}
	overlap, ok := jobs.ParseDuration(r.Overlap)
	if !ok || overlap <= 0 || overlap > jobs.LongestOverlap {
		return jobs.Rotation{}, unfit("body", Mistake{"overlap", "is no time between 1s and a year; write 1h, 24h, 7d…, or now: true"})
	}
	return jobs.Rotation{Overlap: overlap}, nil
}

func (a *API) rotateKey(ctx context.Context, in *struct {
	WebhookID
	Body *Rotation
},
) (*answer[Keyed], error) {
	how, err := in.Body.how()
	if err != nil {
		return nil, err
	}
	w, err := a.desk(ctx).Rotate(ctx, in.ID, how)
	if err != nil {
		return nil, err
	}
	did := "a sign key was rotated"
	if how.Finish {
		did = "the rotation of a sign key was ended"
	}
	a.Log.Info(did, "webhook", w.ID, "by", callerOf(ctx).Name)
	return keyed(&w), nil
}

func (a *API) testWebhook(ctx context.Context, in *struct {
	WebhookID
	Revealing
},
) (*answer[jobs.Trial], error) {
	if err := in.may(ctx); err != nil {
		return nil, err
	}
	trial, err := a.desk(ctx).Test(ctx, in.ID, in.Reveal)
	if err != nil {
		return nil, err
	}
	a.Log.Info("webhook tested", "webhook", in.ID, "accepted", trial.OK, "code", trial.Code, "by", callerOf(ctx).Name)
	return &answer[jobs.Trial]{trial}, nil
}

func (a *API) setState(state jobs.WebhookState) func(context.Context, *WebhookID) (*answer[Webhook], error) {
	return func(ctx context.Context, in *WebhookID) (*answer[Webhook], error) {
		w, err := a.desk(ctx).SetState(ctx, in.ID, state)
		if err != nil {
			return nil, err
		}
		a.Log.Info("webhook is "+string(state), "webhook", w.ID, "by", callerOf(ctx).Name)
		return &answer[Webhook]{ViewOf(&w, false)}, nil
	}
}
