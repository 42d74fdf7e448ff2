package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Mistake is one thing that is wrong with a document; Key is empty where it is wrong as a whole.
type Mistake struct{ Key, Text string }

// Mistakes are all that is wrong with a document of a webhook.
type Mistakes []Mistake

// Error is a line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Key + ": " + one.Text
	}
	return strings.Join(lines, "\n")
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

func notAllowed(w http.ResponseWriter, methods ...string) {
	allow := strings.Join(methods, ", ")
	w.Header().Set("Allow", allow)
	problem(w, http.StatusMethodNotAllowed, "this path answers "+allow)
}

// withoutValues keeps what was sent out of problems: a body may hold a sign key.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	for i, e := range model.Errors {
		shown := *e
		shown.Value = nil
		model.Errors[i] = &shown
	}
	slices.SortStableFunc(model.Errors, func(a, b *huma.ErrorDetail) int { return cmp.Compare(a.Location, b.Location) })
	if model.Detail == "validation failed" && len(model.Errors) > 0 {
		first := model.Errors[0]
		model.Detail = first.Location + ": " + first.Message
		if more := len(model.Errors) - 1; more > 0 {
			model.Detail += fmt.Sprintf(" (and %d more)", more)
		}
	}
	return model, nil
}

// failed is the problem that an error of the desk is; writes: of a request that changes something. Where a database does
// not answer such a request may have done it all the same.
func (a *API) failed(ctx context.Context, err error, writes bool) error {
	var mistakes Mistakes
	var exists *jobs.ExistsError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mistakes):
		return unfit("body", mistakes...)
	case errors.As(err, &exists):
		header := http.Header{"Location": {webhooksPath + "/" + exists.ID}}
		return huma.ErrorWithHeaders(huma.Error409Conflict(err.Error()), header)
	case errors.Is(err, jobs.ErrSignKeyOf) && callerOf(ctx).Chatbot != "": // the other webhook may be another chatbot's
		return huma.Error409Conflict("it shares a sign key with another webhook, which forbids this: ask who runs leadrelay")
	case errors.Is(err, jobs.ErrProvisioned), errors.Is(err, jobs.ErrNotRotated), errors.Is(err, jobs.ErrSignKeyOf):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, jobs.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case a.Unavailable(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSilent):
		a.unanswered(err)
		text := "a database does not answer; try again later"
		if writes {
			text = "a database does not answer, and whether this was done is not known: see what there is before you ask for it again"
		}
		return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(text), http.Header{"Retry-After": {"5"}})
	case ctx.Err() != nil:
		return huma.NewError(499, "the client went away")
	}
	if !errors.Is(err, errPanicked) { // which is logged
		a.Log.Error("a request failed", "error", err)
	}
	return huma.Error500InternalServerError("it could not be done; the daemon's log says why")
}

// unanswered logs why requests cannot be answered, once a minute: whoever asks all the time would fill the log while a
// database is away.
func (a *API) unanswered(err error) {
	now := time.Now().UnixNano()
	last := a.said.Load()
	if now-last < time.Minute.Nanoseconds() || !a.said.CompareAndSwap(last, now) {
		a.Log.Debug("a request could not be answered", "error", err)
		return
	}
	a.Log.Warn("requests cannot be answered", "error", err)
}

// unfit is the problem of a request that is understood and wrong.
func unfit(where string, mistakes ...Mistake) error {
	errs := make([]error, len(mistakes))
	for i, m := range mistakes {
		location := where
		if m.Key != "" {
			location += "." + m.Key
		}
		errs[i] = &huma.ErrorDetail{Location: location, Message: m.Text}
	}
	return huma.Error422UnprocessableEntity("validation failed", errs...)
}
