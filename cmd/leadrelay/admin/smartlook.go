package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// smartlookPath is where webhooks are entered by Smartlook's page "Webhooks", which spells it so.
const smartlookPath = "/api/v1/webhoooks"

const smartlookDialect = "smartlook"

// SmartlookWebhook is the body by which that page enters a webhook.
type SmartlookWebhook struct {
	URL    string `json:"url" doc:"Where issues or notes are POSTed." example:"https://crm.example.com/smartlook"`
	Type   string `json:"type" enum:"issues,notes" doc:"notes are notes and the comments on them."`
	Secret string `json:"secret,omitempty" writeOnly:"true" doc:"The key of Smartlook-Signature-256. Left out, requests are not signed."`
}

// Registered is a webhook's id.
type Registered struct {
	ID string `json:"id" example:"b7f5a0c1d2e34f56"`
}

// smartlook adds what that page describes, and its counterparts.
func (a *API) smartlook() {
	const one = smartlookPath + "/{id}"
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{registrationTag}, Summary: summary,
			Description: "As the path under " + webhooksPath + ".",
		}
	}
	register(a, enteredBy("create-smartlook-webhook", smartlookPath, "Enter a webhook as Smartlook's page does",
		"It has dialect smartlook. "+webhooksPath+" takes this body too. The same again is 409."), a.createSmartlook)
	a.describeOther(webhooksPath, smartlookPath)
	register(a, op("list-smartlook-webhooks", http.MethodGet, smartlookPath, "List webhooks"), a.listWebhooks)
	get := op("get-smartlook-webhook", http.MethodGet, one, "Show a webhook")
	get.Errors = []int{http.StatusNotFound}
	register(a, get, a.getWebhook)
	remove := op("remove-smartlook-webhook", http.MethodDelete, one, "Forget a webhook")
	remove.Errors = []int{http.StatusNotFound, http.StatusConflict}
	register(a, remove, a.removeWebhook)
}

// describeOther lets the description of what may be POSTed to a path, and of its answer, be that of another path as well.
func (a *API) describeOther(path, other string) {
	to, from := a.huma.OpenAPI().Paths[path].Post, a.huma.OpenAPI().Paths[other].Post
	either := func(to, from map[string]*huma.MediaType) {
		described := to["application/json"]
		described.Schema = &huma.Schema{AnyOf: []*huma.Schema{described.Schema, from["application/json"].Schema}}
	}
	either(to.RequestBody.Content, from.RequestBody.Content)
	created := strconv.Itoa(http.StatusCreated)
	either(to.Responses[created].Content, from.Responses[created].Content)
	to.Description += " A body as for " + other + " is answered as there."
}

func (a *API) createSmartlook(ctx context.Context, in *struct {
	ForChatbot
	Body SmartlookWebhook
},
) (*answer[Registered], error) {
	document, err := in.document(ctx, smartlookDialect, in.Body.URL, in.Body.Type)
	if err != nil {
		return nil, err
	}
	if in.Body.Secret != "" {
		document["sign_key"] = in.Body.Secret
	}
	w, err := a.enter(ctx, document, map[string]string{"types": "type", "sign_key": "secret"})
	if err != nil {
		return nil, err
	}
	return &answer[Registered]{Registered{w.ID}}, nil
}

// asSmartlook leads a request to the path as Smartlook's page spells it when its body is the one of that page: it says
// issues or notes and no chatbot, as a webhook of ours must.
func asSmartlook(r *http.Request) *http.Request {
	if r.Method != http.MethodPost || r.URL.Path != webhooksPath {
		return r
	}
	read, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	r.Body = restored{io.MultiReader(bytes.NewReader(read), r.Body), r.Body}
	var members map[string]jsontext.Value
	if err != nil || jsonv2.Unmarshal(read, &members) != nil || members["chatbot"] != nil {
		return r // whoever reads on finds out what is wrong
	}
	var kind string
	if jsonv2.Unmarshal(members["type"], &kind) != nil || kind != "issues" && kind != "notes" {
		return r
	}
	to := *r.URL
	to.Path = smartlookPath
	led := r.WithContext(r.Context())
	led.URL = &to
	return led
}

// A restored body is one of which the beginning was read before.
type restored struct {
	io.Reader
	io.Closer
}
