package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

const (
	patience = 15 * time.Second // of a request, for the databases
	maxBody  = 64 << 10

	webhooksPath   = "/api/v1/webhooks"
	deliveriesPath = "/api/v1/deliveries"
	runsPath       = "/api/v1/runs"
)

// A Desk does what is asked of it for one caller. Webhooks that there are not for the caller are jobs.ErrNotFound, a
// document that is wrong is Mistakes.
type Desk interface {
	// Webhooks returns those that there are for the caller, by id.
	Webhooks(ctx context.Context) ([]jobs.Webhook, error)
	// Enter enters a webhook; one like it is a jobs.ExistsError. A caller of one chatbot chooses no id.
	Enter(ctx context.Context, document map[string]any) (jobs.Webhook, error)
	// Put makes the webhook what the document says; entered: there was none. For a caller of one chatbot that is
	// jobs.ErrNotFound.
	Put(ctx context.Context, id string, document map[string]any) (w jobs.Webhook, entered bool, err error)
	// Change changes what the document names; null is the default.
	Change(ctx context.Context, id string, document map[string]any) (jobs.Webhook, error)
	// SetState disables a webhook by hand, or lets it run again.
	SetState(ctx context.Context, id string, state jobs.WebhookState) (jobs.Webhook, error)
	// Rotate rotates a webhook's key; jobs.ErrNotRotated where it cannot be.
	Rotate(ctx context.Context, id string, how jobs.Rotation) (jobs.Webhook, error)
	// Test sends a sample to a webhook, which is no delivery. Nothing in a Trial is secret, but for the URL where it is
	// revealed.
	Test(ctx context.Context, id string, reveal bool) (jobs.Trial, error)
	// Remove forgets a webhook and counts what it is still owed.
	Remove(ctx context.Context, id string) (undelivered int, err error)
	// Deliveries returns a page, those first seen last first.
	Deliveries(ctx context.Context, q DeliveryQuery) (page []jobs.Delivery, next string, err error)
	// Delivery returns one delivery and what is known of its attempts, oldest first.
	Delivery(ctx context.Context, id uuid.UUID) (jobs.Delivery, []jobs.Attempt, error)
	// Runs returns a page, the newest first.
	Runs(ctx context.Context, limit int, after string) (page []jobs.Run, next string, err error)
	// Run returns one run.
	Run(ctx context.Context, id string) (jobs.Run, error)
	// Streams are the types that there are streams of.
	Streams() []string
	// StartRun begins a run by hand in the daemon.
	StartRun(ctx context.Context, scope jobs.Scope) (jobs.Run, error)
}

// Options of an API. All but Auth are required.
type Options struct {
	Desk        func(chatbot string) Desk // what a caller of this chatbot ("": of all) may see and touch
	Auth        Authenticator             // nil: reading only, from this machine only
	Listen      string                    // the address that is listened on
	Unavailable func(error) bool          // whether an error is one that waiting mends
	PushTimeout time.Duration             // of a request to a CRM
	Log         *slog.Logger
	Version     string // of the program
}

// An API answers /api/v1 and /openapi.json.
type API struct {
	Options
	gate    gate
	mux     *http.ServeMux
	huma    huma.API
	errands *errands
	said    atomic.Int64 // when it was last logged that requests cannot be answered, in nanoseconds
}

// NewAPI makes an API.
func NewAPI(o Options) *API {
	begun := &errands{log: o.Log}
	a := &API{Options: o, gate: gate{auth: o.Auth, listen: o.Listen, errands: begun}, mux: http.NewServeMux(), errands: begun}
	a.huma = humago.New(a.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "leadrelay", Version: o.Version,
				Description: "Webhooks, what is owed to them and what became of it. Errors are RFC 9457 problems.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {Type: "http", Scheme: "bearer", Description: "A token: that of admin.token_file, or one of a chatbot."},
					"basic":  {Type: "http", Scheme: "basic", Description: "For browsers: any user, and the token as the password."},
				},
			},
			Security: []map[string][]string{{"bearer": {}}, {"basic": {}}},
		},
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{withoutValues},

		RejectUnknownQueryParameters: true,
	})
	a.webhooks()
	a.webhookWrites()
	a.deliveries()
	a.runs()
	a.smartlook()
	a.smartsurvey()
	a.mux.HandleFunc("GET /openapi.json", a.describe)
	a.mux.HandleFunc("/", a.unknown)
	return a
}

// format reads JSON as it is written: names in their case, each once.
var format = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		err := jsonv2.Unmarshal(data, v)
		if semantic, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
			return errors.New("has another type at " + string(semantic.JSONPointer)) // its text may hold what was sent
		}
		return err
	},
}

// ServeHTTP answers a request from whoever may ask.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, ok := a.gate.enter(w, r)
	if !ok {
		return
	}
	if refusal := wrongBody(r); refusal != "" {
		problem(w, http.StatusUnsupportedMediaType, refusal)
		return
	}
	ctx := context.WithValue(r.Context(), principalKey{}, caller)
	ctx = context.WithValue(ctx, connectionKey{}, http.NewResponseController(w))
	a.mux.ServeHTTP(w, asSmartlook(r.WithContext(ctx)))
}

// desk is what the caller may see and touch.
func (a *API) desk(ctx context.Context) Desk { return a.Desk(callerOf(ctx).Chatbot) }

// describe answers with the OpenAPI document.
func (a *API) describe(w http.ResponseWriter, _ *http.Request) {
	text, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		a.Log.Error("the OpenAPI document could not be written", "error", err)
		problem(w, http.StatusInternalServerError, "it could not be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// unknown answers requests for a path that there is not, or not with this method.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "" && pattern != "/" {
			methods = append(methods, method)
		}
	}
	if len(methods) > 0 {
		notAllowed(w, methods...)
		return
	}
	problem(w, http.StatusNotFound, "there is no such path; GET /openapi.json lists those that there are")
}

type connectionKey struct{}

// register adds an operation. Its handler has until the API's patience ends, and its errors are problems.
func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	registerWithin(a, op, patience, handle)
}

// registerWithin adds an operation whose handler has so long; the listener waits for its answer longer.
func registerWithin[I, O any](a *API, op huma.Operation, limit time.Duration, handle func(context.Context, *I) (*O, error)) {
	op.MaxBodyBytes = maxBody + 1 // huma refuses what is as long
	op.Errors = append(op.Errors, http.StatusForbidden, http.StatusServiceUnavailable)
	if a.Auth != nil {
		op.Errors = append(op.Errors, http.StatusUnauthorized)
	}
	if op.Method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusUnsupportedMediaType)
	}
	slices.Sort(op.Errors)
	huma.Register(a.huma, op, func(ctx context.Context, input *I) (*O, error) {
		if connection, ok := ctx.Value(connectionKey{}).(*http.ResponseController); ok {
			_ = connection.SetWriteDeadline(time.Now().Add(limit + patience)) // where there is a connection
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		output, err := within(ctx, a.errands, op.OperationID, func() (*O, error) { return handle(ctx, input) })
		if _, ok := errors.AsType[huma.StatusError](err); err != nil && !ok {
			err = a.failed(ctx, err, op.Method != http.MethodGet)
		}
		return output, err
	})
}

// Paging is a list's place.
type Paging struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many items."`
	After string `query:"after" maxLength:"256" doc:"The next of the page before; left out for the first."`
}

// List is a page of items; Next is "" at the end.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next" doc:"What to name as after for the next page; empty at the end."`
}

// answer is a body.
type answer[T any] struct{ Body T }
