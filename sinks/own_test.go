package sinks

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// ownDialects have between them every part that a dialect may have.
var ownDialects = []Definition{
	{Name: "own-prefix", Extends: "smartsurvey", Signature: Signature{Header: "X-Hub-Signature-256", Prefix: "sha256="}},
	{
		Name: "own-base64", Time: UnixMilliseconds, Times: []string{"b"}, Headers: map[string]string{"x-api": "2"},
		Body: []Member{
			{Name: "what", Is: IsAction},
			{Name: Spread, Is: IsData},
			{Name: "when", Is: IsTime},
			{Name: "who", Is: IsChatbot},
			{Name: "author", Is: IsObject, Always: []string{"name"}, Chatbot: "id"},
		},
		Signature: Signature{Form: Base64, Header: "X-Shop-Hmac"}, Key: KeyRule{Use: KeyOptional, Form: KeyBase64, Prefix: "shop_"},
	},
	{
		Name: "own-timed", Extends: "smarterbot", Signature: Signature{Header: "X-Own-Signature"}, OneRound: new(true),
		Body: []Member{
			{Name: "v", Is: IsConst, Const: 1.5},
			{Name: "kind", Is: IsType},
			{Name: "n", Is: IsInteger, Field: "count"},
			{Name: "t", Is: IsText, Field: "a"},
			{Name: "f", Is: IsField, Field: "b"},
			{Name: "at", Is: IsCreated},
		},
		Time: Seconds,
	},
	{Name: "own-standard", Extends: "userback", Signature: Signature{Form: StandardWebhooks}, UserAgent: "Own/1"},
	{Name: "own-flat", Body: []Member{{Name: Spread, Is: IsData}}},
	{
		Name: "own-names", Extends: "standard-webhooks", Signature: Signature{Form: Unsigned},
		Names: Names{
			Types: map[string]string{"Lead": "contact"}, Verbs: map[string]string{"Won": "closed"}, New: map[string]string{"contact": "signed_up"},
			Actions: map[string]string{jobs.ActionRemove: "gone"}, Groups: map[string][]string{"people": {"contact"}}, Event: "{action} {type}",
		},
	},
}

// TestOwnBodies: what own dialects make of a record.
func TestOwnBodies(t *testing.T) {
	created := at("2024-05-06T07:08:09.123456Z")
	rec := jobs.Record{Type: "Lead", Chatbot: "bot", Created: created, Fields: fieldsOf(
		"a", "x", "b", "2024-01-01 00:00:00", "7", int64(1), "count", "12.0", "author.mail", "m", "z.1", true, "z.0", nil)}
	of := func(change func(*jobs.Record)) jobs.Record {
		r := rec
		r.Fields = slices.Clone(rec.Fields)
		change(&r)
		return r
	}
	h := newSink(t, Options{})
	for _, tt := range []struct {
		name, dialect string
		rec           jobs.Record
		want, says    string
	}{
		{
			name: "fields among members", dialect: "own-base64", rec: rec,
			want: `{"7":1,"what":"created","a":"x","b":1704067200000,"count":"12.0","z":{"0":null,"1":true},"when":1714979289123,"who":"bot","author":{"id":"bot","name":null,"mail":"m"}}`,
		},
		{
			name: "an object's chatbot of the stream's own", dialect: "own-base64",
			rec:  of(func(r *jobs.Record) { r.Fields = fieldsOf("author.name", "n", "author.id", int64(3)) }),
			want: `{"what":"created","when":1714979289123,"who":"bot","author":{"id":3,"name":"n"}}`,
		},
		{name: "a time beyond all integers", dialect: "own-base64", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("b", int64(9007199254741056)) }), says: "b is beyond"},
		{name: "a time before all integers", dialect: "own-base64", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("b", int64(math.MinInt64)) }), says: "b is beyond"},
		{name: "a field of a member's name", dialect: "own-base64", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("who", "secret") }), says: "who is there twice"},
		{name: "a field within a member", dialect: "own-base64", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("what.x", "secret") }), says: "what.x is there twice"},
		{
			name: "named members", dialect: "own-timed", rec: rec,
			want: `{"v":1.5,"kind":"Lead","n":12,"t":"x","f":"2024-01-01 00:00:00","at":"2024-05-06T07:08:09Z"}`,
		},
		{name: "no fields", dialect: "own-timed", rec: of(func(r *jobs.Record) { r.Fields = nil }), want: `{"v":1.5,"kind":"Lead","n":0,"t":"","f":null,"at":"2024-05-06T07:08:09Z"}`},
		{name: "no integer", dialect: "own-timed", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("count", "secret") }), says: "count is no integer"},
		{
			name: "flat", dialect: "own-flat", rec: of(func(r *jobs.Record) { r.Fields = fieldsOf("b.x", 1.0, "a", nil, "0", "", "b.1", false) }),
			want: `{"0":"","b":{"1":false,"x":1},"a":null}`,
		},
		{name: "nothing", dialect: "own-flat", rec: of(func(r *jobs.Record) { r.Fields = nil }), want: `{}`},
		{name: "a new one", dialect: "own-names", rec: of(func(r *jobs.Record) { r.Fields = nil }), want: `{"type":"signed_up contact","timestamp":"2024-05-06T07:08:09.123456Z","data":{}}`},
		{name: "a verb", dialect: "own-names", rec: of(func(r *jobs.Record) { r.Fields, r.Type = nil, "deal.won" }), want: `{"type":"closed deal","timestamp":"2024-05-06T07:08:09.123456Z","data":{}}`},
		{name: "no verb", dialect: "own-names", rec: of(func(r *jobs.Record) { r.Fields, r.Type = nil, "deal.lost" }), want: `{"type":"created deal.lost","timestamp":"2024-05-06T07:08:09.123456Z","data":{}}`},
		{name: "gone", dialect: "own-names", rec: of(func(r *jobs.Record) { r.Fields, r.Action = nil, jobs.ActionRemove }), want: `{"type":"gone contact","timestamp":"2024-05-06T07:08:09.123456Z","data":{}}`},
		{name: "changed", dialect: "own-names", rec: of(func(r *jobs.Record) { r.Fields, r.Action = nil, jobs.ActionUpdate }), want: `{"type":"updated contact","timestamp":"2024-05-06T07:08:09.123456Z","data":{}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, err := h.Encode(&jobs.Webhook{Dialect: tt.dialect}, &tt.rec, time.Time{})
			if tt.says != "" {
				if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want ErrEncode that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOwnRules: what is not in a body.
func TestOwnRules(t *testing.T) {
	h := newSink(t, Options{Version: "1"})
	id := uuid.MustParse("0b3f0c5e-30c1-5c07-9f04-8d2f0e8f2a11")
	now, body := time.Unix(1700000000, 0), []byte(`{"a":1}`)
	sum := newMAC([]byte("key")).sum(body)
	for dialect, want := range map[string]http.Header{
		"own-prefix": {"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"}, "X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(sum[:])}},
		"own-base64": {"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"}, "X-Api": {"2"}, "X-Shop-Hmac": {base64.StdEncoding.EncodeToString(sum[:])}},
		"own-timed":  {"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"}, "X-Own-Signature": {Sign("key", now, body)}},
		"own-names":  {"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"}},
	} {
		r, err := h.Request(&jobs.Webhook{URL: "https://crm.example.com/", Dialect: dialect, SignKey: "key"}, id, body, now)
		if err != nil {
			t.Fatal(err)
		}
		want["X-Webhook-Id"] = []string{id.String()}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dialect, diff)
		}
	}
	r, err := h.Request(&jobs.Webhook{URL: "https://crm.example.com/", Dialect: "own-standard", SignKey: keysOf("own-standard")[0]}, id, body, now)
	if err != nil || r.Header.Get("User-Agent") != "Own/1" || r.Header.Get("Content-Type") != "application/json; charset=utf-8" || len(headerValues(r.Header, standardSignature)) != 1 {
		t.Errorf("own-standard: %v, %v", r, err)
	}

	for dialect, begins := range map[string]string{"own-prefix": "", "own-base64": "shop_", "own-standard": "whsec_"} {
		if key := every.NewKey(dialect); !strings.HasPrefix(key.Reveal(), begins) || !every.Fits(dialect, key) || every.NewKey(dialect) == key {
			t.Errorf("%s: a new key is of another form", dialect)
		}
	}
	if every.NewKey("nosuch") != "" || every.NeedsKey("nosuch") || every.Fits("nosuch", "key") {
		t.Error("a dialect that is not known has keys")
	}
	if every.NeedsKey("own-base64") || !every.NeedsKey("own-prefix") || every.NeedsKey("own-flat") || every.CheckKey("own-flat", "key") == nil {
		t.Error("keys are needed where none are, or the other way round")
	}
	for _, header := range []string{"x-hub-signature-256", "X-Webhook-Id"} {
		if every.CheckHeaders("own-prefix", map[string]jobs.Secret{header: "x"}) == nil {
			t.Errorf("a webhook may replace %s", header)
		}
	}
	if every.CheckHeaders("own-base64", map[string]jobs.Secret{"X-API": "x"}) == nil || every.CheckHeaders("own-standard", map[string]jobs.Secret{"user-agent": "x"}) == nil {
		t.Error("a webhook may replace a dialect's own headers")
	}

	tells := map[string]bool{"own-prefix": true, "own-base64": true, "own-timed": false, "own-standard": true, "own-flat": false, "own-names": true}
	for dialect, want := range tells {
		if _, told := h.Event(dialect, "Lead", jobs.ActionRemove); told != want {
			t.Errorf("%s tells that a record is gone: %t, want %t", dialect, told, want)
		}
		if event, told := h.Event(dialect, "Lead", jobs.ActionCreate); !told || (event != "") != want {
			t.Errorf("%s tells of a new record: %q, %t", dialect, event, told)
		}
	}
	if got := dialects["own-names"].Event("Lead", ""); got != "signed_up contact" {
		t.Errorf("event %q", got)
	}
	if types, _, _ := dialects["own-names"].Choose([]string{"people"}, []string{"Lead", "deal"}); !slices.Equal(types, []string{"Lead"}) {
		t.Errorf("people are %q", types)
	}
	if !h.OneRound("own-timed") || h.OneRound("own-prefix") || dialects["own-timed"].Ack[0] != "success" || dialects["own-flat"].Ack[0] != jobs.Ack2xx {
		t.Error("rounds or accepted answers are another dialect's")
	}
	if diff := cmp.Diff([]string{"count", "a", "b"}, dialects["own-timed"].Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	for dialect, want := range map[string][]string{"own-base64": {"", "who"}, "smartlook": {"type", "project", "id"}, "smarterbot": {"Type", "SerialNumber"}, "userback": {"type"}} {
		typ, chatbot := dialects[dialect].Labels()
		if diff := cmp.Diff(want, append([]string{typ}, chatbot...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dialect, diff)
		}
	}
}

// TestRegistries do not change, nor what they were made of.
func TestRegistries(t *testing.T) {
	if _, known := builtIn.Lookup("own-flat"); known {
		t.Error("a configuration's dialect is everybody's")
	}
	if diff := cmp.Diff(pastTense, map[string]string{jobs.ActionCreate: "created", jobs.ActionUpdate: "updated", jobs.ActionRemove: "deleted"}); diff != "" {
		t.Error(diff)
	}
	if got := builtIn.dialects["userback"].headers.Get("User-Agent"); got != "Userback-Webhook" {
		t.Errorf("userback calls itself %q", got)
	}
	var none *Registry
	if diff := cmp.Diff(builtIn.Names(), none.Names()); diff != "" {
		t.Error(diff)
	}
	if same, faults := none.With(nil); same != none || faults != nil {
		t.Error("nothing was added, and the registry is another")
	}
	_, faults := every.With([]Definition{{Name: "own-flat", Extends: "userback"}, {Name: "x", Extends: "own-flat"}, {Name: "y"}})
	var said []string
	for _, f := range faults {
		said = append(said, f.Error())
	}
	want := []string{"own-flat: is the name", `x.extends: "own-flat" is no built-in`, "y.body: is missing"}
	if len(said) != len(want) {
		t.Fatalf("faults: %q", said)
	}
	for i := range want {
		if !strings.HasPrefix(said[i], want[i]) {
			t.Errorf("fault %q, want %q…", said[i], want[i])
		}
	}
}
