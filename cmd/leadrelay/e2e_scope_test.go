package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// A door is the API of a daemon, entered with one token.
type door struct {
	t     *testing.T
	url   string
	token string
}

// An answered request.
type answered struct {
	status int
	header http.Header
	body   string
}

// call sends a request; body is nil, or what is sent as JSON.
func (d door) call(method, path string, body any) answered {
	d.t.Helper()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, sent)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answered{answer.StatusCode, answer.Header, string(text)}
}

// adminPart gives a daemon an API on a free port, whose token_file writeToken writes.
const adminPart = "admin: {listen: \"127.0.0.1:0\", token_file: admin.token}\n"

// door is the API of a daemon that has adminPart in its configuration, entered with the token of its token_file.
func (p *process) door() door {
	p.site.t.Helper()
	return door{p.site.t, p.admin(), adminToken}
}

// with is the same door with a new token of a chatbot, as `token add` makes it with these arguments.
func (d door) with(s *site, args ...string) (id string, other door) {
	d.t.Helper()
	var made struct{ ID, Token string }
	s.document(&made, 0, append([]string{"token", "add"}, args...)...)
	d.token = made.Token
	return made.ID, d
}

// get reads a JSON document, which there must be.
func (d door) get(path string, v any) {
	d.t.Helper()
	a := d.call(http.MethodGet, path, nil)
	if a.status != http.StatusOK {
		d.t.Fatalf("GET %s: HTTP %d: %s", path, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		d.t.Fatalf("GET %s: %v: %s", path, err, a.body)
	}
}

// description is what a test needs of /openapi.json.
type description struct {
	Paths map[string]map[string]struct {
		ID         string `json:"operationId"`
		Parameters []struct {
			Name string `json:"name"`
			In   string `json:"in"`
		} `json:"parameters"`
		RequestBody *struct{} `json:"requestBody"`
	} `json:"paths"`
}

// An operation of the API.
type operation struct {
	id, method, path string
	query            []string // its parameters
	body             bool     // it may be sent one
}

// operations are all that the API describes.
func (d door) operations() (all []operation) {
	d.t.Helper()
	var described description
	d.get("/openapi.json", &described)
	for _, path := range slices.Sorted(maps.Keys(described.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(described.Paths[path])) {
			one := described.Paths[path][method]
			op := operation{id: one.ID, method: strings.ToUpper(method), path: path, body: one.RequestBody != nil}
			for _, p := range one.Parameters {
				if p.In == "query" {
					op.query = append(op.query, p.Name)
				}
			}
			all = append(all, op)
		}
	}
	return all
}

// A tenancy is a daemon with things of two chatbots: alpha, who has tokens, and one whose every name has the word mark
// in it.
type tenancy struct {
	*site
	admin, alpha, reader door
	theirs               []string // ids of what alpha must not see: webhooks, deliveries, runs
	rows                 []string // and keys of rows
	mine                 []string // alpha's
}

const markedRow = 77_000_000_001

func newTenancy(t *testing.T) *tenancy {
	crm := newPresetCRM()
	at := startServer(t, crm, crm.close)
	s := newSite(t, 90*time.Second, `source: sqlite:chatbots.db
schedule: "0 0 1 1 *"
`+adminPart+`webhooks:
  - {id: alpha-file, chatbot: alpha, url: "`+at+`/success/of-alpha", retry_at: [1h]}
  - {id: file-mark, chatbot: the-mark, url: "`+at+`/success/mark", retry_at: [1h], sign_key: key-of-the-mark, description: a mark, headers: {X-A: mark}}
  - {id: both-mark, chatbot: [alpha, the-mark], url: "`+at+`/success/mark", retry_at: [1h]}
  - {id: all-mark, chatbot: "*", url: "`+at+`/success/mark", retry_at: [1h]}
`+local)
	v := &tenancy{site: s}
	s.writeToken(adminToken, 0o600)
	app := openApplication(t, "sqlite:"+filepath.Join(s.dir, "chatbots.db"))
	v.admin = s.serve().door()
	_, v.alpha = v.admin.with(s, "--chatbot", "alpha")
	_, v.reader = v.admin.with(s, "--chatbot", "alpha", "--read")

	for _, document := range []map[string]any{
		{"id": "alpha-own", "chatbot": "alpha", "url": at + "/http-500/of-alpha", "retry_at": []string{"1h"}},
		{"id": "alpha-survey", "chatbot": "alpha", "url": at + "/success/survey-of-alpha", "dialect": "smartsurvey", "types": []string{"Lead.created"}},
		{"id": "own-mark", "chatbot": "the-mark", "url": at + "/http-500/mark", "retry_at": []string{"1h"}, "description": "a mark"},
		{"id": "survey-mark", "chatbot": "the-mark", "url": at + "/success/survey-mark", "dialect": "smartsurvey", "types": []string{"Lead.created"}},
		{"id": "look-mark", "chatbot": "the-mark", "url": at + "/success/look-mark", "dialect": "smartlook", "sign_key": "key-of-the-mark"},
		// It is alpha's later, and what it was owed before is not.
		{"id": "moved", "chatbot": "the-mark", "url": at + "/success/moved", "retry_at": []string{"1h"}},
	} {
		if a := v.admin.call(http.MethodPost, "/api/v1/webhooks", document); a.status != http.StatusCreated {
			t.Fatalf("enter %s: HTTP %d: %s", document["id"], a.status, a.body)
		}
	}
	insert := func(id int, chatbot string) {
		app.exec(`insert into leads (id, chatbot_id, first_name) values (?, ?, 'Zdeňka')`, id, chatbot)
	}
	for i := range 3 {
		insert(1+i, "alpha")
	}
	for i := range 3 {
		insert(markedRow+i, "the-mark")
		v.rows = append(v.rows, fmt.Sprint(markedRow+i))
	}
	s.run(3, "run-now", "--no-wait")
	v.theirs = append(v.theirs, s.runNow(0, "--no-wait", "--chatbot", "the-mark", "--webhook", "file-mark").Run)
	if a := v.admin.call(http.MethodPatch, "/api/v1/webhooks/moved", map[string]any{"chatbot": "alpha"}); a.status != http.StatusOK {
		t.Fatalf("move a webhook: HTTP %d: %s", a.status, a.body)
	}

	s.until(func() bool { // the daemon ends what run-now left open
		var runs struct {
			Items []struct {
				EndedAt *time.Time `json:"ended_at"`
			} `json:"items"`
		}
		v.admin.get("/api/v1/runs", &runs)
		for _, r := range runs.Items {
			if r.EndedAt == nil {
				return false
			}
		}
		return len(runs.Items) == 2
	}, "all runs have ended")

	type items struct {
		Items []struct {
			ID      string `json:"id"`
			Chatbot any    `json:"chatbot"`
		} `json:"items"`
	}
	for _, path := range []string{"/api/v1/webhooks", "/api/v1/deliveries?limit=1000"} {
		var list items
		v.admin.get(path, &list)
		for _, one := range list.Items {
			if one.Chatbot == "alpha" {
				v.mine = append(v.mine, one.ID)
			} else {
				v.theirs = append(v.theirs, one.ID)
			}
		}
	}
	if len(v.theirs) < 1+6+3*6 || len(v.mine) < 4+3*3 {
		t.Fatalf("alpha has %d things and the other %d", len(v.mine), len(v.theirs))
	}
	return v
}

// TestScope: with a chatbot's token nothing of another chatbot is seen, whatever is asked for: what another has is, to all
// appearance, not there.
func TestScope(t *testing.T) {
	t.Parallel()
	v := newTenancy(t)
	forbidden := append(slices.Clone(v.theirs), append(v.rows, "mark", url.QueryEscape("the-mark"))...)
	never := "0" + strings.Repeat("never", 3)
	asked, seen := 0, 0
	look := func(d door, op operation, path string, sent ...string) answered {
		t.Helper()
		a := d.call(http.MethodGet, path, nil)
		asked++
		if a.status == http.StatusOK {
			seen++
		}
		if a.status >= 500 {
			t.Errorf("GET %s: HTTP %d: %s", path, a.status, a.body)
		}
		text := a.body + fmt.Sprint(a.header)
		for _, word := range sent { // an echo tells the caller nothing new
			text = strings.ReplaceAll(text, word, "")
		}
		for _, word := range forbidden {
			if strings.Contains(text, word) {
				t.Errorf("GET %s shows %s: HTTP %d: %s", path, word, a.status, a.body)
			}
		}
		return a
	}
	values := map[string][]string{
		"limit": {"1", "1000"}, "after": append([]string{never}, v.theirs...), "reveal": {"true", "false"},
		"webhook": append([]string{"alpha-own", "moved", never}, v.theirs...), "chatbot": {"the-mark", "alpha", "*"}, "type": {"Lead"},
		"state": {"pending", "sending", "delivered", "dead"}, "row": append([]string{"1"}, v.rows...),
	}
	for _, d := range []door{v.alpha, v.reader} {
		for _, op := range d.operations() {
			if op.method != http.MethodGet {
				continue
			}
			if strings.Contains(op.path, "{") {
				for _, id := range v.mine {
					look(d, op, strings.ReplaceAll(op.path, "{id}", id))
				}
				for _, id := range v.theirs {
					other := strings.Repeat("n", len(id))
					if _, err := uuid.Parse(id); err == nil {
						other = uuid.NewString()
					}
					got := look(d, op, strings.ReplaceAll(op.path, "{id}", id), id)
					stranger := look(d, op, strings.ReplaceAll(op.path, "{id}", other))
					if want := strings.ReplaceAll(stranger.body, other, id); got.status != stranger.status || got.body != want || got.status == http.StatusOK {
						t.Errorf("%s of another chatbot's %s: HTTP %d: %s; of nothing: HTTP %d: %s", op.id, id, got.status, got.body, stranger.status, stranger.body)
					}
				}
				continue
			}
			look(d, op, op.path)
			for _, name := range op.query {
				if len(values[name]) == 0 {
					t.Errorf("%s has a parameter %s: say here what to try", op.id, name)
				}
				for _, value := range values[name] {
					look(d, op, op.path+"?"+name+"="+url.QueryEscape(value), value, url.QueryEscape(value))
				}
			}
		}
	}
	if asked < 200 || seen < 50 {
		t.Errorf("%d requests, %d of them answered", asked, seen)
	}
}

// bodies are what operations are sent that need a body; what they name is the other chatbot's.
var bodies = map[string]any{
	"create-webhook":           map[string]any{"chatbot": "the-mark", "url": "https://crm.example.com/stolen"},
	"put-webhook":              map[string]any{"chatbot": "alpha", "url": "https://crm.example.com/stolen"},
	"change-webhook":           map[string]any{"url": "https://crm.example.com/stolen"},
	"rotate-webhook-key":       map[string]any{"now": true},
	"start-run":                map[string]any{"chatbots": []string{"the-mark"}},
	"create-smartlook-webhook": map[string]any{"url": "https://crm.example.com/stolen", "type": "notes"},
	"subscribe":                map[string]any{"endpoint_url": "https://crm.example.com/stolen", "events": []string{"Lead.created"}},
}

// state is all that the ledger holds, but for what says that the daemon lives.
func (v *tenancy) state() map[string][]string {
	v.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(v.dir, "ledger.db")+"?mode=rw&_pragma=query_only(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		v.t.Fatal(err)
	}
	defer db.Close()
	held := map[string][]string{}
	for _, table := range []string{"webhooks", "subscriptions", "streams", "deliveries", "attempts", "tallies", "runs", "tokens"} {
		rows, err := db.QueryContext(v.t.Context(), "select * from "+table)
		if err != nil {
			v.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			v.t.Fatal(err)
		}
		for rows.Next() {
			row, dest := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				dest[i] = &row[i]
			}
			if err := rows.Scan(dest...); err != nil {
				v.t.Fatal(err)
			}
			held[table] = append(held[table], fmt.Sprintf("%s", row))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			v.t.Fatal(err)
		}
	}
	return held
}

// TestScopeOfWrites: with a chatbot's token nothing of another chatbot is changed, and with one that may only read nothing
// at all.
func TestScopeOfWrites(t *testing.T) {
	t.Parallel()
	v := newTenancy(t)
	before := v.state()
	unchanged := func(what string, args ...any) {
		t.Helper()
		if diff := cmp.Diff(before, v.state()); diff != "" {
			t.Errorf(what+" changed something (-before +after):\n%s", append(args, diff)...)
			before = v.state()
		}
	}
	writes := 0
	for _, op := range v.alpha.operations() {
		if op.method == http.MethodGet {
			continue
		}
		writes++
		body, known := bodies[op.id]
		if op.body && !known {
			t.Errorf("%s takes a body: say here what to send it", op.id)
			continue
		}
		if !op.body {
			body = nil
		}
		if strings.Contains(op.path, "{") {
			for _, id := range v.theirs {
				a := v.alpha.call(op.method, strings.ReplaceAll(op.path, "{id}", id), body)
				if _, err := uuid.Parse(id); err != nil && !strings.Contains(op.path, "webhook") && a.status == http.StatusUnprocessableEntity {
					continue // no id that there might be
				}
				other := strings.Repeat("n", len(id))
				if _, err := uuid.Parse(id); err == nil {
					other = uuid.NewString()
				}
				stranger := v.alpha.call(op.method, strings.ReplaceAll(op.path, "{id}", other), body)
				if want := strings.ReplaceAll(stranger.body, other, id); a.status != http.StatusNotFound || a.body != want {
					t.Errorf("%s of another chatbot's %s: HTTP %d: %s; of nothing: HTTP %d: %s", op.id, id, a.status, a.body, stranger.status, stranger.body)
				}
			}
			for _, id := range v.mine {
				if a := v.reader.call(op.method, strings.ReplaceAll(op.path, "{id}", id), body); a.status != http.StatusForbidden {
					t.Errorf("%s with a token that may only read: HTTP %d: %s", op.id, a.status, a.body)
				}
			}
		} else {
			path := op.path
			if slices.Contains(op.query, "chatbot") {
				path += "?chatbot=the-mark"
			}
			if a := v.alpha.call(op.method, path, body); a.status < 400 || a.status >= 500 {
				t.Errorf("%s for another chatbot: HTTP %d: %s", op.id, a.status, a.body)
			}
			if a := v.reader.call(op.method, op.path, body); a.status != http.StatusForbidden {
				t.Errorf("%s with a token that may only read: HTTP %d: %s", op.id, a.status, a.body)
			}
		}
		unchanged(op.id)
	}
	if writes < 10 {
		t.Errorf("only %d operations write", writes)
	}
	// Nor by what a body says.
	for _, try := range []struct {
		method, path string
		body         any
	}{
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"chatbot": []string{"alpha", "the-mark"}, "url": "https://crm.example.com/stolen"}},
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"chatbot": "*", "url": "https://crm.example.com/stolen"}},
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"chatbot": "alpha", "url": "https://crm.example.com/stolen", "sign_key_of": "own-mark"}},
		{http.MethodPatch, "/api/v1/webhooks/alpha-own", map[string]any{"sign_key_of": "own-mark"}},
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"id": "own-mark", "chatbot": "alpha", "url": "https://crm.example.com/stolen"}},
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"id": "the-next-mark", "chatbot": "alpha", "url": "https://crm.example.com/stolen"}},
		{http.MethodPut, "/api/v1/webhooks/the-next-mark", map[string]any{"chatbot": "alpha", "url": "https://crm.example.com/stolen"}},
		{http.MethodPost, "/api/v1/webhoooks", map[string]any{"id": "the-next-mark", "url": "https://crm.example.com/stolen", "type": "notes"}},
		{http.MethodPost, "/api/v1/webhooks", map[string]any{"id": "the-next-mark", "url": "https://crm.example.com/stolen", "type": "notes"}},
		{http.MethodPost, "/api/v1/subscriptions", map[string]any{"id": "the-next-mark", "endpoint_url": "https://crm.example.com/stolen", "events": []string{"Lead.created"}}},
		{http.MethodPatch, "/api/v1/webhooks/alpha-own", map[string]any{"chatbot": "the-mark"}},
		{http.MethodPatch, "/api/v1/webhooks/alpha-own", map[string]any{"chatbot": []string{"alpha", "the-mark"}}},
		{http.MethodPatch, "/api/v1/webhooks/alpha-own", map[string]any{"chatbot": nil}},
		{http.MethodPut, "/api/v1/webhooks/alpha-own", map[string]any{"chatbot": "*", "url": "https://crm.example.com/stolen"}},
		{http.MethodPost, "/api/v1/runs", map[string]any{"webhooks": []string{"own-mark"}}},
		{http.MethodPost, "/api/v1/runs", map[string]any{"webhooks": []string{"alpha-own", "all-mark"}}},
		{http.MethodPost, "/api/v1/runs", map[string]any{"chatbots": []string{"alpha", "the-mark"}}},
		{http.MethodPost, "/api/v1/webhooks?chatbot=the-mark", map[string]any{"url": "https://crm.example.com/stolen", "type": "notes"}},
	} {
		if a := v.alpha.call(try.method, try.path, try.body); a.status < 400 || a.status >= 500 {
			t.Errorf("%s %s %v: HTTP %d: %s", try.method, try.path, try.body, a.status, a.body)
		}
		unchanged("%s %s %v", try.method, try.path, try.body)
	}
}

// TestTokenRemoved: a token works in every daemon on its ledger as soon as it is made, and in none once it is removed.
func TestTokenRemoved(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 60*time.Second, fmt.Sprintf("source: sqlite:chatbots.db\nledger: %q\nwebhooks: []\n", newLedger(t, engine))+adminPart)
			s.writeToken(adminToken, 0o600)
			openApplication(t, "sqlite:"+filepath.Join(s.dir, "chatbots.db"))
			first, second := s.serve().door(), s.serve().door()
			id, made := first.with(s, "--chatbot", "alpha")
			status := func(d door) int {
				t.Helper()
				d.token = made.token
				return d.call(http.MethodGet, "/api/v1/webhooks", nil).status
			}
			if a, b := status(first), status(second); a != http.StatusOK || b != http.StatusOK {
				t.Errorf("a new token: HTTP %d and %d", a, b)
			}
			s.run(0, "token", "remove", id)
			if a, b := status(first), status(second); a != http.StatusUnauthorized || b != http.StatusUnauthorized {
				t.Errorf("a removed token: HTTP %d and %d", a, b)
			}
			for _, other := range []string{"", "leadrelay_", made.token + "0", strings.ToUpper(made.token)} {
				made.token = other
				if a := status(first); a != http.StatusUnauthorized {
					t.Errorf("the token %q: HTTP %d", other, a)
				}
			}
			if a := first.call(http.MethodGet, "/api/v1/webhooks", nil); a.status != http.StatusOK {
				t.Errorf("the token of token_file: HTTP %d", a.status)
			}
		})
	}
}
