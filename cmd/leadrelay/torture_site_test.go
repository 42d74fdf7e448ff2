package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
)

// A hook is a webhook of an ordeal's configuration: its id, which is the first segment of its URL's path, and its other
// keys. Those of the default dialect are signed with hiddenKey.
type hook struct{ id, keys string }

// What a process that was killed may have sent in vain, as the README promises: a request each worker, and a settle
// buffer.
const (
	tortureWorkers = 24
	settleBuffer   = 512
)

// install writes the configuration; more are further keys of it. All secrets have a mark by which they are found where
// they must not be.
func (o *ordeal) install(app *application, crm *witness, more string, hooks ...hook) {
	o.t.Helper()
	const sealing = "00f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff"
	o.replace("secrets.key", sealing+"\n")
	o.secrets = []string{"HIDDEN", sealing}
	var b strings.Builder
	fmt.Fprintf(&b, `source: %q
ledger: %q
secrets_key_file: secrets.key
push: {workers: %d, per_webhook: 8}
http: {allow_http: true, allow_private: true, proxy: "${PROXY}"}
admin: {listen: 127.0.0.1:0}
%s
webhooks:
`, app.source, o.ledger, tortureWorkers, more)
	for _, h := range hooks {
		keys := h.keys
		if !strings.Contains(keys, "dialect:") {
			keys += ", sign_key: " + hiddenKey
		}
		fmt.Fprintf(&b, "  - {id: %[1]s, url: \"%[2]s/%[1]s/HIDDEN-path?k=HIDDEN-query\", headers: {X-Token: HIDDEN-token}, from: beginning, %[3]s}\n",
			h.id, crm.url, keys)
	}
	o.replace("config.yaml", b.String())
	o.env = []string{"PROXY=" + crm.proxy("nobody")}
}

// replace writes a file as a whole: a process may be about to read it.
func (o *ordeal) replace(name, text string) {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// hiddenKey signs all that ordeals send, but where they make other keys.
const hiddenKey = "HIDDEN-key"

// ask runs a command to its end, which must come with this exit code, and keeps what it printed for the search at the end.
func (o *ordeal) ask(code int, args ...string) (stdout string) {
	o.t.Helper()
	stdout, stderr := o.run(code, args...)
	o.keep(strings.Join(args, "-"), stdout+stderr)
	return stdout
}

func (o *ordeal) keep(name, text string) {
	o.t.Helper()
	o.asked++
	path := filepath.Join(o.logs(), fmt.Sprintf("said-%d-%s.txt", o.asked, strings.ReplaceAll(name, "/", "-")))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// logs is the folder of all that the program printed.
func (o *ordeal) logs() string {
	o.t.Helper()
	dir := filepath.Join(o.dir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		o.t.Fatal(err)
	}
	return dir
}

// visit keeps what a daemon answers over HTTP.
func (o *ordeal) visit(l *life) {
	o.t.Helper()
	for path, code := range map[string]int{
		"/healthz": http.StatusOK, "/api/v1/webhooks": http.StatusOK, "/api/v1/deliveries?limit=1000": http.StatusOK, "/api/v1/runs": http.StatusOK,
		"/": http.StatusNotFound, "/metrics": http.StatusNotFound,
	} {
		o.keep("GET"+path, string(o.get(l, code, path)))
	}
}

// openRuns are the runs that were begun before then and have not ended.
func (o *ordeal) openRuns(l *life, before time.Time) (open []admin.Run) {
	o.t.Helper()
	var runs struct{ Items []admin.Run }
	text := o.get(l, http.StatusOK, "/api/v1/runs?limit=1000")
	if err := json.Unmarshal(text, &runs); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
	for _, r := range runs.Items {
		if r.EndedAt == nil && r.StartedAt.Before(before) {
			open = append(open, r)
		}
	}
	return open
}

// get is what a daemon answers to a path, which must come with this status.
func (o *ordeal) get(l *life, code int, path string) []byte {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.ctx, http.MethodGet, adminOf(o.t, l.said())+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != code {
		o.t.Fatalf("GET %s: HTTP %d, want %d, and %v\n%s", path, res.StatusCode, code, err, text)
	}
	return text
}
