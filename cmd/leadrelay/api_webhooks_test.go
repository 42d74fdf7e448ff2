package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestAPIWebhooks: a webhook's life over HTTP, on both databases.
func TestAPIWebhooks(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			config, _ := apiConfig(t, engine, "http://127.0.0.1:1")
			c := newAPI(t, config, testTokens)
			const hooks = "/api/v1/webhooks"

			// Entered: its id and key come back, and its place.
			status, text, header := c.send("POST", hooks, `{"chatbot": "c", "url": "http://127.0.0.1:1/first/secret-path", "types": ["Lead"]}`)
			if status != http.StatusCreated || !strings.HasPrefix(header.Get("Location"), hooks+"/") {
				t.Fatalf("HTTP %d, Location %q\n%s", status, header.Get("Location"), text)
			}
			id := strings.TrimPrefix(header.Get("Location"), hooks+"/")
			key := c.want(200, "GET", hooks+"/"+id+"/key", "")["sign_key"].(string)
			if len(key) != 64 || !strings.Contains(text, id) || !strings.Contains(text, key) {
				t.Errorf("id %s, key %s, answer %s", id, key, text)
			}
			shown := c.want(200, "GET", hooks+"/"+id, "")
			delete(shown, "entered_at")
			want := map[string]any{
				"id": id, "chatbot": "c", "url": "http://127.0.0.1:1/first/…", "types": []any{"Lead"}, "dialect": "smarterbot",
				"schedule": "@daily", "timezone": "UTC", "immediate": false, "rate": "", "retry_at": []any{"1m", "3m"},
				"ack": []any{"success", "Success: test request received"}, "from": "now", "description": "", "provisioned": false,
				"state": "active", "state_reason": "", "old_key_until": nil,
			}
			if diff := cmp.Diff(want, shown); diff != "" {
				t.Errorf("the webhook (-want +got):\n%s", diff)
			}

			// The same target again is refused, whatever else differs, and the one that is there is named.
			status, text, header = c.send("POST", hooks, `{"id": "again", "chatbot": ["c"], "url": "http://127.0.0.1:1/first/secret-path", "types": ["Lead"], "immediate": true}`)
			if status != http.StatusConflict || header.Get("Location") != hooks+"/"+id || !strings.Contains(text, id) {
				t.Errorf("HTTP %d, Location %q\n%s", status, header.Get("Location"), text)
			}
			if got, _ := c.problem(409, "POST", hooks, `{"id": "of-a", "chatbot": "z", "url": "http://127.0.0.1:1/z"}`); !strings.Contains(got, "webhook of-a:") {
				t.Errorf("the detail is %q", got)
			}

			// A merge patch changes what it names; null is the default.
			got := c.want(200, "PATCH", hooks+"/"+id, `{"retry_at": ["5s"], "description": "${HOME} é ✓", "schedule": "@hourly", "headers": {"X-Token": "secret-header"}, "chatbot": ["c", "d"]}`)
			if diff := cmp.Diff([]any{[]any{"5s"}, "${HOME} é ✓", "@hourly", map[string]any{"X-Token": "[redacted]"}, []any{"c", "d"}},
				[]any{got["retry_at"], got["description"], got["schedule"], got["headers"], got["chatbot"]}); diff != "" {
				t.Errorf("after the patch (-want +got):\n%s", diff)
			}
			got = c.want(200, "PATCH", hooks+"/"+id, `{"retry_at": null, "description": null, "schedule": null, "headers": null, "types": null}`, "Content-Type", "application/merge-patch+json")
			if diff := cmp.Diff([]any{[]any{"1m", "3m"}, "", "@daily", nil, []any{"c", "d"}, []any{}},
				[]any{got["retry_at"], got["description"], got["schedule"], got["headers"], got["chatbot"], got["types"]}); diff != "" {
				t.Errorf("after the patch to the defaults (-want +got):\n%s", diff)
			}
			// With another dialect come its answers, and a key of its form.
			got = c.want(200, "PATCH", hooks+"/"+id, `{"dialect": "standard-webhooks"}`)
			if key := c.want(200, "GET", hooks+"/"+id+"/key", "")["sign_key"].(string); !strings.HasPrefix(key, "whsec_") || got["ack"] != "2xx" {
				t.Errorf("key %s, ack %v", key, got["ack"])
			}

			// PUT makes it what is sent, and enters one that is not there.
			if got := c.want(200, "PUT", hooks+"/"+id, `{"chatbot": "c", "url": "http://127.0.0.1:1/second", "sign_key": "given by the customer"}`); got["sign_key"] != nil {
				t.Errorf("a changed webhook's answer has its key: %v", got)
			}
			for range 2 { // it may be said again; the key stays
				c.want(200, "PUT", hooks+"/"+id, `{"chatbot": "c", "url": "http://127.0.0.1:1/second", "from": "now"}`)
			}
			c.want(422, "PUT", hooks+"/"+id, `{"chatbot": "c", "url": "http://127.0.0.1:1/second", "from": "beginning"}`) // where it began it began
			if got := c.want(200, "GET", hooks+"/"+id+"?reveal=true", ""); got["url"] != "http://127.0.0.1:1/second" || got["dialect"] != "smarterbot" || got["from"] != "now" {
				t.Errorf("after PUT it is %v", got)
			}
			if got := c.want(200, "GET", hooks+"/"+id+"/key", "")["sign_key"]; got != "given by the customer" {
				t.Errorf("the key is %v", got)
			}
			if got := c.want(201, "PUT", hooks+"/put", `{"chatbot": "c", "url": "http://127.0.0.1:1/put", "id": "put"}`); len(got["sign_key"].(string)) != 64 {
				t.Errorf("entered by PUT: %v", got)
			}
			for name, body := range map[string]string{"PUT": `{"chatbot": "c", "url": "http://127.0.0.1:1/second"}`, "PATCH": `{"url": "http://127.0.0.1:1/second"}`} {
				if got, _ := c.problem(409, name, hooks+"/put", body); !strings.Contains(got, id) {
					t.Errorf("%s to another's target: %q", name, got)
				}
			}

			// Keys are rotated: an overlap, its end, at once.
			first := c.want(200, "POST", hooks+"/put/rotate-key", `{"overlap": "24h"}`)["sign_key"]
			if until := c.want(200, "GET", hooks+"/put", "")["old_key_until"]; until == nil {
				t.Error("no old key signs")
			}
			for _, again := range []string{"", `{"overlap": "1h"}`} {
				if detail, _ := c.problem(409, "POST", hooks+"/put/rotate-key", again); !strings.Contains(detail, "its key cannot be rotated until 20") {
					t.Errorf("rotated again in the overlap: %q", detail)
				}
			}
			if finished := c.want(200, "POST", hooks+"/put/rotate-key", `{"finish": true}`)["sign_key"]; finished != first {
				t.Error("finish made a key")
			}
			if c.want(200, "POST", hooks+"/put/rotate-key", `{"now": true}`)["sign_key"] == first {
				t.Error("now made no key")
			}
			if until := c.want(200, "GET", hooks+"/put", "")["old_key_until"]; until != nil {
				t.Errorf("the old key signs until %v", until)
			}
			c.want(200, "POST", hooks+"/put/rotate-key", "")
			c.want(422, "POST", hooks+"/put/rotate-key", `{"now": true, "finish": true}`)

			// One signs with another's key, until it is to have its own again.
			shared := c.want(201, "POST", hooks, `{"id": "twin", "chatbot": "c", "url": "http://127.0.0.1:1/twin", "sign_key_of": "put"}`)["sign_key"]
			if got := c.want(200, "GET", hooks+"/twin", "")["sign_key_of"]; got != "put" || shared == "" {
				t.Errorf("it signs with the key of %v: %v", got, shared)
			}
			c.want(409, "DELETE", hooks+"/put", "")
			if got := c.want(200, "PATCH", hooks+"/twin", `{"sign_key_of": null}`); got["sign_key_of"] != nil {
				t.Errorf("with a key of its own: %v", got)
			}
			c.want(200, "DELETE", hooks+"/twin", "")

			// One of the configuration file is changed there; it may be stopped here.
			for method, path := range map[string]string{"PATCH": "/of-a", "PUT": "/of-a", "DELETE": "/of-a"} {
				body := map[string]string{"PATCH": `{"immediate": true}`, "PUT": `{"chatbot": "a", "url": "http://127.0.0.1:1/x"}`}[method]
				if got, _ := c.problem(409, method, hooks+path, body); !strings.Contains(got, "it is in a configuration file") {
					t.Errorf("%s: %q", method, got)
				}
			}
			if got := c.want(200, "POST", hooks+"/of-a/disable", ""); got["state"] != "disabled" || got["state_reason"] != "by hand" {
				t.Errorf("disabled: %v", got)
			}
			if got := c.want(200, "POST", hooks+"/of-a/enable", ""); got["state"] != "active" {
				t.Errorf("enabled: %v", got)
			}

			// Removed, it is gone.
			if got := c.want(200, "DELETE", hooks+"/put", ""); got["undelivered"] != 0.0 || got["id"] != "put" {
				t.Errorf("removed: %v", got)
			}
			for _, request := range [][2]string{
				{"GET", "/put"}, {"DELETE", "/put"}, {"GET", "/put/key"}, {"POST", "/put/enable"}, {"POST", "/put/disable"}, {"POST", "/put/rotate-key"},
			} {
				c.want(404, request[0], hooks+request[1], "")
			}
			c.want(404, "PATCH", hooks+"/put", `{"immediate": true}`)
			for _, secret := range []string{"secret-path", "secret-header", "given by the customer", key} {
				if strings.Contains(c.log.String(), secret) {
					t.Errorf("the log holds %q", secret)
				}
			}
			if log := c.log.String(); strings.Count(log, `msg="a sign key was shown"`) != 3 || !strings.Contains(log, "webhook="+id+" to=operator") {
				t.Errorf("what is said of keys that were shown:\n%s", log)
			}
		})
	}
}

// TestAPIMistakes: what is wrong is named with its place, and not repeated.
func TestAPIMistakes(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	c := newAPI(t, config, testTokens)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		locations                []string
	}{
		{"no body", "POST", "/webhooks", ``, 400, nil},
		{"no JSON", "POST", "/webhooks", `{"chatbot": sesame`, 400, []string{"body"}},
		{"more than one document", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/"} {}`, 400, []string{"body"}},
		{"a doubled member", "POST", "/webhooks", `{"url": "http://sesame", "url": "http://sesame"}`, 400, []string{"body"}},
		{"no object", "POST", "/webhooks", `["sesame"]`, 422, []string{"body"}},
		{"nothing", "POST", "/webhooks", `{}`, 422, []string{"body", "body"}},
		{"a member that there is not", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "rates": "5/s"}`, 422, []string{"body.rates"}},
		{"a rate that is none", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "rate": "5/sec"}`, 422, []string{"body.rate"}},
		{"a member in another case", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "Dialect": "smarterbot"}`, 422, []string{"body.Dialect"}},
		{"wrong types", "POST", "/webhooks", `{"chatbot": {}, "url": 5, "sign_key": ["sesame"], "immediate": "yes"}`, 422, []string{"body.chatbot", "body.immediate", "body.sign_key", "body.url"}},
		{
			"wrong values", "POST", "/webhooks", `{"chatbot": [], "url": "ftp://sesame/", "schedule": "often", "types": ["Lead", "Leed"], "retry_at": ["1m", "1s"], "dialect": "latin", "id": "a b", "from": "then"}`, 422,
			[]string{"body.chatbot", "body.dialect", "body.from", "body.id", "body.retry_at[1]", "body.schedule", "body.types[1]", "body.url"},
		},
		{"a key and another's", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "sign_key": "sesame", "sign_key_of": "of-a"}`, 422, []string{"body.sign_key_of"}},
		{"a header of ours", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "headers": {"X-Webhook-Id": "sesame"}}`, 422, []string{"body.headers.X-Webhook-Id"}},
		{"a header in two cases", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "headers": {"X-A": "1", "x-a": "2"}}`, 422, []string{"body.headers.x-a"}},
		{"a user in the URL", "POST", "/webhooks", `{"chatbot": "c", "url": "http://user:sesame@127.0.0.1/"}`, 422, []string{"body.url"}},
		{"a key of another form", "POST", "/webhooks", `{"chatbot": "c", "url": "http://127.0.0.1/", "dialect": "standard-webhooks", "sign_key": "sesame"}`, 422, []string{"body.sign_key"}},
		{"another id", "PUT", "/webhooks/x", `{"id": "y", "chatbot": "c", "url": "http://127.0.0.1/"}`, 422, []string{"body.id"}},
		{"another id in a patch", "PATCH", "/webhooks/of-a", `{"id": "y"}`, 422, []string{"body.id"}},
		{"no chatbot any more", "PATCH", "/webhooks/by-hand", `{"chatbot": null}`, 422, []string{"body.chatbot"}},
		{"no key any more", "PATCH", "/webhooks/by-hand", `{"sign_key": null}`, 422, []string{"body.sign_key"}},
		{"another beginning", "PATCH", "/webhooks/by-hand", `{"from": "beginning"}`, 422, []string{"body.from"}},
		{"an overlap that is none", "POST", "/webhooks/by-hand/rotate-key", `{"overlap": "sesame"}`, 422, []string{"body.overlap"}},
		{"an overlap that is over", "POST", "/webhooks/by-hand/rotate-key", `{"overlap": "-1h"}`, 422, []string{"body.overlap"}},
		{"an unknown filter", "GET", "/deliveries?stat=dead", ``, 422, []string{"query.stat"}},
		{"a wrong filter", "GET", "/deliveries?state=lost&limit=1001", ``, 422, []string{"query.limit", "query.state"}},
		{"a page of nobody", "GET", "/deliveries?after=sesame", ``, 422, []string{"query.after"}},
		{"no delivery's id", "GET", "/deliveries/sesame", ``, 422, []string{"path.id"}},
		{"a run of a type that there is not", "POST", "/runs", `{"types": ["Lead", "Leed"]}`, 422, []string{"body.types[1]"}},
		{"a run of a webhook that there is not", "POST", "/runs", `{"webhooks": ["sesame-nobody"]}`, 422, []string{"body.webhooks"}},
		{"a run of nothing", "POST", "/runs", `{"webhooks": []}`, 422, []string{"body.webhooks"}},
		{"too much", "POST", "/webhooks", `{"description": "` + strings.Repeat("x", 64<<10) + `"}`, 413, nil},
		{"no such path", "GET", "/sesame", ``, 404, nil},
		{"not with this method", "PUT", "/webhooks", `{}`, 405, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := *c
			c.t = t
			c.want(map[bool]int{true: 201, false: 200}[t.Name() == "TestAPIMistakes/no_body"], "PUT", "/api/v1/webhooks/by-hand", `{"chatbot": "h", "url": "http://127.0.0.1:1/h"}`)
			detail, locations := c.problem(test.status, test.method, "/api/v1"+test.path, test.body)
			if diff := cmp.Diff(test.locations, locations); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
			if detail == "" || strings.Contains(detail, "line 0") {
				t.Errorf("detail %q", detail)
			}
			_, text, _ := c.send(test.method, "/api/v1"+test.path, test.body)
			if strings.Contains(text, `"sesame`) || strings.Contains(text, "sesame@") {
				t.Errorf("it repeats what was sent: %s", text)
			}
		})
	}
	if log := c.log.String(); strings.Contains(log, "sesame") {
		t.Errorf("the log holds what was sent:\n%s", log)
	}
	for _, test := range []struct{ name, kind, body string }{
		{"a form", "application/x-www-form-urlencoded", "chatbot=c"},
		{"a text", "text/plain", `{"chatbot": "c", "url": "http://127.0.0.1/"}`},
		{"nothing said", "", `{"chatbot": "c", "url": "http://127.0.0.1/"}`},
		{"a patch that is none", "application/merge-patch+json", `{"chatbot": "c", "url": "http://127.0.0.1/"}`},
	} {
		if status, text, _ := c.send("POST", "/api/v1/webhooks", test.body, "Content-Type", test.kind); status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: HTTP %d\n%s", test.name, status, text)
		}
	}
}

// TestAPIPages: a list of webhooks is in the order of their ids, and pages stay right while webhooks come and go.
func TestAPIPages(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			config, _ := apiConfig(t, engine, "http://127.0.0.1:1")
			c := newAPI(t, config, testTokens)
			want := []string{"of-a", "of-all", "of-b", "of-both"}
			for i, id := range []string{"Zoo", "a-1", "a1", "a_1", "A1", "0", "zz", "-", "_"} { // which languages sort differently
				c.want(201, "PUT", "/api/v1/webhooks/"+id, fmt.Sprintf(`{"chatbot": "c", "url": "http://127.0.0.1:1/%d"}`, i))
				want = append(want, id)
			}
			slices.Sort(want)
			for _, limit := range []int{1, 2, 5, 13, 1000} {
				if diff := cmp.Diff(want, c.ids("/api/v1/webhooks", limit)); diff != "" {
					t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
				}
			}
			if diff := cmp.Diff([]string{"of-a", "of-all", "of-both"}, c.ids("/api/v1/webhooks?chatbot=a", 2)); diff != "" {
				t.Errorf("those that get a's records (-want +got):\n%s", diff)
			}
			page := c.want(200, "GET", "/api/v1/webhooks?limit=5", "")
			next := page["next"].(string)
			c.want(200, "DELETE", "/api/v1/webhooks/"+next, "")
			c.want(201, "PUT", "/api/v1/webhooks/00", `{"chatbot": "c", "url": "http://127.0.0.1:1/new"}`)
			rest := c.want(200, "GET", "/api/v1/webhooks?after="+next, "")
			var got []string
			for _, item := range rest["items"].([]any) {
				got = append(got, item.(map[string]any)["id"].(string))
			}
			if diff := cmp.Diff(want[5:], got); diff != "" || rest["next"] != "" {
				t.Errorf("behind a webhook that is gone, one having come before it (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAPIRuns: a run that is started over HTTP is gathered and pushed by the daemon, and its deliveries are shown.
func TestAPIRuns(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm, err := receiver.New(receiver.Options{SignKeys: []jobs.Secret{signKey}, Answer: receiver.Each(receiver.Status(503), receiver.Success)})
			if err != nil {
				t.Fatal(err)
			}
			app := newApplication(t, engine)
			c := newAPI(t, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: w, chatbot: a, url: %q, sign_key: %q, retry_at: [100ms]}
  - {id: v, chatbot: b, url: %[4]q, sign_key: %[5]q, retry_at: [100ms]}
`, app.source, newLedger(t, engine), local, startServer(t, crm, crm.Close), signKey), testTokens)
			app.insertMany("a", 3)
			app.insertMany("b", 2)
			if got := c.want(200, "GET", "/api/v1/runs", ""); fmt.Sprint(got["items"]) != "[]" {
				t.Errorf("runs before any: %v", got)
			}
			started := c.want(202, "POST", "/api/v1/runs", `{"webhooks": ["w"], "types": ["Lead"]}`)
			id := started["id"].(string)
			run := started
			for run["ended_at"] == nil {
				time.Sleep(20 * time.Millisecond)
				run = c.want(200, "GET", "/api/v1/runs/"+id, "")
			}
			if run["kind"] != "manual" || run["gathered"] != 3.0 || run["delivered"] != 3.0 || run["pending"] != 0.0 {
				t.Errorf("the run is %v", run)
			}
			// The other webhook's rows were read with it, and wait for its own fire, or a run for all.
			if ids := c.ids("/api/v1/deliveries?webhook=v&state=pending", 1); len(ids) != 2 {
				t.Errorf("the other webhook's deliveries are %v", ids)
			}
			all := c.want(202, "POST", "/api/v1/runs", "")["id"].(string)
			for run = map[string]any{}; run["ended_at"] == nil; {
				time.Sleep(20 * time.Millisecond)
				run = c.want(200, "GET", "/api/v1/runs/"+all, "")
			}
			if diff := cmp.Diff([]string{all, id}, c.ids("/api/v1/runs", 1)); diff != "" {
				t.Errorf("runs, the newest first (-want +got):\n%s", diff)
			}
			c.want(404, "GET", "/api/v1/runs/019aa6b4-1111-7111-8111-111111111111", "")

			for filter, n := range map[string]int{
				"": 5, "?webhook=w": 3, "?chatbot=a": 3, "?type=Lead": 5, "?type=Appointment": 0, "?state=pending": 0, "?row=1": 1,
				"?webhook=w&row=1&state=delivered": 1, "?chatbot=nobody": 0,
			} {
				if ids := c.ids("/api/v1/deliveries"+filter, 2); len(ids) != n {
					t.Errorf("deliveries%s: %v", filter, ids)
				}
			}
			story := c.want(200, "GET", "/api/v1/deliveries/"+c.ids("/api/v1/deliveries?row=1", 1)[0], "")
			history := story["history"].([]any)
			if len(history) != 2 || story["attempts"] != 2.0 || story["state"] != "delivered" || story["run"] != id || story["chatbot"] != "a" {
				t.Fatalf("the delivery's story is %v", story)
			}
			first, second := history[0].(map[string]any), history[1].(map[string]any)
			if first["status"] != 503.0 || first["error"] != "http_503" || second["status"] != 200.0 || second["error"] != "" || second["word"] != "success" {
				t.Errorf("its attempts are %v", history)
			}
			c.want(404, "GET", "/api/v1/deliveries/019aa6b4-1111-7111-8111-111111111111", "")
			if log := c.log.String(); strings.Contains(log, "Zdeňka") {
				t.Error("the log holds a name")
			}
		})
	}
}

// TestDocumentKeepsTexts: what a request says is taken as it is, and not read as the configuration's text is: no
// reference is expanded, no sign means anything.
func TestDocumentKeepsTexts(t *testing.T) {
	t.Setenv("HOME", "/expanded")
	c := &config.Resolved{Settings: config.Settings{Streams: []config.Stream{{Type: "Lead"}}, Schedule: "@daily", Timezone: "UTC"}}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"${HOME}", "$${HOME}", "$$${", "a: b", "- x", "&a", "*a", "!!str", "'", `"`, "#", "null", "~", "\u0085", "\u2028", "\ufeff", "\x00", "\r\n", "👍", `\ud83d`,
		})).Draw(t, "description")
		w, err := webhookOf(c, map[string]any{"id": "x", "chatbot": "c", "url": "https://crm.example.com/", "description": text})
		if err != nil {
			t.Fatal(err)
		}
		if w.Description != text {
			t.Fatalf("%q became %q", text, w.Description)
		}
	})
}

// TestAPIWebhookAddress: an address that is not public is refused as it is in the file, and by webhook add.
func TestAPIWebhookAddress(t *testing.T) {
	t.Parallel()
	config, _ := apiConfig(t, "sqlite", "http://localhost:1")
	c := newAPI(t, strings.Replace(config, "allow_private: true", "allow_cidrs: [10.0.0.0/8]", 1), testTokens)
	const hooks, says = "/api/v1/webhooks", "names a loopback, private or reserved address"
	c.want(201, "PUT", hooks+"/own", `{"chatbot": "c", "url": "http://10.0.0.1/own"}`)
	for _, test := range []struct{ method, path, body string }{
		{"POST", hooks, `{"chatbot": "c", "url": "http://127.0.0.1/secret-path"}`},
		{"POST", hooks, `{"chatbot": "c", "url": "http://[::1]/secret-path"}`},
		{"PUT", hooks + "/new", `{"chatbot": "c", "url": "http://169.254.169.254/secret-path"}`},
		{"PATCH", hooks + "/own", `{"url": "http://192.168.0.1/secret-path"}`},
	} {
		detail, places := c.problem(422, test.method, test.path, test.body)
		if !strings.Contains(detail, says) || !slices.Equal(places, []string{"body.url"}) || strings.Contains(detail, "secret") {
			t.Errorf("%s %s: %q at %q", test.method, test.body, detail, places)
		}
	}
}
