package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

const registrationTag = "registrations"

// Customers who have scripts for other vendors' webhooks register with the paths and bodies of those vendors. Such a body
// names no chatbot: the token does.

// ForChatbot is whose records a registration is for.
type ForChatbot struct {
	Chatbot string `query:"chatbot" doc:"With a token of all chatbots: the one whose records it gets. Else the token's, which need not be named."`
}

// document begins the document of the webhook that a registration enters.
func (f ForChatbot) document(ctx context.Context, dialect string, url string, types ...string) (map[string]any, error) {
	chatbot := f.Chatbot
	if chatbot == "" {
		chatbot = callerOf(ctx).Chatbot
	}
	if chatbot == "" {
		return nil, unfit("query", Mistake{"chatbot", "is missing, and this token is for all chatbots: " +
			"use a chatbot's own (leadrelay token add --chatbot C), or name one with ?chatbot=C"})
	}
	return map[string]any{"chatbot": chatbot, "dialect": dialect, "url": url, "types": types}, nil
}

// enter enters the webhook of a registration. What is wrong with it is said in the registration's words: names are its
// members by the document's.
func (a *API) enter(ctx context.Context, document map[string]any, names map[string]string) (jobs.Webhook, error) {
	desk := a.desk(ctx)
	w, err := desk.Enter(ctx, document)
	var mistakes Mistakes
	if errors.As(err, &mistakes) {
		return w, inWordsOf(mistakes, names, desk.Streams())
	}
	if err == nil {
		a.Log.Info("webhook entered", "webhook", w.ID, "dialect", w.Dialect, "by", callerOf(ctx).Name)
	}
	return w, err
}

func inWordsOf(mistakes Mistakes, names map[string]string, streams []string) error {
	said := slices.Clone(mistakes)
	for i := range said {
		m := &said[i]
		key, at, listed := strings.Cut(m.Key, "[")
		if key == "types" {
			m.Text = "is told by no stream; there are streams of " + strings.Join(streams, ", ")
		}
		if name, known := names[key]; known {
			m.Key = name
			if listed && name == "events" {
				m.Key += "[" + at
			}
		}
	}
	return unfit("body", said...)
}

// enteredBy is the operation of a registration.
func enteredBy(id, path, summary, description string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: path, Tags: []string{registrationTag}, Summary: summary, Description: description,
		DefaultStatus: http.StatusCreated, Errors: []int{http.StatusConflict, http.StatusRequestEntityTooLarge},
	}
}
