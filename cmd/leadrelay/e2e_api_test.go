package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/crmtest"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

const adminToken = "0123456789abcdef-operator"

// writeToken writes a token file beside the configuration.
func (s *site) writeToken(token string, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.dir, "admin.token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		s.t.Fatal(err)
	}
}

var listens = regexp.MustCompile(`msg="admin listens" address=(\S+)`)

// adminOf is where the admin listener is of the daemon that has logged this.
func adminOf(t *testing.T, said string) string {
	t.Helper()
	found := listens.FindStringSubmatch(said)
	if found == nil {
		t.Fatal("it says no address of admin.listen")
	}
	return "http://" + found[1]
}

// admin is where the daemon's admin listener is.
func (p *process) admin() string {
	p.site.t.Helper()
	p.says("admin listens")
	return adminOf(p.site.t, p.errs.String())
}

// ask asks the daemon's API, which must answer with this status.
func (p *process) ask(status int, token, method, path, body string) (answer map[string]any) {
	p.site.t.Helper()
	r, err := http.NewRequestWithContext(p.site.ctx, method, p.admin()+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		p.site.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.site.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.site.t.Fatal(err)
	}
	if res.StatusCode != status || json.Unmarshal(text, &answer) != nil {
		p.site.t.Fatalf("%s %s: HTTP %d, want %d\n%s", method, path, res.StatusCode, status, text)
	}
	return answer
}

// TestEnteredAtAnother: a webhook that is entered through one daemon's API is pushed to by every daemon on the ledger
// within seconds, and no longer once it is disabled through another's. Each sends through a proxy of its own.
func TestEnteredAtAnother(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.Success)
	app := newApplication(t, "postgres")
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
http: {allow_http: true, allow_private: true, proxy: "${PROXY}"}
admin: {listen: "127.0.0.1:0", token_file: admin.token}
webhooks: []
`, app.source, newLedger(t, "postgres")))
	s.writeToken(adminToken, 0o600)
	app.installTrigger(s)
	var daemons [2]*process
	var sent [2]*atomic.Int64
	for i := range daemons {
		var proxy string
		sent[i], proxy = startProxy(t)
		s.env = []string{"PROXY=" + proxy}
		daemons[i] = s.serve()
	}
	app.insertMany("a", 5) // older than the webhook: not for it
	body := fmt.Sprintf(`{"id": "w", "chatbot": "a", "url": %q, "sign_key": %q}`, url, signKey)
	daemons[0].ask(201, adminToken, "POST", "/webhooks", body)
	began := time.Now()
	var rows []int64
	var first [2]time.Duration
	s.soon(func() bool {
		rows = append(rows, app.insert("a"))
		for i := range first {
			if first[i] == 0 && sent[i].Load() > 0 {
				first[i] = time.Since(began)
			}
		}
		return first[0] > 0 && first[1] > 0
	}, "both daemons push to it")
	t.Logf("after it was entered at the first daemon, that one pushed to it after %v, the second after %v", first[0].Round(time.Millisecond), first[1].Round(time.Millisecond))
	s.soon(func() bool { return crm.Counts().Acked == len(rows) }, "all %d rows are at the CRM", len(rows))
	exactlyOnce(t, crm, "w", "Lead", rows)

	daemons[1].ask(200, adminToken, "POST", "/webhooks/w/disable", "")
	time.Sleep(3 * time.Second) // what was begun before a daemon noticed is let to end
	app.insertMany("a", 10)
	time.Sleep(time.Second)
	if got := crm.Counts().Acked; got != len(rows) {
		t.Errorf("%d records were pushed to a webhook that is disabled", got-len(rows))
	}
	daemons[0].ask(200, adminToken, "DELETE", "/webhooks/w", "")
	daemons[1].ask(404, adminToken, "GET", "/webhooks/w", "")
	for _, p := range daemons {
		p.stop()
	}
}

// TestRotationByTheVendorsRecipe: while a key is rotated, receivers that verify as the vendor's page says, one with the
// old key and one with the new, both end up with every record; after the end of it only the one with the new.
func TestRotationByTheVendorsRecipe(t *testing.T) {
	t.Parallel()
	const old = "the key before"
	app := newApplication(t, "sqlite")
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%sadmin: {listen: "127.0.0.1:0", token_file: admin.token}
webhooks: []
`, app.source, newLedger(t, "sqlite"), local))
	s.writeToken(adminToken, 0o600)
	p := s.serve()
	ask := func(status int, method, path, body string) map[string]any {
		t.Helper()
		return p.ask(status, adminToken, method, "/webhooks"+path, body)
	}
	keeps := crmtest.Start(t, crmtest.Vendor, map[string][]string{"keeps": {old}, "changes": {old}})
	for _, id := range []string{"keeps", "changes"} {
		ask(201, "PUT", "/"+id, fmt.Sprintf(`{"chatbot": "a", "url": "%s%s", "sign_key": %q, "retry_at": ["300ms"]}`, keeps.URL, id, old))
	}
	ask(200, "POST", "/keeps/rotate-key", `{"overlap": "1h"}`)
	key := ask(200, "POST", "/changes/rotate-key", `{"overlap": "1h"}`)["sign_key"].(string)
	changes := crmtest.Start(t, crmtest.Vendor, map[string][]string{"": {key}})
	ask(200, "PATCH", "/changes", fmt.Sprintf(`{"url": %q}`, changes.URL))
	time.Sleep(1500 * time.Millisecond) // the daemon sees it
	const n = 30
	app.insertMany("a", n)
	taken := func(crm *crmtest.CRM) int { return len(crm.Taken()) }
	s.soon(func() bool { return taken(keeps) == n && taken(changes) == n }, "both CRMs have all %d records", n)
	if got := changes.Refused(); got != n {
		t.Errorf("the CRM with the new key refused %d of %d first attempts: the vendor's recipe looks at the last signature", got, n)
	}
	refused := keeps.Refused()

	for _, id := range []string{"keeps", "changes"} {
		ask(200, "POST", "/"+id+"/rotate-key", `{"finish": true}`)
	}
	time.Sleep(1500 * time.Millisecond)
	app.insertMany("a", n)
	s.soon(func() bool { return taken(changes) == 2*n }, "the CRM with the new key has all records")
	s.soon(func() bool { return keeps.Refused() == refused+2*n }, "the CRM with the old key has refused each record twice")
	if got := changes.Refused(); got != n || taken(keeps) != n {
		t.Errorf("after the end: the new key's CRM refused %d, the old key's took %d", got-n, taken(keeps)-n)
	}
	p.stop()
}

// TestReloadedTokens: a reload reads the token file again; a bad one is refused, and the old token goes on. A request
// that is under way meanwhile is answered.
func TestReloadedTokens(t *testing.T) {
	t.Parallel()
	app := newApplication(t, "sqlite")
	s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%sadmin: {listen: "127.0.0.1:0", token_file: admin.token}
webhooks: []
`, app.source, newLedger(t, "sqlite"), local))
	for _, bad := range []struct {
		token string
		mode  os.FileMode
		says  string
	}{
		{adminToken, 0o644, "chmod 600"},
		{adminToken, 0o640, "chmod 600"},
		{"short", 0o600, "shorter than 16 characters"},
		{"", 0o600, "is empty"},
		{adminToken + "\n" + adminToken, 0o600, "one token in one line"},
	} {
		s.writeToken(bad.token, bad.mode)
		if _, stderr := s.run(exitUsage, "serve"); !strings.Contains(stderr, bad.says) || !strings.Contains(stderr, "admin.token_file") || strings.Contains(stderr, adminToken) {
			t.Errorf("of a bad token file it says: %s", stderr)
		}
	}
	s.writeToken(adminToken, 0o400)
	p := s.serve()
	p.ask(200, adminToken, "GET", "/webhooks", "")

	// A request of which the body is still to come.
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.admin(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"id": "slow", "chatbot": "a", "url": "http://127.0.0.1:1/slow"}`
	fmt.Fprintf(conn, "POST /api/v1/webhooks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		adminToken, len(body), body[:10])
	time.Sleep(100 * time.Millisecond)

	if err := os.Remove(filepath.Join(s.dir, "admin.token")); err != nil {
		t.Fatal(err)
	}
	const other = "fedcba9876543210-operator"
	s.writeToken(other, 0o644)
	p.signal(syscall.SIGHUP)
	p.says("the new configuration was refused")
	p.ask(200, adminToken, "GET", "/webhooks", "")
	s.writeToken(other, 0o600)
	p.signal(syscall.SIGHUP)
	p.says("the configuration was read again")
	p.ask(401, adminToken, "GET", "/webhooks", "")
	p.ask(200, other, "GET", "/webhooks", "")

	fmt.Fprint(conn, body[10:])
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Errorf("a request that was under way at a reload: HTTP %d", res.StatusCode)
	}
	p.ask(200, other, "GET", "/webhooks/slow", "")
	p.stop()
	for _, token := range []string{adminToken, other} {
		if strings.Contains(p.errs.String(), token) {
			t.Error("the log holds a token")
		}
	}
}
