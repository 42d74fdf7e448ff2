package main

import (
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// trialFaults are what may be wrong at a CRM, by the webhook's id: its URL and what `webhook test` must say, which it
// must say of no other.
var trialFaults = []struct{ id, url, code, says string }{
	{"wrong-key", "$KEY", "http_401", "sign key is another"},
	{"wrong-case", "$CRM/wrong-case", "ack_mismatch", `is "Success" and must be "success"`},
	{"redirect", "$CRM/redirect", "redirect", "redirects are never followed"},
	{"certificate", "$TLS", "tls", "certificate is signed by itself"},
	{"private", "https://127.0.0.2:1", "private_address", "loopback, private or reserved address; set http.allow_cidrs"},
	{"timeout", "$CRM/hang", "timeout", "did not answer within 3s"},
	{"missing", "$CRM/http-404", "http_404", "nothing at the URL's path"},
	{"html", "$CRM/html", "not_json", "HTML of a login page"},
	{"bad-gzip", "$CRM/bad-gzip", "bad_gzip", "and is not gzip"},
	{"huge", "$CRM/huge", "too_large", "larger than 64 KiB: answer"},

	{"bomb", "$CRM/gzip-bomb", "too_large", "64 KiB"},
	{"bom", "$CRM/bom", "bom", "byte order mark"},
	{"php", "$CRM/leading-text", "leading_text", "stands before the JSON object"},
	{"empty", "$CRM/empty", "empty", "has no body"},
	{"dns", "https://no-such-host.invalid", "dns", "host"},
	{"nobody", "http://127.0.0.1:1", "connect", "Nothing accepts connections"},
	{"large", "$CRM/http-413", "http_413", "no body of this size"},
	{"busy", "$CRM/http-429", "http_429", "wants fewer requests"},
	{"broken", "$CRM/http-503", "http_503", "endpoint failed"},
	{"echo", "$ECHO", "http_418", "HTTP 2xx"},
	{"fine", "$CRM/success", "", "acknowledged the test"},
	{"unpublished", "$CRM/test-answer", "", "GoHighLevel"},
}

// TestWebhookTest tests webhooks of which each has one fault, as its user does: the fault is named and no other is, no
// secret is shown, and the ledger is as it was, row for row.
func TestWebhookTest(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testWebhookTest(t, engine)
		})
	}
}

func testWebhookTest(t *testing.T, engine string) {
	presets := newPresetCRM()
	app, ledger := newApplication(t, "sqlite"), newLedger(t, engine)
	urls := strings.NewReplacer(
		"$CRM", startServer(t, presets, presets.close),
		"$KEY", startVerifying(t, "the CRM has another key"),
		"$TLS", startSelfSigned(t),
		"$ECHO", startServer(t, http.HandlerFunc(tellAll), func() {}),
	)
	configuration := func(open string, without ...string) string {
		var config strings.Builder
		fmt.Fprintf(&config, "source: %q\nledger: %q\nhttp: {timeout: 3s, allow_http: true, allow_cidrs: [%s]}\nwebhooks:\n", app.source, ledger, open)
		for _, f := range trialFaults {
			if !slices.Contains(without, f.id) {
				fmt.Fprintf(&config, "  - {id: %s, chatbot: a, url: %q, sign_key: %q, retry_at: [], headers: {Authorization: %q}}\n",
					f.id, urls.Replace(f.url)+"/hook/t0ken-of-the-path?q=t0ken-of-the-query", signKey, "Bearer t0ken-of-the-header")
			}
		}
		return config.String()
	}
	s := newSite(t, 5*time.Minute, configuration("127.0.0.0/8"))
	s.runNow(0)
	app.insert("a")
	s.runNow(3, "--no-wait")                              // some of the deliveries are owed, some delivered
	s.configure(configuration("127.0.0.1/32", "private")) // which the ledger has from when its network was open
	before := rowsOf(t, ledger)
	for i, f := range trialFaults {
		if engine == "postgres" && i%4 > 0 { // the ledger makes no difference to what is said
			continue
		}
		t.Run(f.id, func(t *testing.T) {
			code := 0
			if f.code != "" {
				code = 3
			}
			var trial jobs.Trial
			s.document(&trial, code, "webhook", "test", f.id)
			for _, secret := range []string{"t0ken", signKey} {
				if strings.Contains(fmt.Sprintf("%+v %+v", trial, trial.Answer), secret) {
					t.Errorf("%q is shown: %+v", secret, trial)
				}
			}
			if trial.OK != (code == 0) || trial.Code != f.code || !strings.Contains(trial.Reason, f.says) {
				t.Errorf("got %+v, want %s: %s", trial, f.code, f.says)
			}
			for _, other := range trialFaults[:10] {
				if other.id != f.id && f.id != "bomb" && strings.Contains(trial.Reason, other.says) {
					t.Errorf("%q names %s too", trial.Reason, other.id)
				}
			}
			if i%4 > 0 { // what is printed is the same, laid out
				return
			}
			stdout, stderr := s.run(code, "webhook", "test", f.id)
			if !strings.Contains(stdout, trial.Reason) || !strings.Contains(stdout, "\nX-Webhook-Test: 1\n") || stderr != "" {
				t.Errorf("printed:\n%s%s", stdout, stderr)
			}
			for _, secret := range []string{"t0ken", signKey} {
				if strings.Contains(stdout+stderr, secret) {
					t.Errorf("%q is shown:\n%s%s", secret, stdout, stderr)
				}
			}
		})
	}
	if diff := cmp.Diff(before, rowsOf(t, ledger)); diff != "" {
		t.Errorf("the ledger has changed: %s", diff)
	}
}

// TestWebhookTestByAPI: the daemon answers the same.
func TestWebhookTestByAPI(t *testing.T) {
	t.Parallel()
	presets := newPresetCRM()
	crm, app := startServer(t, presets, presets.close), newApplication(t, "sqlite")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("an-admin-token-of-tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
http: {allow_http: true, allow_private: true}
admin: {listen: 127.0.0.1:0, token_file: %q}
webhooks: [{id: w, chatbot: a, url: %q}]
`, app.source, token, crm+"/wrong-case/t0ken-of-the-path"))
	p := s.serve()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"w/test": 200, "w/test?reveal=true": 200, "nobody/test": 404} {
		req, err := http.NewRequest(http.MethodPost, p.admin()+"/api/v1/webhooks/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer an-admin-token-of-tests")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != want {
			t.Fatalf("%s: %s %s", path, res.Status, body)
		}
		if want != 200 {
			continue
		}
		var trial jobs.Trial
		if err := json.Unmarshal(body, &trial); err != nil || trial.OK || trial.Code != "ack_mismatch" || trial.Detail != "wrong_case" || !trial.Request.Sent || trial.Answer.Status != 200 {
			t.Errorf("%s: %s", path, body)
		}
		if strings.Contains(string(body), "t0ken") != strings.Contains(path, "reveal") {
			t.Errorf("%s shows %s", path, body)
		}
	}
	p.stop()
	if owed := s.deliveries(); len(owed) > 0 {
		t.Errorf("there are deliveries: %+v", owed)
	}
}

// tellAll refuses, and gives back all that came, and the sign key besides.
func tellAll(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Authorization", r.Header.Get("Authorization"))
	w.Header().Set("Set-Cookie", "session=t0ken-of-a-cookie")
	w.WriteHeader(http.StatusTeapot)
	_, _ = fmt.Fprintf(w, "<pre>Cannot POST %s\n%v\nI have %s", r.URL, r.Header, signKey)
	_, _ = io.Copy(w, r.Body)
}

// startVerifying starts a CRM that knows this key alone, and answers HTTP 401 where it does not verify.
func startVerifying(t testing.TB, key jobs.Secret) string {
	t.Helper()
	crm, err := receiver.New(receiver.Options{SignKeys: []jobs.Secret{key}, Tolerance: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return startServer(t, crm, crm.Close)
}

// startSelfSigned starts a CRM whose certificate nobody else vouches for.
func startSelfSigned(t testing.TB) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t, 1)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// rowsOf returns every row of every table of a ledger, as text, by table.
func rowsOf(t testing.TB, ledger string) map[string][]string {
	t.Helper()
	driver, dsn := "postgres", ledger
	tables := "select table_schema || '.' || table_name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 1"
	if path, ok := cutSQLite(ledger); ok {
		driver, dsn = "sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)"
		tables = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by 1"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string][]string{}
	for _, table := range texts(t, db, tables) {
		name := table[0][strings.LastIndexByte(table[0], '.')+1:]
		all[name] = nil
		for _, row := range texts(t, db, "select * from "+table[0]) {
			all[name] = append(all[name], strings.Join(row, "|"))
		}
		slices.Sort(all[name])
	}
	if len(all["deliveries"]) == 0 {
		t.Fatalf("there are no deliveries: %v", all)
	}
	return all
}

func texts(t testing.TB, db *sql.DB, query string) (all [][]string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(values))
		for i, v := range values {
			if row[i] = v.String; !v.Valid {
				row[i] = "NULL"
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
