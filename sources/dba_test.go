package sources

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// oddSchema has names that need quoting everywhere.
const oddSchema = `create schema "Odd 'Schema";
	create table "Odd 'Schema"."Ask%Me" ("ID" int generated always as identity primary key, "Bot" text, "When" timestamp, "Given ""Name""" text);
	create table "Odd 'Schema".by_uuid ("ID" uuid primary key default gen_random_uuid(), "Bot" text, "When" timestamptz default now());
	create table "Odd 'Schema".changing ("ID" int generated always as identity primary key, "Bot" text, "When" timestamptz, "Changed" timestamptz, "Gone" timestamptz);
	create index on "Odd 'Schema".changing (greatest("Changed", "When", "Gone"), "ID")`

func oddStreams() []Config {
	return append(Defaults(),
		Config{
			Type: "Odd", Table: `Odd 'Schema.Ask%Me`, ID: "ID", Chatbot: "Bot", Created: "When", CreatedZone: time.UTC,
			Fields: []Mapping{{Name: "FirstName", Column: `Given "Name"`}},
		},
		Config{
			Type: "Changing", Table: `"Odd 'Schema".changing`, ID: "ID", Chatbot: "Bot", Created: "When", Updated: "Changed", Deleted: "Gone", CreatedZone: time.UTC,
		},
		Config{Type: "ByUUID", Table: `"Odd 'Schema".by_uuid`, ID: "ID", Chatbot: "Bot", Created: "When", Cursor: CursorCreated},
		Config{Type: "Queried", Query: `select "ID" as id, "Bot" as bot, "When" as at from "Odd 'Schema".by_uuid`, ID: "id", Chatbot: "bot", Created: "at"},
	)
}

// What wakes for new rows alone wakes for changes when those matter, and goes on to.
func TestTriggerOfChanges(t *testing.T) {
	b := newPostgres(t, pgAppointments)
	news, changes := appointments(), appointments()
	news.Updated, news.Deleted = "", ""
	events := func() (n int) {
		t.Helper()
		if err := b.app.Get(&n, "select tgtype & 20 from pg_trigger where tgname = 'leadrelay_notify'"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i, test := range []struct {
		cfg  Config
		want int // insert is 4, update 16
	}{{news, 4}, {changes, 20}, {changes, 20}, {news, 20}} {
		b.exec(TriggerSQL("postgres", []Config{test.cfg}))
		if got := events(); got != test.want {
			t.Errorf("step %d: events %d, want %d", i, got, test.want)
		}
	}
	s := b.stream(changes)
	b.exec("insert into appointments (chatbot_id) values ('bot')")
	at := b.end(s)
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	for i := range 3 {
		b.exec("update appointments set updated_at = now()")
		for {
			if err := s.Wait(ctx, time.Hour); err != nil {
				t.Fatal(i, err)
			}
			if len(b.records(s, &at, 10)) > 0 {
				break
			}
		}
	}
}

// The printed SQL is all that a new role needs: streams open, nothing is found wrong, and rows wake the reader.
func TestSQLForTheDBA(t *testing.T) {
	b := newPostgres(t, pgLeads, oddSchema)
	const role = `Reader %I "'x`
	drop := func() {
		b.exec(`drop owned by "Reader %I ""'x"`)
		b.exec(`drop role "Reader %I ""'x"`)
	}
	for range 2 { // each may be run again
		b.exec(GrantsSQL("postgres", oddStreams(), role))
		b.exec(TriggerSQL("postgres", oddStreams()))
		for line := range strings.SplitSeq(IndexesSQL("postgres", oddStreams()), "\n") {
			b.exec(line)
		}
	}
	t.Cleanup(drop)
	b.exec(`grant usage on schema "Odd 'Schema" to public`)
	db, err := Open(b.ctx, strings.Replace(b.dsn, "postgres@", "Reader%20%25I%20%22'x@", 1), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, cfg := range oddStreams() {
		findings, err := db.Check(b.ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var want []Finding
		switch cfg.Type {
		case "Appointment":
			want = []Finding{{LevelError, `stream Appointment: open: there is no table "appointments", or this user may not see it`}}
		}
		if diff := cmp.Diff(want, findings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", cfg.Type, diff)
		}
	}
	var rights string
	if err := b.app.Get(&rights, `select string_agg(distinct privilege_type, ' ') from information_schema.role_table_grants where grantee like 'Reader%'`); err != nil {
		t.Fatal(err)
	}
	if rights != "SELECT" {
		t.Errorf("the role may %s", rights)
	}
	s, err := db.Stream(b.ctx, oddStreams()[2])
	if err != nil {
		t.Fatal(err)
	}
	at := b.end(s)
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	for i := range 3 {
		b.exec(fmt.Sprintf(`insert into "Odd 'Schema"."Ask%%Me" ("Bot", "Given ""Name""") values ('bot', 'Ann %d')`, i))
		for {
			if err := s.Wait(ctx, time.Hour); err != nil {
				t.Fatal(err)
			}
			if recs := b.records(s, &at, 10); len(recs) > 0 {
				if got := recs[0].Field("FirstName"); got != fmt.Sprintf("Ann %d", i) {
					t.Errorf("FirstName %v", got)
				}
				break
			}
		}
	}
}

func TestSQLForTheDBAOnSQLite(t *testing.T) {
	b := newSQLite(t, `create table by_uuid ("ID" text primary key, "Bot" text, "When" text)`)
	streams := []Config{{Type: "ByUUID", Table: "main.by_uuid", ID: "ID", Chatbot: "Bot", Created: "When", CreatedZone: time.UTC, Cursor: CursorCreated}}
	for _, text := range []string{GrantsSQL("sqlite", streams, "x"), TriggerSQL("sqlite", streams), IndexesSQL("sqlite", streams), IndexesSQL("sqlite", streams)} {
		b.exec(text)
	}
	findings, err := b.db.Check(b.ctx, streams[0])
	if err != nil || len(findings) != 1 || !strings.Contains(findings[0].Text, "within 1m0s") {
		t.Errorf("findings %v, %v; want the one of the cursor alone", findings, err)
	}
}

// Where an index serves a table with a condition and one without it, the condition is none of its own.
func TestIndexesOfChangesSayWhere(t *testing.T) {
	t.Parallel()
	stream := Config{Type: "Lead", Table: "leads", ID: "id", Chatbot: "chatbot_id", Created: "created_at", Updated: "updated_at", Deleted: "deleted_at"}
	want := `-- Run it as the tables' owner and outside a transaction: concurrently lets the application write meanwhile.
-- Stream Lead needs one of these; leadrelay check says which.
-- Where updated_at is NOT NULL and deleted_at is a truth value:
-- create index concurrently if not exists "leadrelay_leads_updated" on "leads" ("updated_at", "id");
-- Where deleted_at is a truth value:
-- create index concurrently if not exists "leadrelay_leads_changed" on "leads" ((greatest("updated_at", "created_at")), "id");
-- Else:
-- create index concurrently if not exists "leadrelay_leads_changed" on "leads" ((greatest("updated_at", "created_at", "deleted_at")), "id");
`
	if diff := cmp.Diff(want, IndexesSQL("postgres", []Config{stream})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	type test struct {
		name   string
		engine func(t testing.TB, schema ...string) *bench
		schema string
		change func(*Config)
		want   []string // parts of findings, "error …" or "warn …"
	}
	uuid := func(c *Config) { *c = smallLeads() }
	for _, test := range []test{
		{"nothing there", newPostgres, "", nil, []string{`error stream Lead: open: there is no table "leads"`}},
		{
			"columns missing", newPostgres, "create table leads (id bigserial primary key, email text)", nil,
			[]string{`error stream Lead: open: table "leads" has no columns "chatbot_id" (chatbot), "created_at" (created), "first_name" (field FirstName)`},
		},
		{
			"query's columns missing", newPostgres, pgLeads, func(c *Config) { uuid(c); c.Table, c.Query = "", "select id, email from leads" },
			[]string{`error stream Lead: open: the query gives no columns "chatbot_id" (chatbot), "created_at" (created), "first_name" (field FirstName)`},
		},
		{"bad query", newPostgres, pgLeads, func(c *Config) { c.Table, c.Query = "", "selec" }, []string{"error stream Lead: open: its query fails"}},
		{"bad where", newPostgres, pgLeads, func(c *Config) { c.Where = "statu = 1" }, []string{`error stream Lead: read the latest rows: pq: column "statu" does not exist`}},
		{"default", newPostgres, pgLeads, nil, []string{`warn stream Lead: user "postgres" is a superuser`}},
		{"no index", newPostgres, strings.Replace(pgLeads, "primary key", "", 1), nil, []string{"superuser", `warn stream Lead: no index serves its scans: each reads the whole table; create index concurrently if not exists "leadrelay_leads_gaps" on "leads" ("id");`}},
		{"no index, created", newPostgres, strings.SplitAfter(pgUUIDLeads, ";")[0], uuid, []string{"superuser", `create index concurrently if not exists "leadrelay_leads_created" on "leads" ("created_at", "id");`}},
		{"sequence", newPostgres, pgLeads + "; alter sequence leads_id_seq cache 20 cycle", nil, []string{"warn stream Lead: sequence public.leads_id_seq has CACHE 20", "cycles", "superuser"}},
		{"no sequence", newPostgres, strings.Replace(pgLeads, "bigserial", "bigint", 1), func(c *Config) { c.Cursor = CursorGaps }, []string{"warn stream Lead: no sequence feeds", "superuser"}},
		{"counts down", newPostgres, pgLeads + "; alter sequence leads_id_seq increment -1", func(c *Config) { c.Cursor = CursorGaps }, []string{"error stream Lead: open: cursor gaps needs ids that grow"}},
		{"gaps of text", newPostgres, pgUUIDLeads, func(c *Config) { uuid(c); c.Cursor = CursorGaps }, []string{`error stream Lead: open: cursor gaps needs an integer id, and column "id" is uuid`}},
		{"created is text", newPostgres, strings.Replace(pgUUIDLeads, "timestamptz", "text", 1), uuid, []string{"error stream Lead: open: cursor created needs a created column that is a time"}},
		{"no created", newPostgres, pgUUIDLeads, func(c *Config) { uuid(c); c.Created = "" }, []string{"that needs a created column"}},
		{"no zone", newPostgres, strings.Replace(pgLeads, "timestamptz", "timestamp", 1), nil, []string{"superuser", `warn stream Lead: "created_at" has no zone and is read as UTC: set created_zone`}},
		{"text without zone", newPostgres, strings.Replace(pgLeads, "timestamptz", "text", 1) + "; insert into leads (chatbot_id, created_at) values ('bot', '2024-01-01 10:00:00')", nil, []string{"superuser", "has times without a zone"}},
		{"text with zone", newPostgres, strings.Replace(pgLeads, "timestamptz", "text", 1) + "; insert into leads (chatbot_id, created_at) values ('bot', '2024-01-01 10:00:00Z')", nil, []string{"superuser"}},
		{"nobody", newPostgres, pgLeads + "; insert into leads (chatbot_id) values (null), ('bot')", nil, []string{"superuser", `warn stream Lead: 1 of its newest rows have no "chatbot_id"`}},
		{"undated", newPostgres, pgUUIDLeads + "; insert into leads (chatbot_id, created_at) values ('bot', null), ('bot', 'infinity')", uuid, []string{"superuser", "warn stream Lead: 2 rows have no time"}},
		{
			"settings", newPostgres, pgLeads, func(c *Config) { c.Cursor, c.Settle, c.Query, c.Chatbot = "fast", -1, "x", "" },
			[]string{"needs a table or a query", "names no chatbot column", `cursor "fast"`, "cannot be negative"},
		},
		{"sqlite", newSQLite, liteLeads + "; " + addLead, nil, []string{"has times without a zone"}},
		{"changes, no index", newPostgres, pgLeads + "; alter table leads add updated_at timestamptz", func(c *Config) { c.Updated = "updated_at" }, []string{"superuser", `each reads the whole table; create index concurrently if not exists "leadrelay_leads_changed" on "leads" ((greatest("updated_at", "created_at")), "id");`}},
		{"changes, no zone", newPostgres, pgLeads + "; alter table leads add updated_at timestamp not null default now(); create index on leads (updated_at, id)", func(c *Config) { c.Updated = "updated_at" }, []string{"superuser", `warn stream Lead: "updated_at" has no zone and is read as UTC: set created_zone`}},
		{"changes, whole seconds", newPostgres, pgLeads + "; alter table leads add updated_at timestamptz(0) not null default now(); create index on leads (updated_at, id); insert into leads (chatbot_id) select 'bot' from generate_series(1, 9)", func(c *Config) { c.Updated = "updated_at" }, []string{"superuser", `warn stream Lead: the times in "updated_at" are whole seconds`}},
		{"changes of a query", newPostgres, pgLeads + "; alter table leads add updated_at timestamptz", func(c *Config) { c.Updated, c.Table, c.Query = "updated_at", "", "select * from leads" }, []string{`each reads the whole query; index the columns behind "updated_at", "created_at", "id"`}},
		{"changes, sqlite", newSQLite, liteLeads + "; alter table leads add updated_at datetime", func(c *Config) { c.Updated = "updated_at" }, []string{`create index if not exists "leadrelay_leads_changed" on "leads" ((coalesce("updated_at", "created_at")), "id");`, `on SQLite changes are found that are committed within 1m0s of their time in "updated_at", "created_at"`}},
		{"sqlite, nothing there", newSQLite, "", nil, []string{`error stream Lead: open: there is no table "leads"`}},
		{"sqlite, reuses ids", newSQLite, strings.Replace(liteLeads, "autoincrement", "", 1), nil, []string{"is without AUTOINCREMENT"}},
		{"sqlite, ids far apart", newSQLite, liteLeads + "; with recursive c (n) as (select 1 union all select n + 1 from c where n < 50) insert into leads (id, chatbot_id, created_at) select n * 1000000, 'bot', 0 from c", nil, []string{`warn stream Lead: the values of "id" are far apart`}},
		{"sqlite, no index", newSQLite, strings.Replace(liteLeads, "integer primary key autoincrement", "text", 1), nil, []string{"no index serves its scans", "cursor created on SQLite"}},
		{"sqlite, bad column", newSQLite, strings.Replace(liteLeads, "email", "mail", 1), nil, []string{`table "leads" has no column "email" (field Email)`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var schema []string
			if test.schema != "" {
				schema = []string{test.schema}
			}
			b := test.engine(t, schema...)
			cfg := leads()
			if test.change != nil {
				test.change(&cfg)
			}
			findings, err := b.db.Check(b.ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, f := range findings {
				text := f.Level + " " + f.Text
				if i < len(test.want) && strings.Contains(text, test.want[i]) {
					text = test.want[i]
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckRights(t *testing.T) {
	b := newPostgres(t, pgLeads, "create schema locked; create table locked.leads (id int)", "create role newcomer login")
	t.Cleanup(func() {
		b.exec("drop owned by newcomer")
		b.exec("drop role newcomer")
	})
	db, err := Open(b.ctx, dsnAs(b.dsn, "newcomer"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cfg := leads()
	check := func(want ...string) {
		t.Helper()
		findings, err := db.Check(b.ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, f := range findings {
			text := f.Level + " " + f.Text
			if i < len(want) && strings.Contains(text, want[i]) {
				text = want[i]
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	check("permission denied for table leads (42501): see `leadrelay sql grants`")
	b.exec("grant select, insert on leads to newcomer")
	check("may not read sequence public.leads_id_seq", `warn stream Lead: user "newcomer" may change table "leads"; it needs SELECT only`)
	b.exec("revoke insert on leads from newcomer; grant select on leads_id_seq to newcomer")
	check()
	cfg.Table = "locked.leads"
	check("see `leadrelay sql grants`")
}
