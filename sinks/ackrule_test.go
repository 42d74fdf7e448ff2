package sinks

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestAckRules(t *testing.T) {
	type result struct {
		Reason, Word, Says string
		Test               bool
	}
	ok200 := ok
	okRule := jobs.AckRule{Path: "result.ok", Equals: []string{"true", "1", "yes"}, Prefix: []string{"Stored "}}.Ack()
	deep := jobs.AckRule{Path: "a.b.c", Equals: []string{"x"}}.Ack()
	ghl := []string{jobs.AckGoHighLevel}
	any2xx := []string{jobs.Ack2xx}
	const production = "Success: request sent to trigger execution server"
	tests := []struct {
		name   string
		ack    []string
		answer string
		want   result
	}{
		{"a word", okRule, `{"result":{"ok":"yes"}}`, result{Word: "yes"}},
		{"true", okRule, `{"id":1,"result":{"n":{"ok":"no"},"ok":true,"m":[1]},"x":{}}`, result{Word: "true"}},
		{"true as text", okRule, `{"result":{"ok":"true"}}`, result{Word: "true"}},
		{"a number", okRule, `{"result":{"ok":1.0}}`, result{Word: "1"}},
		{"a beginning", okRule, `{"result":{"ok":"Stored as 17"}}`, result{Word: "Stored as 17"}},
		{"a beginning, and the record's name", okRule, `{"result":{"ok":"Stored David Garcia"}}`, result{Word: "Stored … …"}},
		{"three deep", deep, `{"a":{"b":{"c":"x"}}}`, result{Word: "x"}},
		{"false", okRule, `{"result":{"ok":false}}`, result{Reason: ReasonAckMismatch, Word: "false", Says: "none of the accepted"}},
		{"a beginning is no end", okRule, `{"result":{"ok":"not Stored x"}}`, result{Reason: ReasonAckMismatch, Word: "not Stored x"}},
		{"a number beyond all", okRule, `{"result":{"ok":1e999}}`, result{Reason: ReasonAckMismatch, Word: "Infinity"}},
		{"another case", okRule, `{"result":{"ok":"Yes"}}`, result{Reason: ReasonAckMismatch, Word: "Yes", Says: "result.ok differs from an accepted value only in"}},
		{"null", okRule, `{"result":{"ok":null}}`, result{Reason: ReasonStatusType, Says: "result.ok is neither"}},
		{"an object", okRule, `{"result":{"ok":{"ok":"yes"}}}`, result{Reason: ReasonStatusType}},
		{"a list", okRule, `{"result":[{"ok":"yes"}]}`, result{Reason: ReasonNoStatus, Says: "no member result.ok."}},
		{"at another place", okRule, `{"ok":"yes","result":{"n":{"ok":"yes"}}}`, result{Reason: ReasonNoStatus}},
		{"named otherwise", okRule, `{"Result":{"ok":"yes"}}`, result{Reason: ReasonNoStatus, Says: "upper and lower case"}},
		{"named otherwise within", okRule, `{"result":{"OK":"yes"}}`, result{Reason: ReasonNoStatus, Says: "upper and lower case"}},
		{"doubled", okRule, `{"result":{"ok":"yes"},"result":{"ok":"yes"}}`, result{Reason: ReasonDoubledKey}},
		{"doubled within", okRule, `{"result":{"ok":"yes","ok":"yes"}}`, result{Reason: ReasonDoubledKey}},
		{"doubled behind", okRule, `{"result":{"ok":"yes"},"x":{"a":1,"a":1}}`, result{Reason: ReasonDoubledKey}},
		{"cut", okRule, `{"result":{"ok":"yes"}`, result{Reason: ReasonTruncated}},
		{"HTML", okRule, `<html>`, result{Reason: ReasonNotJSON, Says: `answer {"result":{"ok":"true"}}.`}},
		{"empty", okRule, ``, result{Reason: ReasonEmpty, Says: `answer {"result":{"ok":"true"}}.`}},
		{"the default answer", okRule, good, result{Reason: ReasonNoStatus}},

		{"GoHighLevel stores", ghl, `{"status":"` + production + `","id":"a1B2"}`, result{Word: production}},
		{"GoHighLevel says more", ghl, `{"id":7,"status":"` + production + `: 3"}`, result{Word: production + ": 3"}},
		{"GoHighLevel without an id", ghl, `{"status":"` + production + `"}`, result{Reason: ReasonAckMismatch, Word: production, Says: "id is missing"}},
		{"GoHighLevel with null for an id", ghl, `{"status":"` + production + `","id":null}`, result{Reason: ReasonAckMismatch, Word: production}},
		{"GoHighLevel with an id elsewhere", ghl, `{"status":"` + production + `","x":{"id":1}}`, result{Reason: ReasonAckMismatch, Word: production}},
		{"GoHighLevel drops", ghl, `{"status":"Success: test request received","id":"x"}`, result{Reason: ReasonNotStored, Word: TestAnswer, Says: "publish"}},
		{"GoHighLevel says success", ghl, good, result{Reason: ReasonAckMismatch, Word: "success"}},

		{"2xx, and the record was dropped", any2xx, `{"status":"Success: test request received"}`, result{Word: TestAnswer, Test: true}},
		{"2xx with the record's name", any2xx, `{"status":"Hello David"}`, result{Word: "Hello …"}},
		{"text that is no rule is a word", []string{`{"path":"ok"}`}, `{"ok":true,"status":"success"}`, result{Reason: ReasonAckMismatch, Word: "success"}},
	}
	h := newSink(t, local())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := webhook(answering(t, ok200(tt.answer)))
			w.Ack = tt.ack
			answer, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(exampleBody), Attempt: 1})
			got := result{Word: answer.Word, Test: answer.Test, Says: tt.want.Says}
			if refusal := (*jobs.RefusedError)(nil); errors.As(err, &refusal) {
				got.Reason, got.Word = refusal.Reason, refusal.Word
				if !strings.Contains(refusal.Hint, tt.want.Says) || !strings.HasSuffix(refusal.Hint, ".") {
					got.Says = refusal.Hint
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestOtherDialectsAnswers: what a dialect accepts where the webhook says nothing.
func TestOtherDialectsAnswers(t *testing.T) {
	h := newSink(t, local())
	for _, dialect := range builtIn.Names() {
		for answer, want := range map[string]string{ok("Thank you"): "", ok(good): "", head(204): "", head(302): ReasonRedirect, head(500): "http_500"} {
			if dialect == "smarterbot" {
				continue
			}
			w := &jobs.Webhook{URL: jobs.Secret(answering(t, answer)), Dialect: dialect}
			if dialects[dialect].NeedsKey() {
				w.SignKey = builtIn.NewKey(dialect)
			}
			body, err := h.Encode(w, example(), at("2024-01-01T00:00:00Z"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: body, Attempt: 1})
			if reason(err) != want {
				t.Errorf("%s, %.16q: %v, want %q", dialect, answer, err, want)
			}
		}
	}
}
