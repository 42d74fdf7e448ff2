package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
)

// tokens are an Authenticator of a few.
type tokens map[string]admin.Principal

func (t tokens) Authenticate(_ context.Context, token string) (admin.Principal, bool, error) {
	p, ok := t[token]
	return p, ok, nil
}

// testTokens are those of a daemon under test: of its operator, and of the chatbot a's customer.
var testTokens = tokens{
	"operator-token": {Name: "operator", Write: true},
	"watcher-token":  {Name: "watcher"},
	"a-token":        {Name: "customer a", Chatbot: "a", Write: true},
	"a-watcher":      {Name: "watcher of a", Chatbot: "a"},
}

// An api is a daemon's API in this process. Every answer to a path that the OpenAPI document describes must be as it
// describes.
type api struct {
	t      *testing.T
	url    string
	token  string
	log    *journal
	routes routers.Router
}

// newAPI starts a daemon on a configuration, whose API takes these tokens (nil: there are none).
func newAPI(t *testing.T, config string, auth admin.Authenticator) *api {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &journal{}
	a := newApp(nil, io.Discard, log)
	a.configPath, a.log = path, slog.New(slog.NewTextHandler(log, nil))
	s, err := a.begin(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.access = auth
	listener, err := admin.Listen("", a.log)
	if err != nil {
		t.Fatal(err)
	}
	listener.Use(s.api(a.log))
	server := httptest.NewServer(listener)
	t.Cleanup(func() {
		listener.Use(nil)()
		server.Close()
		if err := s.end(noAPI); err != nil {
			t.Error(err)
		}
	})
	c := &api{t: t, url: server.URL, log: log}
	if auth != nil {
		c.token = "operator-token"
	}
	_, text, _ := c.send("GET", "/openapi.json", "")
	document, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatalf("the OpenAPI document: %v", err)
	}
	if c.routes, err = legacy.NewRouter(document, openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	return c
}

// as is the same API, asked with another token.
func (c *api) as(token string) *api {
	other := *c
	other.token = token
	return &other
}

// send sends a request, its body as JSON where it has one.
func (c *api) send(method, path, body string, headers ...string) (status int, text string, header http.Header) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.described(r, res, answer)
	return res.StatusCode, string(answer), res.Header
}

// described checks an answer by the OpenAPI document.
func (c *api) described(r *http.Request, res *http.Response, body []byte) {
	c.t.Helper()
	if res.StatusCode >= 400 && res.Header.Get("Content-Type") != "application/problem+json" {
		c.t.Errorf("%s %s: HTTP %d is no problem but %s", r.Method, r.URL.Path, res.StatusCode, res.Header.Get("Content-Type"))
	}
	if c.routes == nil {
		return
	}
	route, params, err := c.routes.FindRoute(r)
	if err != nil || res.StatusCode == http.StatusMethodNotAllowed {
		return // none that is described
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	request := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options,
	}
	if err := openapi3filter.ValidateResponse(c.t.Context(), response); err != nil {
		c.t.Errorf("%s %s: the answer is not as described: %v\n%s", r.Method, r.URL.Path, err, body)
	}
}

// want sends a request and reads its answer, which must have this status.
func (c *api) want(status int, method, path, body string, headers ...string) map[string]any {
	c.t.Helper()
	got, text, _ := c.send(method, path, body, headers...)
	if got != status {
		c.t.Fatalf("%s %s %s: HTTP %d, want %d\n%s", method, path, body, got, status, text)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", method, path, err, text)
	}
	return answer
}

// locations are where the errors of a problem are, and its detail.
func (c *api) problem(status int, method, path, body string) (detail string, locations []string) {
	c.t.Helper()
	answer := c.want(status, method, path, body)
	detail, _ = answer["detail"].(string)
	list, _ := answer["errors"].([]any)
	for _, e := range list {
		locations = append(locations, fmt.Sprint(e.(map[string]any)["location"]))
	}
	return detail, locations
}

// ids are those of the items of a list, over all its pages.
func (c *api) ids(path string, limit int) (ids []string) {
	c.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for after := ""; ; {
		page := c.want(200, "GET", fmt.Sprintf("%s%slimit=%d&after=%s", path, separator, limit, after), "")
		items := page["items"].([]any)
		if len(items) > limit {
			c.t.Fatalf("a page of %d has %d items", limit, len(items))
		}
		for _, item := range items {
			ids = append(ids, item.(map[string]any)["id"].(string))
		}
		if after = page["next"].(string); after == "" {
			return ids
		}
	}
}

// apiConfig is a configuration with a webhook of each kind: of one chatbot, of another, of both, of all.
func apiConfig(t *testing.T, engine, crm string) (config string, app *application) {
	app = newApplication(t, engine)
	return fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: of-a, chatbot: a, url: "%[4]s/of-a/secret-path", sign_key: %[5]q, headers: {X-Token: secret-header}, from: beginning}
  - {id: of-b, chatbot: b, url: "%[4]s/of-b/secret-path", sign_key: %[5]q, from: beginning}
  - {id: of-both, chatbot: [a, b], url: "%[4]s/of-both/secret-path", sign_key: %[5]q, from: beginning}
  - {id: of-all, chatbot: "*", url: "%[4]s/of-all/secret-path", sign_key: %[5]q, from: beginning}
`, app.source, newLedger(t, engine), local, crm, signKey), app
}

// TestOpenAPI: the document is valid OpenAPI 3.1, its examples too, and it describes every path that is answered.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	c := newAPI(t, config, testTokens) // which validates it
	_, text, header := c.send("GET", "/openapi.json", "")
	var document struct {
		OpenAPI  string                    `json:"openapi"`
		Paths    map[string]map[string]any `json:"paths"`
		Security []map[string]any          `json:"security"`
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1.") || header.Get("Content-Type") != "application/json" || len(document.Security) != 2 {
		t.Errorf("openapi %s, %s, security %v", document.OpenAPI, header.Get("Content-Type"), document.Security)
	}
	got := map[string][]string{}
	for path, item := range document.Paths {
		got[path] = slices.Sorted(maps.Keys(item))
	}
	want := map[string][]string{
		"/api/v1/webhooks":                 {"get", "post"},
		"/api/v1/webhooks/{id}":            {"delete", "get", "patch", "put"},
		"/api/v1/webhooks/{id}/key":        {"get"},
		"/api/v1/webhooks/{id}/rotate-key": {"post"},
		"/api/v1/webhooks/{id}/test":       {"post"},
		"/api/v1/webhooks/{id}/enable":     {"post"},
		"/api/v1/webhooks/{id}/disable":    {"post"},
		"/api/v1/deliveries":               {"get"},
		"/api/v1/deliveries/{id}":          {"get"},
		"/api/v1/runs":                     {"get", "post"},
		"/api/v1/runs/{id}":                {"get"},
		"/api/v1/webhoooks":                {"get", "post"},
		"/api/v1/webhoooks/{id}":           {"delete", "get"},
		"/api/v1/subscriptions":            {"get", "post"},
		"/api/v1/subscriptions/{id}":       {"delete", "get"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	for path, item := range document.Paths {
		for method := range item {
			status, text, _ := c.as("").send(strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "x"), "")
			if status != http.StatusUnauthorized {
				t.Errorf("%s %s without a token: HTTP %d\n%s", method, path, status, text)
			}
		}
	}
}
