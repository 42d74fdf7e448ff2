package sources

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // under -race a check of a model takes a third of a second
		if err := f.Value.Set("40"); err != nil {
			panic(err)
		}
	}
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A bench is a database with an application that writes and a Database that reads.
type bench struct {
	t   testing.TB
	ctx context.Context
	dsn string
	app *sqlx.DB // the application's
	db  *Database

	mu  sync.Mutex
	now time.Time // zero: the real clock
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.IsZero() {
		return time.Now()
	}
	return b.now
}

func (b *bench) setClock(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = t
}

func (b *bench) open() *bench {
	b.t.Helper()
	db, err := Open(b.ctx, b.dsn, Options{Now: b.clock})
	if err != nil {
		b.t.Fatal(err)
	}
	b.db = db
	b.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return b
}

// used are databases of tests that have ended, emptied: making a new one costs more than most tests.
var used struct {
	sync.Mutex
	dsns []string
}

const emptyDatabase = `do $$
declare
	name text;
begin
	for name in select nspname from pg_namespace where nspname !~ '^pg_|^information_schema$' loop
		execute format('drop schema %I cascade', name);
	end loop;
	create schema public;
	grant usage on schema public to public;
	execute format('alter database %I reset all', current_database());
end $$`

func newPostgres(t testing.TB, schema ...string) *bench {
	t.Helper()
	var dsn string
	used.Lock()
	if n := len(used.dsns); n > 0 {
		dsn, used.dsns = used.dsns[n-1], used.dsns[:n-1]
	}
	used.Unlock()
	if dsn == "" {
		dsn = pgtest.Database(t)
	}
	app, err := sqlx.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, ctx: context.Background(), dsn: dsn, app: app}
	t.Cleanup(func() {
		defer app.Close()
		if t.Failed() { // what it left open is unknown
			return
		}
		b.exec(emptyDatabase)
		used.Lock()
		defer used.Unlock()
		used.dsns = append(used.dsns, dsn)
	})
	for _, s := range schema {
		b.exec(s)
	}
	return b.open()
}

func newSQLite(t testing.TB, schema ...string) *bench {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	app, err := sqlx.Open("sqlite", "file:"+path+"?_journal_mode=WAL&_busy_timeout=5000&_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	b := &bench{t: t, ctx: context.Background(), dsn: "sqlite:" + path, app: app}
	b.exec("create table other (id integer)")
	for _, s := range schema {
		b.exec(s)
	}
	return b.open()
}

func (b *bench) exec(query string, args ...any) {
	b.t.Helper()
	if _, err := b.app.Exec(query, args...); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
}

// begin starts a transaction of the application.
func (b *bench) begin(statements ...string) *sql.Tx {
	b.t.Helper()
	tx, err := b.app.Begin()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := tx.Exec(s); err != nil {
			b.t.Fatalf("%s: %v", s, err)
		}
	}
	return tx
}

func (b *bench) stream(cfg Config) *Stream {
	b.t.Helper()
	s, err := b.db.Stream(b.ctx, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) end(s *Stream) jobs.Bookmark {
	b.t.Helper()
	mark, err := s.End(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return mark
}

// drain reads pages from at until none are left, and returns the keys in the order they came.
func (b *bench) drain(s *Stream, at *jobs.Bookmark, limit int) []string {
	b.t.Helper()
	return keysOf(b.records(s, at, limit))
}

func (b *bench) records(s *Stream, at *jobs.Bookmark, limit int) []jobs.Record {
	b.t.Helper()
	var all []jobs.Record
	for {
		p, err := s.After(b.ctx, *at, limit)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, p.Records...)
		*at = p.Bookmark
		if p.Drained {
			return all
		}
	}
}

// read reads rows again, all that are there.
func (b *bench) read(s *Stream, keys []string) (all []jobs.Record, err error) {
	for len(keys) > 0 && err == nil {
		var records []jobs.Record
		records, keys, err = s.Read(b.ctx, keys)
		all = append(all, records...)
	}
	return all, err
}

func keysOf(records []jobs.Record) []string {
	keys := []string{}
	for i := range records {
		keys = append(keys, records[i].Row)
	}
	return keys
}

func wantKeys(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

const (
	pgLeads = `create table leads (id bigserial primary key, chatbot_id text, created_at timestamptz default now(),
	first_name text, last_name text, email text, phone_number text, content text, session_id bigint, uri text)`
	liteLeads = `create table leads (id integer primary key autoincrement, chatbot_id text, created_at datetime default current_timestamp,
	first_name text, last_name text, email text, phone_number text, content text, session_id integer, uri text)`
	addLead = "insert into leads (chatbot_id, first_name) values ('bot', 'Ann')"
)

func leads() Config { return Defaults()[0] }

// uuidLeads are under the created cursor.
const pgUUIDLeads = `create table leads (id uuid primary key default gen_random_uuid(), n int, chatbot_id text,
	created_at timestamptz default now(), first_name text);
	create index on leads (created_at, id)`

func smallLeads() Config {
	return Config{
		Type: "Lead", Table: "leads", ID: "id", Chatbot: "chatbot_id", Created: "created_at",
		Fields: []Mapping{{Name: "FirstName", Column: "first_name"}},
	}
}

// dsnAs is a URL of pgtest's for another role.
func dsnAs(dsn, role string) string { return strings.Replace(dsn, "postgres@", role+"@", 1) }
