package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A pageCRM verifies requests, each path by a key of its own, with the program on the vendors' pages; where a path has no
// key a request must not be signed.
type pageCRM struct {
	mu     sync.Mutex
	keys   map[string]string
	bodies map[string][]string // by path, of requests that are as they should be
	wrong  []string
}

func newPageCRM() *pageCRM {
	return &pageCRM{keys: map[string]string{}, bodies: map[string][]string{}}
}

func (c *pageCRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	header := "Smartlook-Signature-256"
	if strings.HasPrefix(r.URL.Path, "/survey") {
		header = "X-SmartSurvey-Signature"
	}
	key, signed := c.keys[r.URL.Path]
	switch {
	case err != nil, r.URL.Path == "/control":
	case !signed && r.Header.Get(header) == "":
	case !signed:
		c.wrong = append(c.wrong, r.URL.Path+" is signed")
	default:
		verify := exec.Command("node", filepath.Join("testdata", "vendors", "verify_page.js"), key, r.Header.Get(header))
		verify.Stdin = bytes.NewReader(body)
		if out, err := verify.CombinedOutput(); err != nil {
			c.wrong = append(c.wrong, r.URL.Path+": "+err.Error()+" "+string(out))
		}
	}
	c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], string(body))
	w.WriteHeader(http.StatusNoContent)
}

// got are the bodies that came to a path.
func (c *pageCRM) got(path string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.bodies[path])
}

func (c *pageCRM) key(path, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[path] = key
}

// TestRegistrations: who has a script for Smartlook's or SmartSurvey's webhooks registers with it, is sent what that vendor
// would send, and nothing any more when it has unsubscribed.
func TestRegistrations(t *testing.T) {
	t.Parallel()
	crm := newPageCRM()
	url := startServer(t, crm, func() {})
	example, err := os.ReadFile(filepath.Join("testdata", "vendors", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	streams, _, _ := strings.Cut(string(example), "\nwebhooks:")
	s := newSite(t, 60*time.Second, streams+`
  - {type: response, table: responses, chatbot: account, where: status = 'completed', updated: updated_at, fields: {id: id}}
  - {type: response.disqualified, table: responses, chatbot: account, where: status = 'disqualified', fields: {id: id}}
immediate: true
`+adminPart+`webhooks:
  - {id: control, chatbot: "*", dialect: standard-webhooks, url: "`+url+`/control"}
`+local)
	s.writeToken(adminToken, 0o600)
	statements, err := os.ReadFile(filepath.Join("testdata", "vendors", "platform.sql"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "platform.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	execute := func(only string, statements ...string) {
		t.Helper()
		for _, one := range statements {
			if one = strings.TrimSpace(one); !strings.HasPrefix(one, only) {
				continue
			}
			if _, err := db.ExecContext(t.Context(), one); err != nil {
				t.Fatal(one, err)
			}
		}
	}
	pages := strings.Split(string(statements), ";\n")
	execute("CREATE", pages...)
	execute("CREATE", `CREATE TABLE responses (id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT, status TEXT,
		created_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), updated_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')))`)
	operator := s.serve().door()
	const issues, notes = "697d3b6583d54c95acb2c34e3fb5", "0fbf4a5b4da2486283abefdb37cc4f24" // projects of the page's examples
	_, forIssues := operator.with(s, "--chatbot", issues)
	_, forNotes := operator.with(s, "--chatbot", notes)
	_, forSurveys := operator.with(s, "--chatbot", "shop")

	// register answers with these members, and this again is refused.
	register := func(d door, path string, body map[string]any, members ...string) map[string]any {
		t.Helper()
		a := d.call(http.MethodPost, path, body)
		var got map[string]any
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusCreated {
			t.Fatalf("POST %s: HTTP %d: %s", path, a.status, a.body)
		}
		for _, name := range members {
			if text, ok := got[name].(string); name != "events" && (!ok || text == "") {
				t.Errorf("POST %s: %s is %v", path, name, got[name])
			}
		}
		if len(got) != len(members) {
			t.Errorf("POST %s answered %s; its members should be %q", path, a.body, members)
		}
		if again := d.call(http.MethodPost, path, body); again.status != http.StatusConflict {
			t.Errorf("POST %s of the same again: HTTP %d: %s", path, again.status, again.body)
		}
		return got
	}
	crm.key("/notes", "your-secret")
	issue := register(forIssues, "/api/v1/webhoooks", map[string]any{"url": url + "/issues", "type": "issues"}, "id")
	note := register(forNotes, "/api/v1/webhooks", map[string]any{"url": url + "/notes", "type": "notes", "secret": "your-secret"}, "id")
	survey := register(forSurveys, "/api/v1/subscriptions", map[string]any{
		"endpoint_url": url + "/survey", "events": []string{"response.completed"}, "description": "the shop's",
	}, "id", "endpoint_url", "events", "description", "state", "sign_key")
	crm.key("/survey", survey["sign_key"].(string))
	changes := register(forSurveys, "/api/v1/subscriptions", map[string]any{
		"endpoint_url": url + "/survey/changes", "events": []string{"response.updated"}, "description": "what changes",
	}, "id", "endpoint_url", "events", "description", "state", "sign_key")
	crm.key("/survey/changes", changes["sign_key"].(string))
	if diff := cmp.Diff(map[string]any{"endpoint_url": url + "/survey", "events": []any{"response.completed"}, "description": "the shop's"},
		map[string]any{"endpoint_url": survey["endpoint_url"], "events": survey["events"], "description": survey["description"]}); diff != "" {
		t.Errorf("the subscription (-want +got):\n%s", diff)
	}
	// came waits for these bodies at a path, and wants no other.
	came := func(path string, want ...string) {
		t.Helper()
		s.soon(func() bool { return len(crm.got(path)) >= len(want) }, "%d bodies come to %s", len(want), path)
		got := crm.got(path)
		if len(got) != len(want) {
			t.Fatalf("%d bodies came to %s, not %d: %s", len(got), path, len(want), got)
		}
		slices.Sort(got)
		slices.Sort(want)
		for i := range want {
			var w, g any
			if err := errors.Join(json.Unmarshal([]byte(want[i]), &w), json.Unmarshal([]byte(got[i]), &g)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
	page := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("..", "..", "sinks", "testdata", "examples", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// Comments come from a query, which is read by its created column: rows that say to be older than it are not new.
	sent := time.Now().UTC()
	for i, one := range pages {
		pages[i] = strings.Replace(one, "2022-11-29 13:26:04.127", sent.Format("2006-01-02 15:04:05.000"), 1)
	}
	execute("INSERT", pages...)
	execute("INSERT", "INSERT INTO responses (account, status) VALUES ('shop', 'disqualified'), ('shop', 'completed'), ('another', 'completed')")
	came("/issues", page("smartlook-issue"))
	came("/notes", page("smartlook-note"), strings.Replace(page("smartlook-comment"), "2022-11-29T13:26:04.127Z", sent.Format("2006-01-02T15:04:05.000Z"), 1))
	came("/survey", `{"event": "response.completed", "data": {"id": 2}}`)
	s.soon(func() bool { return len(crm.got("/control")) == 5+3 }, "all comes to the webhook of all")

	// Of a change only that one hears who subscribed to changes.
	execute("UPDATE", "UPDATE responses SET updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 second') WHERE id = 2")
	came("/survey/changes", `{"event": "response.updated", "data": {"id": 2}}`)
	s.soon(func() bool { return len(crm.got("/control")) == 5+3+1 }, "the change comes to the webhook of all")

	// Shown again, no key is.
	var list struct{ Items []map[string]any }
	forSurveys.get("/api/v1/subscriptions", &list)
	if len(list.Items) != 2 || list.Items[0]["sign_key"] != nil || list.Items[1]["sign_key"] != nil {
		t.Errorf("the subscriptions are %v", list.Items)
	}
	if a := forNotes.call(http.MethodGet, "/api/v1/webhoooks/"+note["id"].(string), nil); a.status != http.StatusOK || strings.Contains(a.body, "your-secret") {
		t.Errorf("the webhook of notes: HTTP %d: %s", a.status, a.body)
	}

	// Unsubscribed, nothing more comes.
	for _, remove := range []struct {
		door
		path   string
		status int
	}{
		{forIssues, "/api/v1/webhoooks/" + issue["id"].(string), http.StatusOK},
		{forNotes, "/api/v1/webhooks/" + note["id"].(string), http.StatusOK},
		{forSurveys, "/api/v1/subscriptions/" + survey["id"].(string), http.StatusNoContent},
		{forSurveys, "/api/v1/subscriptions/" + changes["id"].(string), http.StatusNoContent},
	} {
		if a := remove.call(http.MethodDelete, remove.path, nil); a.status != remove.status {
			t.Errorf("DELETE %s: HTTP %d: %s", remove.path, a.status, a.body)
		}
		if a := remove.call(http.MethodDelete, remove.path, nil); a.status != http.StatusNotFound {
			t.Errorf("DELETE %s again: HTTP %d: %s", remove.path, a.status, a.body)
		}
	}
	execute("INSERT", "INSERT INTO responses (account, status) VALUES ('shop', 'completed')",
		"INSERT INTO issues (project_id, sent_at) VALUES ('"+issues+"', '2023-01-01')", "INSERT INTO notes (project_id, sent_at) VALUES ('"+notes+"', '2023-01-01')")
	s.soon(func() bool { return len(crm.got("/control")) == 9+3 }, "more comes to the webhook of all")
	time.Sleep(time.Second)
	for path, want := range map[string]int{"/issues": 1, "/notes": 2, "/survey": 1, "/survey/changes": 1} {
		if got := len(crm.got(path)); got != want {
			t.Errorf("%d bodies came to %s, not %d", got, path, want)
		}
	}
	if len(crm.wrong) > 0 {
		t.Errorf("not verified: %q", crm.wrong)
	}
}
