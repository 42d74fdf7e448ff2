package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// options as the program gives them, and a second dialect.
func options() Options {
	return Options{
		Schedule: func(spec, timezone string) error { _, err := jobs.ParseSchedule(spec, timezone); return err },
	}
}

// mustParse parses a file that is said to be in the folder dir.
func mustParse(t *testing.T, path, text string) *Config {
	t.Helper()
	c, err := Parse(path, []byte(text), options())
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return c
}

var noEnv = Env{ReadFile: os.ReadFile}

func mustResolve(t *testing.T, c *Config, env Env) *Resolved {
	t.Helper()
	r, err := c.Resolve(env)
	if err != nil {
		t.Fatalf("resolve: %v", err)
	}
	return r
}

// plain compares secrets by their text.
var plain = cmp.Options{
	cmp.Comparer(func(a, b jobs.Secret) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
}

// emptyIsNil takes an empty map or list for none.
var emptyIsNil = cmp.Options{
	cmp.FilterValues(func(a, b map[string]jobs.Secret) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
	cmp.FilterValues(func(a, b []string) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
}

const smallestFile = `source: sqlite:chatbots.db
webhooks:
  - chatbot: bot1
    url: https://crm.example.com/hook
`

func TestSmallest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	dir := filepath.Dir(path)
	got := mustResolve(t, mustParse(t, path, smallestFile), noEnv)
	stream := func(typ, table string) Stream {
		return Stream{
			Type: typ, Table: table, ID: "id", Chatbot: "chatbot_id", Created: "created_at", CreatedZone: time.UTC,
			Fields: []Field{
				{Name: "FirstName", Column: "first_name"},
				{Name: "LastName", Column: "last_name"},
				{Name: "Email", Column: "email"},
				{Name: "PhoneNumber", Column: "phone_number"},
				{Name: "Content", Column: "content"},
				{Name: "SessionID", Column: "session_id"},
				{Name: "URI", Column: "uri"},
			},
			Cursor: CursorAuto, GapKeep: 7 * 24 * time.Hour, Optional: true,
		}
	}
	want := &Resolved{Path: path, Settings: Settings{
		Source:   jobs.Secret("sqlite:" + dir + "/chatbots.db"),
		Ledger:   jobs.Secret("sqlite:" + dir + "/ledger.db"),
		Schedule: "@daily", Timezone: "UTC",
		Streams: []Stream{stream("Lead", "leads"), stream("Appointment", "appointments")},
		Webhooks: []jobs.Webhook{{
			ID: "bot1", Chatbots: []string{"bot1"}, URL: "https://crm.example.com/hook", Dialect: "smarterbot",
			Schedule: "@daily", Timezone: "UTC", RetryAt: []time.Duration{time.Minute, 3 * time.Minute},
			Ack: []string{"success", "Success: test request received"}, From: "now", Origin: path,
		}},
		Push:        Push{Workers: 256, PerWebhook: 8, MaxBody: 5 << 20},
		HTTP:        HTTP{Timeout: 10 * time.Second},
		Admin:       Admin{WebhooksPerChatbot: 100},
		GiveUpAfter: 7 * 24 * time.Hour, Retention: 90 * 24 * time.Hour, Reconcile: Reconcile{Schedule: "@daily", Days: 7},
	}}
	if diff := cmp.Diff(want, got, plain); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSmallestIsWhatAnEmptyFileIsTold(t *testing.T) {
	mustParse(t, "config.yaml", smallest)
}

func TestLedgerDefault(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/leadrelay/config.yaml":     "sqlite:/var/lib/leadrelay/ledger.db",
		"/etc/leadrelay/more/other.yaml": "sqlite:/etc/leadrelay/more/ledger.db",
		"/srv/leads/leadrelay.yaml":      "sqlite:/srv/leads/ledger.db",
	} {
		if got := mustParse(t, path, smallestFile).Ledger.Reveal(); got != want {
			t.Errorf("ledger of %s is %s, want %s", path, got, want)
		}
	}
}

func TestEverything(t *testing.T) {
	const text = "\ufeff# a byte order mark before it\r\n" + `---
source: postgresql://reader@db.internal:5433/chatbots?sslmode=verify-full
ledger: sqlite:./state/../ledger.db
schedule: 0 6 * * *
timezone: Europe/Prague
immediate: True
streams:
  - {type: Lead, query: "SELECT * FROM v ", id: lead_id, chatbot: bot, created: at, updated: changed, deleted: gone, created_zone: Europe/London,
     fields: {FirstName: name, Content: {json: words}, URI: {const: 007}, SessionID: {const: 0x}}, where: "x <> 'a'", settle: 5m,
     cursor: created, gap_keep: 1d12h, lookback: 2h}
webhooks:
  - id: acme_1-x
    chatbot: [0123, yes, 1_000, "*x", 1e3, .inf]
    url: http://crm.example.com:8080/hooks?key=1&other=2
    sign_key: 'it''s'
    types: &types
      - Lead
    dialect: smartsurvey
    schedule: "@every 1h"
    timezone: America/New_York
    immediate: false
    retry_at: [500ms, 1m30s, 1d]
    ack: 2xx
    headers: {x-api-key: "k: #1", Authorization: Bearer x}
    from: 2024-02-29
    description: |
      Two
      lines
  - {chatbot: "*", url: "https://a.example/", types: *types, ack: [ok], retry_at: [], from: 2026-01-02T03:04:05+01:00}
push: {workers: 4, max_body: 64KiB}
http:
  timeout: 2s
  allow_http: true
  allow_private: TRUE
  allow_cidrs: [10.0.0.0/8, "fd00::/8"]
  ca_file: ca.pem
  client_cert_file: /abs/cert.pem
  client_key_file: key.pem
  proxy: socks5://user:pw@proxy:1080
admin: {listen: "[::1]:8787"}
give_up_after: 3h
retention: 1d
reconcile: {schedule: "", days: 30}
...
`
	text1 := strings.Replace(text, "{const: 0x}", "{const: -7}", 1)
	got := mustResolve(t, mustParse(t, "/srv/leads/config.yaml", text1), noEnv)
	london, _ := time.LoadLocation("Europe/London")
	want := &Resolved{Path: "/srv/leads/config.yaml", Settings: Settings{
		Source:   "postgresql://reader@db.internal:5433/chatbots?sslmode=verify-full",
		Ledger:   "sqlite:/srv/leads/ledger.db",
		Schedule: "0 6 * * *", Timezone: "Europe/Prague", Immediate: true, StreamsGiven: true,
		Streams: []Stream{{
			Type: "Lead", Query: "SELECT * FROM v", ID: "lead_id", Chatbot: "bot", Created: "at", Updated: "changed", Deleted: "gone", CreatedZone: london,
			Fields: []Field{{Name: "FirstName", Column: "name"}, {Name: "Content", Column: "words", JSON: true}, {Name: "URI", Const: "007"}, {Name: "SessionID", Const: int64(-7)}},
			Where:  "x <> 'a'", Settle: 5 * time.Minute, Cursor: CursorCreated, GapKeep: 36 * time.Hour, Lookback: 2 * time.Hour,
		}},
		Webhooks: []jobs.Webhook{
			{
				ID: "acme_1-x", Chatbots: []string{"0123", "yes", "1_000", "*x", "1e3", ".inf"},
				URL: "http://crm.example.com:8080/hooks?key=1&other=2", SignKey: "it's", Types: []string{"Lead"},
				Dialect: "smartsurvey", Schedule: "@every 1h", Timezone: "America/New_York",
				RetryAt: []time.Duration{500 * time.Millisecond, 90 * time.Second, 24 * time.Hour}, Ack: []string{"2xx"},
				Headers: map[string]jobs.Secret{"X-Api-Key": "k: #1", "Authorization": "Bearer x"},
				From:    "2024-02-29T00:00:00Z", Description: "Two\nlines\n", Origin: "/srv/leads/config.yaml",
			},
			{
				ID: "all", Chatbots: []string{"*"}, URL: "https://a.example/", Types: []string{"Lead"}, Dialect: "smarterbot",
				Schedule: "0 6 * * *", Timezone: "Europe/Prague", Immediate: true, RetryAt: []time.Duration{},
				Ack: []string{"ok"}, From: "2026-01-02T03:04:05+01:00", Origin: "/srv/leads/config.yaml",
			},
		},
		Push: Push{Workers: 4, PerWebhook: 4, MaxBody: 64 << 10},
		HTTP: HTTP{
			Timeout: 2 * time.Second, AllowHTTP: true, AllowPrivate: true, AllowCIDRs: []string{"10.0.0.0/8", "fd00::/8"},
			CAFile: "/srv/leads/ca.pem", ClientCertFile: "/abs/cert.pem", ClientKeyFile: "/srv/leads/key.pem",
			Proxy: "socks5://user:pw@proxy:1080",
		},
		Admin:       Admin{Listen: "[::1]:8787", WebhooksPerChatbot: 100},
		GiveUpAfter: 3 * time.Hour, Retention: 24 * time.Hour, Reconcile: Reconcile{Days: 30},
	}}
	if diff := cmp.Diff(want, got, plain); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestAcks: every form of the answer rule, as the ledger keeps it.
func TestAcks(t *testing.T) {
	o := options()
	for text, want := range map[string][]string{
		"":                                  {"success", "Success: test request received"},
		"dialect: userback":                 {"2xx"},
		"ack: 2xx":                          {"2xx"},
		"ack: [2xx]":                        {"2xx"},
		"ack: gohighlevel":                  {"gohighlevel"},
		"dialect: userback, ack: [ok, yes]": {"ok", "yes"},
		"ack: {path: result.ok, equals: [true, 1, Yes]}": {`{"path":"result.ok","equals":["true","1","Yes"]}`},
		"ack: {prefix: ['Stored '], path: a}":            {`{"path":"a","prefix":["Stored "]}`},
	} {
		c, err := Parse("c.yaml", []byte("source: sqlite:a\nwebhooks:\n  - {chatbot: x, url: 'https://a.example/', "+text+"}\n"), o)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, c.Webhooks[0].Ack); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if err := jobs.CheckAck(c.Webhooks[0].Ack); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestTypesOfADialect: a word in types may stand for several types, or for one event.
func TestTypesOfADialect(t *testing.T) {
	const text = `source: sqlite:a
streams: [{type: note, table: notes}, {type: comment, table: comments}]
webhooks:
  - {id: a, chatbot: x, url: "https://a.example/", types: notes, dialect: smartlook}
  - {id: b, chatbot: x, url: "https://a.example/", types: [note]}
  - {id: c, chatbot: x, url: "https://a.example/", types: [note.created], dialect: smartlook}
`
	c, err := Parse("c.yaml", []byte(text), options())
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, w := range c.Webhooks {
		got = append(got, w.Types, w.Events)
	}
	if diff := cmp.Diff([][]string{{"comment", "note"}, nil, {"note"}, nil, {"note"}, {"note.created"}}, got); diff != "" {
		t.Errorf("types and events (-want +got):\n%s", diff)
	}
	_, err = Parse("c.yaml", []byte(strings.Replace(text, "[note]", "[notes, note]", 1)), options())
	if err == nil || !strings.Contains(err.Error(), `webhooks[1].types[0]: there is no stream of type "notes"`) {
		t.Errorf("another dialect's word: %v", err)
	}
}

// TestLineEndings: a file saved on Windows means the same.
func TestLineEndings(t *testing.T) {
	const text = smallestFile + `    description: "two
      lines

      and a break"
    sign_key: >-
      folded
      text
    headers:
      A: |-
        x
`
	unix := mustParse(t, "/srv/c.yaml", text)
	dos := mustParse(t, "/srv/c.yaml", strings.ReplaceAll(text, "\n", "\r\n"))
	if diff := cmp.Diff(unix.Settings, dos.Settings, plain); diff != "" {
		t.Errorf("settings (-unix +dos):\n%s", diff)
	}
	if got := unix.Webhooks[0].Description; got != "two lines\nand a break" {
		t.Errorf("description is %q", got)
	}
}

func TestDefaultIDs(t *testing.T) {
	for _, c := range []struct {
		name     string
		chatbots []string
		want     string
	}{
		{"a chatbot's id", []string{"59001dd73709417321c58b11693183a2"}, "59001dd73709417321c58b11693183a2"},
		{"all", []string{"*"}, "all"},
		{"no id's characters", []string{"Bot №1"}, "chatbots-f64f6c1f26f1"},
		{"a list", []string{"a", "b"}, "chatbots-59b271ae1bbc"},
		{"the same list otherwise", []string{"b", "a"}, "chatbots-59b271ae1bbc"},
		{"another list", []string{"ab"}, "ab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := defaultID(c.chatbots); got != c.want {
				t.Errorf("id of %q is %s, want %s", c.chatbots, got, c.want)
			}
		})
	}
}

func TestStreamWithoutCreated(t *testing.T) {
	c := mustParse(t, "c.yaml", smallestFile+"streams: [{type: Lead, table: leads, created: ''}]\n")
	if got := c.Streams[0].Created; got != "" {
		t.Errorf("created is %s, want none", got)
	}
}

func TestLoadNoFile(t *testing.T) {
	_, err := Load("testdata/none.yaml", options())
	if want := "read configuration testdata/none.yaml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the error is not fs.ErrNotExist")
	}
	_, err = Load("testdata", options())
	if want := "read configuration testdata: is a directory"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	env := func(value string) Env {
		return Env{Lookup: func(name string) (string, bool) { return value, name == "LEADRELAY_CONFIG" }}
	}
	find := func(explicit string, env Env) string {
		path, err := find(explicit, env, "config.yaml", "etc/config.yaml")
		if err != nil {
			return err.Error()
		}
		return path
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("nothing", find("", Env{}),
		"no configuration; looked for --config, $LEADRELAY_CONFIG (not set), ./config.yaml, ./etc/config.yaml: copy config.example.yaml to one of these places")
	if err := os.Mkdir("etc", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"etc/config.yaml", "config.yaml"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		check("with "+path, find("", Env{}), path)
	}
	check("an empty variable", find("", env("")), "config.yaml")
	check("the variable", find("", env("other.yaml")), "other.yaml")
	check("the flag", find("flag.yaml", env("other.yaml")), "flag.yaml")
}

// TestNoWebhooks: an empty list is meant, a list left out is not.
func TestNoWebhooks(t *testing.T) {
	c, err := Parse("c.yaml", []byte("source: sqlite:a\nwebhooks: []\n"), Options{})
	if err != nil || len(c.Webhooks) != 0 {
		t.Errorf("an empty list gives %+v, %v", c, err)
	}
}
