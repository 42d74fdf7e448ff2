package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestAPIWithoutTokens: this machine may read, and see no secret; nothing is changed.
func TestAPIWithoutTokens(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	c := newAPI(t, config, nil)
	if got := c.want(200, "GET", "/api/v1/webhooks", ""); len(got["items"].([]any)) != 4 {
		t.Errorf("webhooks: %v", got)
	}
	for _, path := range []string{"/healthz", "/openapi.json", "/api/v1/webhooks/of-a", "/api/v1/deliveries", "/api/v1/runs"} {
		c.want(200, "GET", path, "")
	}
	for _, test := range []struct{ method, path, body string }{
		{"GET", "/api/v1/webhooks/of-a/key", ""},
		{"GET", "/api/v1/webhooks/of-a?reveal=true", ""},
		{"GET", "/api/v1/webhooks?reveal=true", ""},
		{"POST", "/api/v1/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/"}`},
		{"PUT", "/api/v1/webhooks/of-a", `{"chatbot": "c", "url": "http://127.0.0.1/"}`},
		{"PATCH", "/api/v1/webhooks/of-a", `{}`},
		{"DELETE", "/api/v1/webhooks/of-a", ""},
		{"POST", "/api/v1/webhooks/of-a/rotate-key", ""},
		{"POST", "/api/v1/webhooks/of-a/test", ""},
		{"POST", "/api/v1/webhooks/of-a/disable", ""},
		{"POST", "/api/v1/runs", ""},
		{"POST", "/api/v1/nothing", ""},
	} {
		c.want(403, test.method, test.path, test.body)
	}
	for _, path := range []string{"/healthz", "/openapi.json", "/api/v1/webhooks", "/nothing"} {
		for _, header := range [][2]string{
			{"Host", "evil.example"},
			{"Host", "evil.example:80"},
			{"X-Forwarded-For", "127.0.0.1"},
			{"X-Forwarded-Host", "localhost"},
			{"Forwarded", "for=127.0.0.1"},
			{"Via", "1.1 proxy"},
			{"X-Real-Ip", "127.0.0.1"},
		} {
			c.want(403, "GET", path, "", header[0], header[1])
		}
	}
	for _, path := range []string{"/openapi.json", "/api/v1/webhooks", "/api/v1/deliveries"} { // a chatbot's caller would see all
		c.want(403, "GET", path, "", "Authorization", "Bearer leadrelay_0123456789abcdef")
	}
}

// TestAPITokens: who has no token that is known gets nothing; one that may only read changes nothing and sees no secret;
// a browser's requests for another site are refused.
func TestAPITokens(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	c := newAPI(t, config, testTokens)
	nobody := c.as("")
	nobody.want(200, "GET", "/healthz", "", "X-Forwarded-For", "203.0.113.1") // liveness needs none
	for name, value := range map[string]string{
		"nothing": "", "another token": "Bearer operator-tokem", "nothing as a token": "Bearer ", "a scheme that is none": "Token operator-token",
		"the token alone": "operator-token", "as the user": "Basic b3BlcmF0b3ItdG9rZW46", "no base64": "Basic :operator-token",
	} {
		status, text, header := nobody.send("GET", "/api/v1/webhooks", "", "Authorization", value)
		if status != http.StatusUnauthorized || len(header.Values("WWW-Authenticate")) != 2 {
			t.Errorf("%s: HTTP %d, WWW-Authenticate %q\n%s", name, status, header.Values("WWW-Authenticate"), text)
		}
	}
	for _, value := range []string{"Bearer operator-token", "bearer  operator-token", "Basic YW55Ym9keTpvcGVyYXRvci10b2tlbg=="} {
		nobody.want(200, "GET", "/api/v1/webhooks/of-a", "", "Authorization", value)
	}
	if got := c.want(200, "GET", "/api/v1/webhooks/of-a?reveal=true", ""); got["url"] != "http://127.0.0.1:1/of-a/secret-path" {
		t.Errorf("revealed: %v", got["url"])
	}

	watcher := c.as("watcher-token")
	watcher.want(200, "GET", "/api/v1/webhooks", "")
	watcher.want(200, "GET", "/api/v1/runs", "")
	watcher.want(403, "GET", "/api/v1/webhooks?reveal=true", "")
	watcher.want(403, "GET", "/api/v1/webhooks/of-a/key", "")
	watcher.want(403, "POST", "/api/v1/runs", "")
	watcher.want(403, "POST", "/api/v1/webhooks/of-a/test", "")
	watcher.want(403, "DELETE", "/api/v1/webhooks/of-a", "")
	if strings.Contains(c.log.String(), "a sign key was shown") {
		t.Error("a sign key was shown to who may only read")
	}

	for _, test := range []struct {
		status  int
		headers []string
	}{
		{403, []string{"Sec-Fetch-Site", "cross-site"}},
		{403, []string{"Sec-Fetch-Site", "same-site"}},
		{403, []string{"Origin", "https://evil.example"}},
		{403, []string{"Origin", "null"}},
		{202, []string{"Origin", c.url, "Sec-Fetch-Site", "same-origin"}},
		{202, []string{"Sec-Fetch-Site", "none"}},
		{202, nil},
	} {
		c.want(test.status, "POST", "/api/v1/runs", "", test.headers...)
	}
}

// away is an Authenticator whose database does not answer.
type away struct{}

func (away) Authenticate(context.Context, string) (admin.Principal, bool, error) {
	return admin.Principal{}, false, errors.New("no answer")
}

// TestAPITokensAway: where tokens cannot be looked up nobody is let in, and is told to come again.
func TestAPITokensAway(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	c := newAPI(t, config, &switched{testTokens, away{}})
	status, text, header := c.as("other").send("GET", "/api/v1/webhooks", "")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("HTTP %d, Retry-After %q\n%s", status, header.Get("Retry-After"), text)
	}
}

// switched asks another for tokens that it does not know.
type switched struct {
	tokens
	other admin.Authenticator
}

func (s *switched) Authenticate(ctx context.Context, token string) (admin.Principal, bool, error) {
	if p, ok, _ := s.tokens.Authenticate(ctx, token); ok {
		return p, true, nil
	}
	return s.other.Authenticate(ctx, token)
}

// TestAPIMostWebhooks: tokens of one chatbot enter so many webhooks and no more, however they are entered and however many
// are asked for at once. Those of the configuration, and others', do not count.
func TestAPIMostWebhooks(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			config, _ := apiConfig(t, engine, "http://127.0.0.1:1")
			c := newAPI(t, config+"admin: {listen: \"127.0.0.1:0\", webhooks_per_chatbot: 3}\n", testTokens)
			customer := c.as("a-token")
			const hooks = "/api/v1/webhooks"
			statuses := make([]int, 8)
			var asking sync.WaitGroup
			for i := range statuses {
				asking.Go(func() {
					statuses[i], _, _ = customer.send("POST", hooks, fmt.Sprintf(`{"chatbot": "a", "url": "http://127.0.0.1:1/%d"}`, i))
				})
			}
			asking.Wait()
			slices.Sort(statuses)
			if diff := cmp.Diff([]int{201, 201, 201, 422, 422, 422, 422, 422}, statuses); diff != "" {
				t.Errorf("eight at once (-want +got):\n%s", diff)
			}
			for path, body := range map[string]string{
				hooks:                   `{"chatbot": "a", "url": "http://127.0.0.1:1/one-more"}`,
				"/api/v1/subscriptions": `{"endpoint_url": "http://127.0.0.1:1/one-more", "events": ["Lead.created"]}`,
			} {
				detail, places := customer.problem(422, "POST", path, body)
				if !strings.Contains(detail, "chatbot a has 3 webhooks that were entered, the most that there may be (admin.webhooks_per_chatbot): remove one") || len(places) != 1 {
					t.Errorf("%s: %q at %v", path, detail, places)
				}
			}
			c.want(201, "POST", hooks, `{"chatbot": "b", "url": "http://127.0.0.1:1/b"}`)
			c.want(201, "POST", hooks, `{"chatbot": "a", "url": "http://127.0.0.1:1/of-the-operator"}`)
			own := customer.ids(hooks, 10)
			own = slices.DeleteFunc(own, func(id string) bool { return id == "of-a" })
			for _, id := range own[:2] {
				customer.want(200, "DELETE", hooks+"/"+id, "")
			}
			customer.want(201, "POST", hooks, `{"chatbot": "a", "url": "http://127.0.0.1:1/one-more"}`)
			customer.problem(422, "POST", hooks, `{"chatbot": "a", "url": "http://127.0.0.1:1/and-more"}`)
		})
	}
}

// TestAPIScope: a chatbot's token sees and touches webhooks of exactly that chatbot, what is owed to them of it, and
// nothing else: others' are not there.
func TestAPIScope(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm, url := startCRM(t, receiver.Success)
			config, app := apiConfig(t, engine, url)
			c := newAPI(t, config, testTokens)
			app.insertMany("a", 2)
			app.insertMany("b", 3)
			customer := c.as("a-token")
			const hooks = "/api/v1/webhooks"

			if diff := cmp.Diff([]string{"of-a"}, customer.ids(hooks, 10)); diff != "" {
				t.Errorf("its webhooks (-want +got):\n%s", diff)
			}
			customer.want(200, "GET", hooks+"/of-a", "")
			customer.want(200, "GET", hooks+"/of-a/key", "")
			before := c.ids(hooks, 10)
			for _, other := range []string{"of-b", "of-both", "of-all", "of-nobody"} {
				var details []string
				for _, request := range [][3]string{
					{"GET", "", ""},
					{"GET", "?reveal=true", ""},
					{"GET", "/key", ""},
					{"DELETE", "", ""},
					{"PATCH", "", `{"chatbot": "a"}`},
					{"PUT", "", `{"chatbot": "a", "url": "http://127.0.0.1:1/x"}`},
					{"POST", "/disable", ""},
					{"POST", "/enable", ""},
					{"POST", "/rotate-key", ""},
					{"POST", "/test", ""},
				} {
					detail, _ := customer.problem(404, request[0], hooks+"/"+other+request[1], request[2])
					details = append(details, strings.ReplaceAll(detail, other, "ID"))
				}
				for _, detail := range details {
					if detail != "webhook ID: not in the ledger" {
						t.Errorf("of another's it is said: %q", detail)
					}
				}
			}
			// It chooses no id, and is not told which are taken.
			for _, id := range []string{"of-a", "of-b", "bakery", "of-nobody"} {
				status, text, header := customer.send("POST", hooks, `{"id": "`+id+`", "chatbot": "a", "url": "http://127.0.0.1:1/x", "sign_key": "known to a"}`)
				if status != 422 || !strings.Contains(text, "body.id: is made by leadrelay for this token; leave it out") || strings.Contains(text+fmt.Sprint(header), id) {
					t.Errorf("entered with the id %s: HTTP %d\n%s", id, status, text)
				}
			}
			for _, chatbot := range []string{`"b"`, `"*"`, `["a", "b"]`, `["b"]`} {
				for method, path := range map[string]string{"POST": "", "PUT": "/new"} {
					_, places := customer.problem(422, method, hooks+path, `{"chatbot": `+chatbot+`, "url": "http://127.0.0.1:1/x"}`)
					if diff := cmp.Diff([]string{"body.chatbot"}, places); diff != "" {
						t.Errorf("%s for %s (-want +got):\n%s", method, chatbot, diff)
					}
				}
			}
			// Its own it enters, changes, but not away, and removes.
			own := hooks + "/" + customer.want(201, "POST", hooks, fmt.Sprintf(`{"chatbot": "a", "url": "%s/own/secret-path"}`, url))["id"].(string)
			customer.want(200, "PATCH", own, `{"description": "mine"}`)
			customer.want(200, "PUT", own, fmt.Sprintf(`{"chatbot": "a", "url": "%s/own/secret-path"}`, url))
			for _, chatbot := range []string{`"b"`, `"*"`, `["a", "b"]`} {
				customer.problem(422, "PATCH", own, `{"chatbot": `+chatbot+`}`)
				customer.problem(422, "PUT", own, `{"chatbot": `+chatbot+`, "url": "http://127.0.0.1:1/x"}`)
			}
			c.want(201, "PUT", hooks+"/theirs", `{"chatbot": "b", "url": "http://127.0.0.1:1/theirs"}`)
			if status, text, header := customer.send("POST", hooks, `{"chatbot": "a", "url": "`+url+`/own/secret-path"}`); status != 409 || header.Get("Location") != own {
				t.Errorf("the same again: HTTP %d\n%s", status, text)
			}

			// A run is of its own chatbot's records and its own webhooks.
			customer.want(403, "GET", "/api/v1/runs", "")
			customer.problem(422, "POST", "/api/v1/runs", `{"chatbots": ["a", "b"]}`)
			customer.problem(422, "POST", "/api/v1/runs", `{"webhooks": ["of-a", "of-both"]}`)
			id := customer.want(202, "POST", "/api/v1/runs", "")["id"].(string)
			customer.want(403, "GET", "/api/v1/runs/"+id, "")
			run := map[string]any{}
			for run["ended_at"] == nil {
				time.Sleep(20 * time.Millisecond)
				run = c.want(200, "GET", "/api/v1/runs/"+id, "")
			}
			if got := crm.Counts().Requests; got != 2 || run["gathered"] != 2.0 {
				t.Errorf("%d requests were made; the run is %v", got, run)
			}

			// All that is owed to anybody, now.
			all := c.want(202, "POST", "/api/v1/runs", "")["id"].(string)
			for run = map[string]any{}; run["ended_at"] == nil; {
				time.Sleep(20 * time.Millisecond)
				run = c.want(200, "GET", "/api/v1/runs/"+all, "")
			}
			theirs := c.ids("/api/v1/deliveries?webhook=of-a", 10)
			if got := customer.ids("/api/v1/deliveries", 1); !slices.Equal(got, theirs) || len(got) != 2 {
				t.Errorf("its deliveries are %v, want %v", got, theirs)
			}
			for _, filter := range []string{"?webhook=of-b", "?webhook=of-all", "?chatbot=b", "?webhook=of-all&chatbot=a"} {
				if got := customer.ids("/api/v1/deliveries"+filter, 10); got != nil {
					t.Errorf("deliveries%s: %v", filter, got)
				}
			}
			for _, id := range c.ids("/api/v1/deliveries", 100) {
				status := http.StatusNotFound
				if slices.Contains(theirs, id) {
					status = http.StatusOK
				}
				customer.want(status, "GET", "/api/v1/deliveries/"+id, "")
			}

			reader := c.as("a-watcher")
			reader.want(200, "GET", own, "")
			reader.want(403, "GET", own+"/key", "")
			reader.want(403, "DELETE", own, "")
			reader.want(403, "POST", "/api/v1/runs", "")
			customer.want(200, "DELETE", own, "")
			c.want(200, "DELETE", hooks+"/theirs", "")
			if diff := cmp.Diff(before, c.ids(hooks, 10)); diff != "" {
				t.Errorf("webhooks in the end (-want +got):\n%s", diff)
			}
			for _, name := range []string{"operator", "customer a"} {
				if !strings.Contains(c.log.String(), name) {
					t.Errorf("the log does not name %s", name)
				}
			}
		})
	}
}
