package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// A DeliveryQuery chooses deliveries; what is left zero does not matter.
type DeliveryQuery struct {
	Webhook string
	Chatbot string
	Type    string
	State   jobs.State
	Row     string
	Limit   int
	After   string
}

// A Delivery is one record owed to one webhook, and what became of it.
type Delivery struct {
	ID        string     `json:"id" format:"uuid" doc:"Also the requests' X-Webhook-Id."`
	Webhook   string     `json:"webhook" example:"acme"`
	Chatbot   string     `json:"chatbot" example:"59001dd73709417321c58b11693183a2"`
	Type      string     `json:"type" example:"Lead"`
	Row       string     `json:"row" example:"4711" doc:"The row's key in its table."`
	State     string     `json:"state" enum:"pending,sending,delivered,dead"`
	Reason    string     `json:"reason" doc:"Why it is dead; empty while it is not."`
	Attempts  int        `json:"attempts" doc:"Requests whose outcome is known."`
	LastError string     `json:"last_error" doc:"The reason code of the last failed attempt." example:"ack_mismatch"`
	NextAt    *time.Time `json:"next_at" doc:"When it is due; null unless it is pending."`
	SeenAt    time.Time  `json:"seen_at" doc:"When its row was first seen."`
	SettledAt *time.Time `json:"settled_at" doc:"When it was delivered or died."`
	TestOnly  bool       `json:"test_answer" doc:"Acknowledged by the answer that a CRM gives to tests."`
	Run       string     `json:"run" doc:"The run that it is or was in; empty for immediate pushes."`
}

// An Attempt is one request whose outcome is known.
type Attempt struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Status  int       `json:"status" doc:"HTTP status; 0 where no answer came." example:"200"`
	Error   string    `json:"error" doc:"Reason code; empty where it was acknowledged." example:"ack_mismatch"`
	Word    string    `json:"word" doc:"The answer's status word, the record's own values masked."`
}

// A DeliveryStory is a delivery with its attempts.
type DeliveryStory struct {
	Delivery
	History []Attempt `json:"history" doc:"Attempts, oldest first, as far as they are still kept."`
}

func deliveryOf(d *jobs.Delivery) Delivery {
	v := Delivery{
		ID: d.ID.String(), Webhook: d.Webhook, Chatbot: d.Chatbot, Type: d.Type, Row: d.Row, State: string(d.State), Reason: string(d.Reason),
		Attempts: d.Attempts, LastError: d.LastError, SeenAt: d.SeenAt.UTC(), SettledAt: known(d.SettledAt), TestOnly: d.TestAnswer, Run: d.Run,
	}
	if d.State == jobs.Pending {
		v.NextAt = known(d.NextAt)
	}
	return v
}

func (a *API) deliveries() {
	tags := []string{"deliveries"}
	register(a, huma.Operation{
		OperationID: "list-deliveries", Method: http.MethodGet, Path: deliveriesPath, Tags: tags,
		Summary: "List deliveries", Description: "Those first seen last first.",
	}, a.listDeliveries)
	register(a, huma.Operation{
		OperationID: "get-delivery", Method: http.MethodGet, Path: deliveriesPath + "/{id}", Tags: tags,
		Summary: "Show a delivery and its attempts", Errors: []int{http.StatusNotFound},
	}, a.getDelivery)
}

func (a *API) listDeliveries(ctx context.Context, in *struct {
	Paging
	Webhook string `query:"webhook" maxLength:"64" doc:"Of this webhook."`
	Chatbot string `query:"chatbot" doc:"Of this chatbot's records."`
	Type    string `query:"type" doc:"Of records of this type."`
	State   string `query:"state" enum:"pending,sending,delivered,dead"`
	Row     string `query:"row" doc:"Of the row with this key."`
},
) (*answer[List[Delivery]], error) {
	page, next, err := a.desk(ctx).Deliveries(ctx, DeliveryQuery{
		Webhook: in.Webhook, Chatbot: in.Chatbot, Type: in.Type, State: jobs.State(in.State), Row: in.Row, Limit: in.Limit, After: in.After,
	})
	if in.After != "" && errors.Is(err, jobs.ErrNotFound) {
		return nil, unfit("query", Mistake{"after", "no page named it as its next"})
	}
	if err != nil {
		return nil, err
	}
	list := List[Delivery]{Items: []Delivery{}, Next: next}
	for i := range page {
		list.Items = append(list.Items, deliveryOf(&page[i]))
	}
	return &answer[List[Delivery]]{list}, nil
}

func (a *API) getDelivery(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"The delivery's id, as in X-Webhook-Id."`
},
) (*answer[DeliveryStory], error) {
	d, attempts, err := a.desk(ctx).Delivery(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	story := DeliveryStory{Delivery: deliveryOf(&d), History: []Attempt{}}
	for _, t := range attempts {
		story.History = append(story.History, Attempt{At: t.At.UTC(), Seconds: t.Duration.Seconds(), Status: t.Status, Error: t.Error, Word: t.Word})
	}
	return &answer[DeliveryStory]{story}, nil
}
