package jobs_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestAckRule(t *testing.T) {
	for _, rule := range []jobs.AckRule{
		{Path: "result.ok", Equals: []string{"true", "yes"}},
		{Path: "status", Prefix: []string{"Success: "}},
		{Path: `a"b.ž`, Equals: []string{`{"x"}`}, Prefix: []string{"<&>"}},
	} {
		ack := rule.Ack()
		if err := jobs.CheckAck(ack); err != nil || len(ack) != 1 {
			t.Errorf("%q: %v", ack, err)
		}
		got, ok := jobs.AckRuleOf(ack)
		if diff := cmp.Diff(rule, got); diff != "" || !ok {
			t.Errorf("%t (-want +got):\n%s", ok, diff)
		}
	}
	for name, ack := range map[string][]string{
		"none": nil, "words": {"success"}, "two": {"{}", "{}"}, "a preset": {jobs.Ack2xx}, "no path": {`{"equals":["x"]}`},
		"nothing accepted": {`{"path":"a"}`}, "a name without text": {`{"path":"a..b","equals":["x"]}`},
		"more than a rule": {`{"path":"a","equals":["x"],"not":["y"]}`}, "no JSON": {"{"}, "an empty prefix": {`{"path":"a","prefix":[""]}`},
		"too deep": {`{"path":"a.a.a.a.a.a.a.a.a.a.a","equals":["x"]}`},
	} {
		if rule, ok := jobs.AckRuleOf(ack); ok {
			t.Errorf("%s: %+v", name, rule)
		}
	}
}

func TestCheckAck(t *testing.T) {
	for _, ack := range [][]string{nil, {"success"}, {"a", "b"}, {jobs.Ack2xx}, {jobs.AckGoHighLevel}} {
		if err := jobs.CheckAck(ack); err != nil {
			t.Errorf("%q: %v", ack, err)
		}
	}
	for _, ack := range [][]string{{""}, {"success", jobs.Ack2xx}, {jobs.AckGoHighLevel, "success"}, {`{"path":""}`}, {`{"x":1}`}} {
		if jobs.CheckAck(ack) == nil {
			t.Errorf("%q is taken", ack)
		}
	}
}
