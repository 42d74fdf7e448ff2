package sinks

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// fieldsOf makes fields of names and values in turn.
func fieldsOf(pairs ...any) []jobs.Field {
	var all []jobs.Field
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, jobs.Field{Name: pairs[i].(string), Value: pairs[i+1]})
	}
	return all
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestVendorsExamples makes the bodies that the vendors' pages show of records as a stream would read them.
func TestVendorsExamples(t *testing.T) {
	const mail = "[email protected]"
	tests := []struct {
		file, dialect string
		rec           jobs.Record
	}{
		{"smarterbot.json", "smarterbot", *example()},
		{"smartlook-issue.json", "smartlook", jobs.Record{
			Type: "issue", Chatbot: "697d3b6583d54c95acb2c34e3fb5", Created: at("2022-11-08T14:46:50.770999Z"),
			Fields: fieldsOf("project.name", "Project Name", "organization.id", "028b773725fe43e48c6b8d78bb8b",
				"organization.name", "Organization Name", "author.name", "Author Name", "author.email", mail,
				"visitor.id", "bc54d883a80b4625a", "session.id", "555648dc9bf34431b2dae4872d", "summary", "Bug Report",
				"text", "BUG REPORT \r\n\r\nBrowser: Chrome 104.0.0.0\r\nOperation system:OS X\r\nBrowser type: desktop\r\nDimensions: 2560x1440\r\nTime of recording: Sep 02, 2022 1:08 PM\r\nUser ID: 926e5abe46d24212b51722f5539b3938\r\nLocation: Brno\r\n",
				"shareUrl", "https://app.smartlook.com/play/shared/e9478e6644a843acb9e2bda2b11ccdd2", "time", int64(72),
				"createdAt", "2022-11-08T14:46:48.519000Z"),
		}},
		{"smartlook-note.json", "smartlook", jobs.Record{
			Type: "notes", Chatbot: "0fbf4a5b4da2486283abefdb37cc4f24", Created: at("2022-11-29T13:25:43.385Z"),
			Fields: fieldsOf("organization.name", "Project Organisation", "organization.id", "cb673450a59a4f96bbae58770a9fa49e",
				"project.name", "Project Name", "id", "54a52bf12", "author.name", "Author Name", "author.email", mail,
				"noteType", "session", "createdAt", "2022-11-29 13:25:43.258", "updatedAt", nil, "text", "Note Text",
				"visitor.id", "e24c8993c9c84c458", "session.id", "c45832f7d9705834742", "session.sessionTime", int64(435),
				"session.sessionDuration", int64(833), "noteCommentsCount", int64(0)),
		}},
		{"smartlook-comment.json", "smartlook", jobs.Record{
			Type: "Comment", Chatbot: "bot", Created: at("2022-11-29T13:26:04Z"),
			Fields: fieldsOf("timestamp", "2022-11-29T14:26:04.127+01:00", "project.id", "0fbf4a5b4da2486283abefdb37cc4f24",
				"project.name", "Project Name", "organization.id", "cb673450a59a4f96bbae58770a9fa49e",
				"organization.name", "Organization Name", "id", "74EGYgIRWf", "author.name", "Author Name", "author.email", mail,
				"createdAt", "2022-11-29T13:26:04.018Z", "updatedAt", nil, "text", "Comment Text", "visitor.id", "e24c8993c9c84c458",
				"session.id", "c45832f7d9705834742", "session.sessionTime", int64(435), "session.sessionDuration", int64(833),
				"noteCommentsCount", int64(1), "noteType", "session", "parentNote.id", "54a52bf12",
				"parentNote.author.name", "Author Name", "parentNote.author.email", mail,
				"parentNote.createdAt", int64(1669728343), "parentNote.updatedAt", nil, "parentNote.text", "Note Text"),
		}},
		{"userback.json", "userback", jobs.Record{
			Type: "feedback", Chatbot: "98765", Created: at("2022-11-01T00:36:51.9Z"),
			Fields: fieldsOf("id", int64(2007850), "feedback_type", "Bug Report", "project", "Pied Piper",
				"url", "https://app.userback.io/viewer/123456/98765/2007850MSNv8n6f/", "email", mail, "name", "John Doe", "priority", "Urgent"),
		}},
	}
	h := newSink(t, Options{})
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/examples/" + tt.file)
			if err != nil {
				t.Fatal(err)
			}
			body, err := h.Encode(&jobs.Webhook{Dialect: tt.dialect}, &tt.rec, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			for text, into := range map[string]*any{string(text): &want, string(body): &got} {
				if err := json.Unmarshal([]byte(text), into); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, text); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(compact.String(), string(body)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvelopes(t *testing.T) {
	created := at("2024-02-29T23:59:59.999999Z")
	rec := func(typ, action string, pairs ...any) *jobs.Record {
		return &jobs.Record{Type: typ, Chatbot: "bot", Action: action, Created: created, Fields: fieldsOf(pairs...)}
	}
	changed := rec("proposal", jobs.ActionUpdate)
	changed.Version = "2024-03-01 10:00:00.5"
	counted := rec("proposal", jobs.ActionRemove)
	counted.Version = "17"
	noTime := rec("feedback", jobs.ActionCreate)
	noTime.Created = time.Time{}
	tests := []struct {
		name, dialect string
		rec           *jobs.Record
		want          string
	}{
		{"smartlook, another type", "smartlook", rec("Lead", jobs.ActionCreate, "FirstName", "David", "Content", nil), `{"type":"Lead.created","timestamp":"2024-02-29T23:59:59.999Z","project":{"id":"bot","name":null},"organization":{"id":null,"name":null},"data":{"FirstName":"David","Content":null}}`},
		{"smartlook, more of a project", "smartlook", rec("issues", jobs.ActionUpdate, "project.slug", "x", "project.id", int64(7), "createdAt", "yesterday"), `{"type":"issue.updated","timestamp":"2024-02-29T23:59:59.999Z","project":{"id":7,"name":null,"slug":"x"},"organization":{"id":null,"name":null},"data":{"createdAt":"yesterday"}}`},
		{"smartlook, a project that is NULL", "smartlook", rec("note", "", "project.id", nil), `{"type":"note.created","timestamp":"2024-02-29T23:59:59.999Z","project":{"id":"bot","name":null},"organization":{"id":null,"name":null},"data":{}}`},
		{"smarterlaunch", "smarterlaunch", rec("proposal.accepted", jobs.ActionCreate, "title", "<b>", "total", 12.5), `{"event":"proposal.accepted","data":{"title":"<b>","total":12.5},"timestamp":"2024-02-29T23:59:59.999Z"}`},
		{"smarterlaunch, a change", "smarterlaunch", changed, `{"event":"proposal.updated","data":{},"timestamp":"2024-03-01T10:00:00.500Z"}`},
		{"smarterlaunch, a removal by number", "smarterlaunch", counted, `{"event":"proposal.deleted","data":{},"timestamp":"2024-02-29T23:59:59.999Z"}`},
		{"smartsurvey", "smartsurvey", rec("Responses", jobs.ActionCreate, "id", int64(1)), `{"event":"response.completed","data":{"id":1}}`},
		{"smartsurvey, disqualified", "smartsurvey", rec("response.disqualified", jobs.ActionCreate), `{"event":"response.disqualified","data":{}}`},
		{"smartsurvey, updated", "smartsurvey", rec("response.disqualified", jobs.ActionUpdate), `{"event":"response.updated","data":{}}`},
		{"smartsurvey, another type", "smartsurvey", rec("Lead", jobs.ActionCreate), `{"event":"Lead.created","data":{}}`},
		{"userback, without a link", "userback", rec("comments", jobs.ActionUpdate, "id", int64(1), "text", nil), `{"action":"update","type":"comment","data":{"id":1,"text":null},"timestamp":1709251199,"url":null}`},
		{"userback, voted", "userback", rec("feedback.voted", jobs.ActionCreate, "timestamp", int64(5)), `{"action":"update","type":"feedback","data":{},"timestamp":5,"url":null}`},
		{"userback, deleted", "userback", rec("Feedback", jobs.ActionRemove), `{"action":"remove","type":"feedback","data":{},"timestamp":1709251199,"url":null}`},
		{"userback, no verb", "userback", rec("acme.idea", ""), `{"action":"create","type":"acme.idea","data":{},"timestamp":1709251199,"url":null}`},
		{"userback, no time", "userback", noTime, `{"action":"create","type":"feedback","data":{},"timestamp":1000,"url":null}`},
		{"standard-webhooks", "standard-webhooks", rec("Lead", jobs.ActionCreate, "FirstName", "a\u2028\xff"), `{"type":"Lead.created","timestamp":"2024-02-29T23:59:59.999999Z","data":{"FirstName":"a` + "\u2028\ufffd" + `"}}`},
		{"objects within", "standard-webhooks", rec("a.b.c", "", "x.y.z", int64(1), "k", true, "x.y.w", nil, "x.v", 0.0, "xx", "s"), `{"type":"a.b.c","timestamp":"2024-02-29T23:59:59.999999Z","data":{"x":{"y":{"z":1,"w":null},"v":0},"k":true,"xx":"s"}}`},
		{"names like indexes", "standard-webhooks", rec("t", "", "b", int64(1), "10", int64(2), "9", int64(3), "a.2", int64(4), "a.x", int64(5), "a.0", int64(6), "01", int64(7), "4294967295", int64(8), "4294967294.1", int64(9), "-1", int64(10), "9.5", "x"), ""},
		{"numbers", "standard-webhooks", rec("t", "", "a", 1e21, "b", 1e-7, "c", int64(-9007199254740991), "d", math.Copysign(0, -1), "e", 5e-324, "f", float64(1<<60)), `{"type":"t.created","timestamp":"2024-02-29T23:59:59.999999Z","data":{"a":1e+21,"b":1e-7,"c":-9007199254740991,"d":0,"e":5e-324,"f":1152921504606847000}}`},
	}
	h := newSink(t, Options{})
	stringify := newStringify(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := h.Encode(&jobs.Webhook{Dialect: tt.dialect}, tt.rec, time.Unix(1000, 0))
			if tt.want == "" {
				if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), "9 is there twice") {
					t.Fatalf("9 and 9.5 beside each other: %v", err)
				}
				tt.rec.Fields = tt.rec.Fields[:len(tt.rec.Fields)-1]
				tt.want = `{"type":"t.created","timestamp":"2024-02-29T23:59:59.999999Z","data":{"9":3,"10":2,"4294967294":{"1":9},"b":1,"a":{"0":6,"2":4,"x":5},"01":7,"4294967295":8,"-1":10}}`
				got, err = h.Encode(&jobs.Webhook{Dialect: tt.dialect}, tt.rec, time.Unix(1000, 0))
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(string(got), stringify(t, got)); diff != "" {
				t.Errorf("JSON.stringify (-ours +its):\n%s", diff)
			}
		})
	}
}

func TestEnvelopeRefuses(t *testing.T) {
	h := newSink(t, Options{})
	for name, tt := range map[string]struct {
		fields []jobs.Field
		says   string
	}{
		"beyond 2^53":            {fieldsOf("n", int64(1<<53)), "n is beyond"},
		"infinite":               {fieldsOf("a.n", math.Inf(1)), "a.n is no number"},
		"no number":              {fieldsOf("n", math.NaN()), "n is no number"},
		"a kind we do not know":  {fieldsOf("n", []byte("secret")), "n has a value of a kind"},
		"twice":                  {fieldsOf("n", "secret", "n", "secret"), "n is there twice"},
		"value and object":       {fieldsOf("n", "secret", "n.a", "x"), "n is there twice, or is a value and holds others"},
		"object and value":       {fieldsOf("n.a", "x", "n", "secret"), "n is there twice, or is a value and holds others"},
		"twice within":           {fieldsOf("n.a", "secret", "m", "", "n.a", "secret"), "n.a is there twice"},
		"twice in the envelope":  {fieldsOf("project.x", "secret", "project.x", "secret"), "project.x is there twice"},
		"a time without a place": {fieldsOf("createdAt", "0000-01-01T00:00:00+05:00"), "createdAt lies outside"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Encode(&jobs.Webhook{Dialect: "smartlook"}, &jobs.Record{Type: "t", Fields: tt.fields}, time.Now())
			if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want ErrEncode that says %q", err, tt.says)
			}
		})
	}
}

// newStringify gives JSON.stringify(JSON.parse(…)) as Node.js does it.
func newStringify(t *testing.T) func(t interface{ Fatal(...any) }, body []byte) string {
	t.Helper()
	cmd := exec.Command("node", "testdata/stringify.js")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("Node.js is needed: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(stdout)
	return func(t interface{ Fatal(...any) }, body []byte) string {
		if _, err := io.WriteString(stdin, base64.StdEncoding.EncodeToString(body)+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal("Node.js cannot parse ", string(body), err)
		}
		again, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		return string(again)
	}
}

// names draws fields' names: nested ones, and what JavaScript objects treat in a way of their own.
func names() *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{"a", "b", "author", "0", "1", "10", "01", "4294967294", "4294967295", "-0", "1e3", "__proto__", "constructor", "toString", "length", "Ž", "\u2028", "a b", `"`})
	return rapid.Map(rapid.SliceOfN(part, 1, 4), func(parts []string) string { return strings.Join(parts, ".") })
}

// TestBodiesAreWhatJavaScriptWrites holds every dialect to the promise that a body is JSON.stringify(JSON.parse(body)).
func TestBodiesAreWhatJavaScriptWrites(t *testing.T) {
	h := newSink(t, Options{})
	stringify := newStringify(t)
	sent := 0
	rapid.Check(t, func(t *rapid.T) {
		rec := jobs.Record{
			Type:    rapid.OneOf(rapid.SampledFrom([]string{"Lead", "notes", "comment", "feedback.voted", "response"}), texts()).Draw(t, "type"),
			Action:  rapid.SampledFrom([]string{"", jobs.ActionCreate, jobs.ActionUpdate, jobs.ActionRemove}).Draw(t, "action"),
			Chatbot: texts().Draw(t, "chatbot"),
			Created: time.UnixMicro(rapid.Int64Range(-62135596800_000000, 253402300799_999999).Draw(t, "created")),
		}
		for _, name := range rapid.SliceOfNDistinct(names(), 0, 12, rapid.ID[string]).Draw(t, "names") {
			rec.Fields = append(rec.Fields, jobs.Field{Name: name, Value: fieldValues().Draw(t, name)})
		}
		for _, dialect := range every.Names() {
			body, err := h.Encode(&jobs.Webhook{Dialect: dialect}, &rec, time.Now())
			if errors.Is(err, jobs.ErrEncode) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
			if again := stringify(t, body); again != string(body) {
				t.Fatalf("%s: (-ours +JavaScript's)\n%s", dialect, cmp.Diff(string(body), again))
			}
		}
	})
	if sent < 200 {
		t.Errorf("%d bodies were compared, 200 are wanted", sent)
	}
}
