package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// registrationConfig is apiConfig with streams of what Smartlook and SmartSurvey tell of, all of one table.
func registrationConfig(t *testing.T, types ...string) string {
	config, _ := apiConfig(t, "sqlite", "http://127.0.0.1:1")
	streams := "streams:\n"
	for _, typ := range types {
		streams += fmt.Sprintf("  - {type: %s, table: leads, chatbot: chatbot_id, fields: {FirstName: first_name}}\n", typ)
	}
	return streams + config
}

// TestRegistered: what is registered as the vendors' pages say is a webhook with that vendor's dialect, of the chatbot that
// the token is for.
func TestRegistered(t *testing.T) {
	t.Parallel()
	operator := newAPI(t, registrationConfig(t, "Lead", "issue", "note", "comment", "response", "response.disqualified"), testTokens)
	customer := operator.as("a-token")
	for _, test := range []struct {
		name, path, body string
		members          []string // of the answer
		want             map[string]any
		signed           bool
	}{
		{
			"issues, without a secret", "/webhoooks", `{"url": "http://127.0.0.1:1/issues", "type": "issues"}`,
			[]string{"id"},
			map[string]any{"dialect": "smartlook", "types": []any{"issue"}, "description": ""},
			false,
		},
		{
			"notes, with a secret, on the well-spelt path", "/webhooks", `{"type": "notes", "secret": "your-secret", "url": "http://127.0.0.1:1/notes"}`,
			[]string{"id"},
			map[string]any{"dialect": "smartlook", "types": []any{"comment", "note"}, "description": ""},
			true,
		},
		{
			"one event", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/one", "events": ["response.completed"], "description": "shop"}`,
			[]string{"description", "endpoint_url", "events", "id", "sign_key", "state"},
			map[string]any{"dialect": "smartsurvey", "types": []any{"response.completed"}, "description": "shop"},
			true,
		},
		{
			"all events", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/all", "events": ["response.updated", "response.disqualified", "response.completed"]}`,
			[]string{"description", "endpoint_url", "events", "id", "sign_key", "state"},
			map[string]any{"dialect": "smartsurvey", "types": []any{"response.completed", "response.disqualified", "response.updated"}, "description": ""},
			true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			operator, customer := *operator, *customer
			operator.t, customer.t = t, t
			made := customer.want(201, "POST", "/api/v1"+test.path, test.body)
			var members []string
			for _, name := range test.members {
				if made[name] != nil {
					members = append(members, name)
				}
			}
			if diff := cmp.Diff(test.members, members); diff != "" || len(made) != len(test.members) {
				t.Errorf("the answer is %v (-want +got):\n%s", made, diff)
			}
			id := made["id"].(string)
			shown := operator.want(200, "GET", "/api/v1/webhooks/"+id, "")
			for name, want := range test.want {
				if diff := cmp.Diff(want, shown[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if shown["chatbot"] != "a" {
				t.Errorf("it is of chatbot %v", shown["chatbot"])
			}
			key := operator.want(200, "GET", "/api/v1/webhooks/"+id+"/key", "")["sign_key"].(string)
			if (key != "") != test.signed || strings.Contains(test.body, "secret") && key != "your-secret" || made["sign_key"] != nil && made["sign_key"] != key {
				t.Errorf("its key is %q, the answer says %v", key, made["sign_key"])
			}
			// The same again is refused, and the one that is there is named.
			status, text, header := customer.send("POST", "/api/v1"+test.path, test.body)
			if status != http.StatusConflict || !strings.HasSuffix(header.Get("Location"), "/"+id) {
				t.Errorf("the same again: HTTP %d, Location %q\n%s", status, header.Get("Location"), text)
			}
			// Another chatbot may have the same, and the operator name it.
			if other := operator.want(201, "POST", "/api/v1"+test.path+"?chatbot=z", test.body); operator.want(200, "GET", "/api/v1/webhooks/"+other["id"].(string), "")["chatbot"] != "z" {
				t.Error("it is not of the chatbot that was named")
			}
		})
	}

	// As subscriptions only those are shown that are, without their keys; nor may others be ended so.
	ids := customer.ids("/api/v1/subscriptions", 1)
	if len(ids) != 2 || len(customer.ids("/api/v1/webhoooks", 1)) != 5 || len(operator.ids("/api/v1/subscriptions", 3)) != 4 {
		t.Errorf("the subscriptions are %v", ids)
	}
	for _, id := range ids {
		shown := customer.want(200, "GET", "/api/v1/subscriptions/"+id+"?reveal=true", "")
		if shown["sign_key"] != nil || !strings.HasPrefix(shown["endpoint_url"].(string), "http://127.0.0.1:1/") {
			t.Errorf("a subscription is shown as %v", shown)
		}
		customer.as("a-watcher").want(403, "GET", "/api/v1/subscriptions/"+id+"?reveal=true", "")
		customer.as("a-watcher").want(403, "DELETE", "/api/v1/subscriptions/"+id, "")
		if status, text, _ := customer.send("DELETE", "/api/v1/subscriptions/"+id, ""); status != http.StatusNoContent || text != "" {
			t.Errorf("unsubscribed: HTTP %d\n%s", status, text)
		}
		customer.want(404, "DELETE", "/api/v1/subscriptions/"+id, "")
	}
	for _, id := range customer.ids("/api/v1/webhooks", 100) {
		customer.want(404, "GET", "/api/v1/subscriptions/"+id, "")
		customer.want(404, "DELETE", "/api/v1/subscriptions/"+id, "")
		customer.want(200, "GET", "/api/v1/webhoooks/"+id, "")
	}
	operator.want(409, "DELETE", "/api/v1/webhoooks/of-a", "") // the configuration's
}

// TestRegistrationMistakes: what is wrong is said in the registration's words.
func TestRegistrationMistakes(t *testing.T) {
	t.Parallel()
	operator := newAPI(t, registrationConfig(t, "Lead", "comment"), testTokens)
	for _, test := range []struct {
		name, token, path, body string
		status                  int
		locations               []string
		says                    string
	}{
		{"no chatbot", "operator-token", "/webhoooks", `{"url": "http://127.0.0.1:1/", "type": "notes"}`, 422, []string{"query.chatbot"}, "leadrelay token add --chatbot"},
		{"no chatbot, on the well-spelt path", "operator-token", "/webhooks", `{"url": "http://127.0.0.1:1/", "type": "notes"}`, 422, []string{"query.chatbot"}, "?chatbot="},
		{"no chatbot of a subscription", "operator-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/", "events": ["Lead.created"]}`, 422, []string{"query.chatbot"}, "this token is for all chatbots"},
		{"another's chatbot", "a-token", "/webhoooks?chatbot=b", `{"url": "http://127.0.0.1:1/", "type": "notes"}`, 422, []string{"body.chatbot"}, "this token is for the chatbot a alone"},
		{"no such stream", "a-token", "/webhoooks", `{"url": "http://127.0.0.1:1/", "type": "issues"}`, 422, []string{"body.type"}, "there are streams of Lead, comment"},
		{"another type", "a-token", "/webhoooks", `{"url": "http://127.0.0.1:1/", "type": "visitors"}`, 422, []string{"body.type"}, "issues"},
		{"another type, on the well-spelt path", "a-token", "/webhooks", `{"url": "http://127.0.0.1:1/", "type": "visitors"}`, 422, []string{"body", "body.type"}, "chatbot"},
		{"both forms at once", "a-token", "/webhooks", `{"url": "http://127.0.0.1:1/", "type": "notes", "chatbot": "a"}`, 422, []string{"body.type"}, "unexpected property"},
		{"no URL", "a-token", "/webhoooks", `{"type": "notes"}`, 422, []string{"body"}, "url"},
		{"a wrong URL", "a-token", "/webhoooks", `{"url": "ftp://sesame/", "type": "notes"}`, 422, []string{"body.url"}, "http"},
		{"a doubled member", "a-token", "/webhooks", `{"type": "notes", "type": "issues", "url": "http://127.0.0.1:1/"}`, 400, []string{"body"}, ""},
		{"a wrong endpoint", "a-token", "/subscriptions", `{"endpoint_url": "sesame", "events": ["Lead.created"]}`, 422, []string{"body.endpoint_url"}, ""},
		{"no events", "a-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/"}`, 422, []string{"body"}, "events"},
		{"none of the events", "a-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/", "events": []}`, 422, []string{"body.events"}, ""},
		{"an event twice", "a-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/", "events": ["Lead.created", "Lead.created"]}`, 422, []string{"body.events"}, "unique"},
		{
			"events that no stream tells", "a-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/", "events": ["Lead.created", "response.completed"]}`, 422,
			[]string{"body.events[1]"},
			"there are streams of Lead, comment",
		},
		{"a key of one's own", "a-token", "/subscriptions", `{"endpoint_url": "http://127.0.0.1:1/", "events": ["Lead.created"], "sign_key": "sesame"}`, 422, []string{"body.sign_key"}, ""},
		{"too much", "a-token", "/webhooks", `{"type": "notes", "url": "` + strings.Repeat("x", 64<<10) + `"}`, 413, nil, ""},
		{"not with this method", "a-token", "/subscriptions/x", ``, 405, nil, "GET, DELETE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := operator.as(test.token)
			c.t = t
			detail, locations := c.problem(test.status, "POST", "/api/v1"+test.path, test.body)
			if diff := cmp.Diff(test.locations, locations); diff != "" || !strings.Contains(detail, test.says) {
				t.Errorf("it says %q, and not %q; places (-want +got):\n%s", detail, test.says, diff)
			}
			if _, text, _ := c.send("POST", "/api/v1"+test.path, test.body); strings.Contains(text, "sesame") {
				t.Errorf("it repeats what was sent: %s", text)
			}
		})
	}
	if ids := operator.ids("/api/v1/webhooks", 100); len(ids) != 4 {
		t.Errorf("there are the webhooks %v", ids)
	}
}
