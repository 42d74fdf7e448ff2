package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
)

// TestEventsOfAWebhook: words in types that are events of the dialect choose these, and are shown as they were written.
func TestEventsOfAWebhook(t *testing.T) {
	var c config.Resolved
	for _, typ := range []string{"Lead", "response", "response.disqualified"} {
		c.Streams = append(c.Streams, config.Stream{Type: typ})
	}
	c.Schedule, c.Timezone = "@daily", "UTC"
	for _, test := range []struct {
		name                 string
		types                []string
		wanted, events, show []string
		mistake              string
	}{
		{"a type", []string{"response"}, []string{"response"}, nil, []string{"response"}, ""},
		{
			"events",
			[]string{"response.updated", "response.completed"},
			[]string{"response", "response.disqualified"},
			[]string{"response.completed", "response.updated"},
			[]string{"response.completed", "response.updated"},
			"",
		},
		{
			"a type and an event",
			[]string{"Lead", "response.completed"},
			[]string{"Lead", "response"},
			[]string{"Lead.created", "Lead.deleted", "Lead.updated", "response.completed"},
			[]string{"Lead.created", "Lead.deleted", "Lead.updated", "response.completed"},
			"",
		},
		{"no event", []string{"survey.closed"}, nil, nil, nil, "write one of Lead, response, response.disqualified"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, err := webhookOf(&c, map[string]any{"chatbot": "b", "url": "https://crm.example.com/", "dialect": "smartsurvey", "types": test.types})
			if test.mistake != "" {
				if err == nil || !strings.Contains(err.Error(), test.mistake) {
					t.Fatalf("%v does not say %q", err, test.mistake)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{test.wanted, test.events, test.show}, [][]string{w.Types, w.Events, admin.ViewOf(&w, false).Types}); diff != "" {
				t.Errorf("types, events, shown (-want +got):\n%s", diff)
			}
			again, err := webhookOf(&c, map[string]any{"chatbot": "b", "url": "https://crm.example.com/", "dialect": "smartsurvey", "types": admin.ViewOf(&w, false).Types})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{w.Types, w.Events}, [][]string{again.Types, again.Events}); diff != "" {
				t.Errorf("read again as shown (-want +got):\n%s", diff)
			}
		})
	}

	w := jobs.Webhook{ID: "a", Chatbots: []string{"b"}, URL: "https://crm.example.com/", Dialect: "smartsurvey", Types: []string{"response"}, Events: []string{"response.completed"}}
	if err := applyTo(&w, &c, map[string]any{"description": "x"}); err != nil || len(w.Events) != 1 {
		t.Errorf("another description: %v, events %v", err, w.Events)
	}
	if err := applyTo(&w, &c, map[string]any{"dialect": "smartlook"}); err == nil || !strings.Contains(err.Error(), "response.completed") {
		t.Errorf("a dialect that has no such event: %v", err)
	}
	if err := applyTo(&w, &c, map[string]any{"dialect": nil}); err == nil || !strings.Contains(err.Error(), "response.completed") {
		t.Errorf("the default dialect, which has no such event: %v", err)
	}
	if err := applyTo(&w, &c, map[string]any{"dialect": "smartlook", "types": []string{"response"}}); err != nil || w.Events != nil || w.Dialect != "smartlook" {
		t.Errorf("another dialect and types: %v, %s, events %v", err, w.Dialect, w.Events)
	}
}

// TestShown: what customers write over the API steers no terminal and adds no line.
func TestShown(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"words", "leads of the bäckerei – 花", "leads of the bäckerei – 花"},
		{"lines", "a\r\nstate:\tdisabled", "a  state: disabled"},
		{"colours", "\x1b[31mred\x1b]0;title\a", `\u{1b}[31mred\u{1b}]0;title\u{7}`},
		{"eight-bit controls", "\u009b31m", `\u{9b}31m`},
		{"direction", "\u202eevil", `\u{202e}evil`},
		{"no text", "\xff", "\ufffd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, shown(test.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var out bytes.Buffer
			a := &app{stdout: &out}
			if err := a.printWebhook(&jobs.Webhook{ID: "acme", Description: test.text}, false); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "description:  "+test.want+"\n") {
				t.Errorf("shown is\n%q", out.String())
			}
		})
	}
}
