package sources

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// appointments are rows that change. updated_at is NULL until they first do.
const (
	pgAppointments = `create table appointments (id bigserial primary key, chatbot_id text, created_at timestamptz default now(),
	updated_at timestamptz, deleted_at timestamptz, status text, content text);
	create index on appointments ((greatest(updated_at, created_at, deleted_at)), id)`
	liteAppointments = `create table appointments (id integer primary key autoincrement, chatbot_id text, created_at datetime,
	updated_at datetime, deleted_at datetime, status text, content text)`
	addAppointment = "insert into appointments (chatbot_id, content) values ('bot', 'Ann') returning id"
)

func appointments() Config {
	return Config{
		Type: "Appointment", Table: "appointments", ID: "id", Chatbot: "chatbot_id", Created: "created_at", Updated: "updated_at", Deleted: "deleted_at",
		Fields: []Mapping{{Name: "Content", Column: "content"}},
	}
}

// story tells records in short: row, action, version but for its date, and how long it is held.
func story(records []jobs.Record) []string {
	told := []string{}
	for i := range records {
		r := &records[i]
		line := r.Row + " " + r.Action
		if r.Version != "" {
			line += " " + strings.TrimPrefix(r.Version, "2023-11-14T")
		}
		if r.Hold > 0 {
			line += " " + r.Hold.String()
		}
		told = append(told, line)
	}
	slices.Sort(told)
	return told
}

func wantStory(t testing.TB, what string, got []jobs.Record, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, story(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// at0 is when the tests with a set clock play.
var at0 = time.Date(2023, 11, 14, 22, 13, 0, 0, time.UTC)

// A row comes once for each change, whatever its columns are.
func TestVersions(t *testing.T) {
	t.Parallel()
	clock := func(second string) string { return "'2023-11-14 22:13:" + second + "+00:00'" }
	for _, test := range []struct {
		name   string
		engine func(t testing.TB, schema ...string) *bench
		schema string
		change func(*Config)
	}{
		{"postgres", newPostgres, pgAppointments, nil},
		{"postgres, a query", newPostgres, pgAppointments, func(c *Config) { c.Table, c.Query = "", "select * from appointments" }},
		{"postgres, without a zone", newPostgres, strings.ReplaceAll(pgAppointments, "timestamptz", "timestamp"), nil},
		{"postgres, mixed", newPostgres, strings.Replace(strings.Split(pgAppointments, ";")[0], "updated_at timestamptz", "updated_at timestamp", 1), nil},
		{"postgres, not null", newPostgres, strings.Replace(pgAppointments, "updated_at timestamptz", "updated_at timestamptz not null default '2023-11-14 22:13:01.5+00'", 1), nil},
		{"sqlite", newSQLite, liteAppointments, nil},
		{"sqlite, a query", newSQLite, liteAppointments, func(c *Config) { c.Table, c.Query = "", "select * from appointments" }},
		{"sqlite, text", newSQLite, strings.ReplaceAll(liteAppointments, "datetime", "text"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := test.engine(t, test.schema)
			b.setClock(at0)
			cfg := appointments()
			if test.change != nil {
				test.change(&cfg)
			}
			cfg.Lookback = 10 * 365 * 24 * time.Hour // PostgreSQL's clock is another
			s := b.stream(cfg)
			if !s.Versioned() || s.Cursor() != CursorCreated {
				t.Errorf("versioned %v, cursor %s", s.Versioned(), s.Cursor())
			}
			at := b.end(s)
			first := at
			b.exec("insert into appointments (chatbot_id, created_at) values ('bot', " + clock("01.5") + ")")
			b.exec("insert into appointments (chatbot_id, created_at) values ('bot', " + clock("01.5") + ")")
			wantStory(t, "new", b.records(s, &at, 1), "1 create 22:13:01.500000Z 1ms", "2 create 22:13:01.500000Z 1ms")
			b.exec("update appointments set updated_at = " + clock("03.000001") + " where id = 1")
			recs := b.records(s, &at, 1)
			wantStory(t, "changed", recs, "1 create 22:13:03.000001Z")
			if want := at0.Add(3*time.Second + time.Microsecond); !recs[0].Updated.Equal(want) || !recs[0].Created.Equal(at0.Add(1500*time.Millisecond)) {
				t.Errorf("created %v, updated %v", recs[0].Created, recs[0].Updated)
			}
			end := b.end(s)
			b.exec("update appointments set updated_at = " + clock("02") + " where id = 1") // one that began before
			recs = b.records(s, &at, 1)
			wantStory(t, "changed by one that began before", recs, "1 create 22:13:02.000000Z 1s")
			if past, err := s.Past(end, &recs[0]); !past || err != nil {
				t.Errorf("a changed row is past the position before: %v, %v", past, err)
			}
			b.exec("update appointments set deleted_at = " + clock("04.25") + " where id = 2")
			recs = b.records(s, &at, 1)
			wantStory(t, "deleted", recs, "2 remove 22:13:04.250000Z 1ms")
			wantStory(t, "each once", b.records(s, &at, 1))
			again, err := b.read(s, []string{"1", "2"})
			if err != nil {
				t.Fatal(err)
			}
			wantStory(t, "read again", again, "1 create 22:13:02.000000Z 1s", "2 remove 22:13:04.250000Z 1ms")
			older, err := s.Older(b.ctx, "", end, nil, time.Time{}, time.Time{}, 10)
			if err != nil || len(older.Records) != 0 {
				t.Errorf("both rows changed, and %d are older, %v", len(older.Records), err)
			}
			if n, err := s.CountOlder(b.ctx, b.end(s), nil, time.Time{}, time.Time{}); err != nil || n != 2 {
				t.Errorf("%d rows are older than the end, %v", n, err)
			}
			b.exec("update appointments set deleted_at = null, updated_at = " + clock("05.1") + " where id = 2")
			wantStory(t, "there again", b.records(s, &at, 1), "2 create 22:13:05.100000Z 1ms")
			wantStory(t, "from the first position", b.records(s, &first, 1), "1 create 22:13:02.000000Z 1s", "2 create 22:13:05.100000Z 1ms")
		})
	}
}

// What marks a row as deleted, of each kind. Where it is no time, updated tells of the change.
func TestDeleted(t *testing.T) {
	t.Parallel()
	type test struct {
		typ      string
		not, yes []string
	}
	for engine, tests := range map[string][]test{
		"postgres": {
			{"boolean", []string{"null", "false"}, []string{"true"}},
			{"boolean not null default false", []string{"false"}, []string{"true"}},
			{"int", []string{"null", "0"}, []string{"1", "-1"}},
			{"numeric(3,1)", []string{"null", "0"}, []string{"1"}},
			{"text", []string{"null", "''", "'false'", "'0'"}, []string{"'yes'", "'2023-11-14 22:13:03'", "'1'"}},
			{"timestamptz", []string{"null"}, []string{"'2023-11-14 22:13:05Z'"}},
			{"timestamp", []string{"null", "'0001-01-01'"}, []string{"'2023-11-14 22:13:05'"}},
			{"date", []string{"null"}, []string{"'2023-11-14'"}},
			{"uuid", []string{"null"}, []string{"gen_random_uuid()"}},
		},
		"sqlite": {
			{"boolean", []string{"null", "false", "0", "''"}, []string{"true", "1"}},
			{"integer", []string{"null", "0"}, []string{"1", "1700000000", "1700000000000"}},
			{"text", []string{"null", "''", "'0'", "'false'", "'0000-00-00 00:00:00'"}, []string{"'yes'", "'2023-11-14 22:13:05'", "'2023-11-14T22:13:05Z'", "'1'"}},
			{"datetime", []string{"null", "''", "0", "'0001-01-01 00:00:00+00:00'"}, []string{"'2023-11-14 22:13:05'", "1700000000", "1.7e9"}},
			{"", []string{"null", "0.0"}, []string{"x'00'", "0.5"}},
		},
	} {
		for _, test := range tests {
			t.Run(engine+" "+test.typ, func(t *testing.T) {
				t.Parallel()
				var b *bench
				if engine == "sqlite" {
					b = newSQLite(t, "create table appointments (id integer primary key, chatbot_id text, created_at text, updated_at text, gone "+test.typ+", content text)")
				} else {
					b = newPostgres(t, "create table appointments (id bigserial primary key, chatbot_id text, created_at timestamptz, updated_at timestamptz, gone "+test.typ+", content text)")
				}
				b.setClock(at0)
				cfg := appointments()
				cfg.Deleted, cfg.Lookback = "gone", 10*365*24*time.Hour
				s := b.stream(cfg)
				at := b.end(s)
				want := map[string]string{}
				id := 0
				for _, action := range []string{jobs.ActionCreate, jobs.ActionRemove} {
					for _, value := range map[string][]string{jobs.ActionCreate: test.not, jobs.ActionRemove: test.yes}[action] {
						id++
						b.exec(fmt.Sprintf("insert into appointments (id, chatbot_id, created_at, gone) values (%d, 'bot', '2023-11-14 22:13:00+00:00', %s)", id, value))
						want[fmt.Sprint(id)] = action
					}
				}
				actions := func(records []jobs.Record) map[string]string {
					got := map[string]string{}
					for _, r := range records {
						got[r.Row] = r.Action
						if r.Err != nil || r.Version == "" {
							t.Errorf("row %s: version %q, %v", r.Row, r.Version, r.Err)
						}
					}
					return got
				}
				if diff := cmp.Diff(want, actions(b.records(s, &at, 3))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				wantStory(t, "each once", b.records(s, &at, 3))
				// Marked, and marked no more, in the same second: the time may stay.
				for i := range want {
					want[i] = jobs.ActionRemove
				}
				b.exec("update appointments set gone = " + test.yes[0])
				got := b.records(s, &at, 3)
				for row, action := range actions(got) {
					if action != want[row] {
						t.Errorf("row %s: %s", row, action)
					}
				}
				if len(actions(got)) < len(test.not) {
					t.Errorf("%d rows came when %d were deleted", len(got), len(test.not))
				}
			})
		}
	}
}

// Whatever types the columns have, a change that commits late is found, and each comes once.
func TestVersionsTypes(t *testing.T) {
	t.Parallel()
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ created, updated, deleted string }{
		{"timestamptz", "timestamptz", "timestamptz"},
		{"timestamp", "timestamp", "timestamp"},
		{"timestamptz", "timestamp", "date"},
		{"timestamp", "timestamptz", "timestamp"},
		{"date", "timestamptz", "timestamptz"},
		{"date", "timestamp(0)", "date"},
		{"timestamptz", "timestamptz not null default now()", "boolean"},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			b := newPostgres(t, fmt.Sprintf("create table appointments (id bigserial primary key, chatbot_id text, created_at %s, updated_at %s, deleted_at %s, content text)", test.created, test.updated, test.deleted))
			b.exec("alter database " + b.dsn[strings.LastIndexByte(b.dsn, '/')+1:strings.IndexByte(b.dsn, '?')] + " set timezone to 'Asia/Tokyo'")
			now := func(typ string) string {
				if strings.HasPrefix(typ, "timestamptz") {
					return "now()"
				}
				if typ == "boolean" {
					return "true, updated_at = now()"
				}
				return "now() at time zone 'Europe/Prague'"
			}
			cfg := appointments()
			cfg.CreatedZone = prague
			s := b.stream(cfg)
			at := b.end(s)
			insert := "insert into appointments (chatbot_id, created_at) values ('bot', " + now(test.created) + ")"
			late := b.begin(insert)
			b.exec(insert)
			b.exec(insert)
			wantKeys(t, "committed", sorted(keysOf(b.records(s, &at, 1))), "2", "3")
			if err := late.Commit(); err != nil {
				t.Fatal(err)
			}
			wantKeys(t, "late", b.drain(s, &at, 1), "1")
			time.Sleep(1100 * time.Millisecond) // another version, also where seconds are whole
			late = b.begin("update appointments set updated_at = "+now(test.updated)+" where id = 1", "update appointments set deleted_at = "+now(test.deleted)+" where id = 2")
			b.exec("update appointments set updated_at = " + now(test.updated) + " where id = 3")
			recs := b.records(s, &at, 1)
			wantKeys(t, "changed", keysOf(recs), "3")
			if age := time.Since(recs[0].Updated); age < -2*time.Second || age > time.Minute {
				t.Errorf("changed %s ago", age)
			}
			if lag, err := s.Lag(b.ctx, at); err != nil || lag != 0 {
				t.Errorf("lag %v, %v", lag, err)
			}
			if err := late.Commit(); err != nil {
				t.Fatal(err)
			}
			if lag, err := s.Lag(b.ctx, at); err != nil || lag <= 0 || lag > 26*time.Hour {
				t.Errorf("lag %v, %v", lag, err)
			}
			recs = b.records(s, &at, 1)
			wantKeys(t, "changed late", sorted(keysOf(recs)), "1", "2")
			for _, r := range recs {
				if want := map[string]string{"1": jobs.ActionCreate, "2": jobs.ActionRemove}[r.Row]; r.Action != want {
					t.Errorf("row %s: %s", r.Row, r.Action)
				}
			}
			wantKeys(t, "each once", b.drain(s, &at, 1))
		})
	}
}

// A pass that was stopped in the middle goes on in another process, beside edits of rows that it has passed and of such
// that it has not.
func TestVersionsRestart(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, pgAppointments, "insert into appointments (chatbot_id, created_at) select 'bot', now() - n * interval '1 second' from generate_series(1, 40) n"),
		"sqlite":   newSQLite(t, liteAppointments, "with recursive c (n) as (select 1 union all select n + 1 from c where n < 40) insert into appointments (chatbot_id, created_at) select 'bot', datetime('now', '-' || n || ' seconds') from c"),
	} {
		now := map[string]string{"postgres": "now()", "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')"}[name]
		s := b.stream(appointments())
		p, err := s.After(b.ctx, "", 10)
		if err != nil || len(p.Records) != 10 || p.Drained {
			t.Fatalf("%s: %d records, %v", name, len(p.Records), err)
		}
		passed, ahead := p.Records[3].Row, "1" // the newest is the last
		b.exec("update appointments set content = 'edited', updated_at = " + now + " where id in (" + passed + ", " + ahead + ")")
		s = b.stream(appointments())
		at := p.Bookmark
		got := map[string]int{}
		for _, rec := range append(p.Records, append(b.records(s, &at, 10), b.records(s, &at, 10)...)...) {
			got[rec.Row]++
			if rec.Row == ahead && rec.Field("Content") != "edited" {
				t.Errorf("%s: row %s came as it was", name, ahead)
			}
		}
		for row, n := range got {
			if want := map[bool]int{true: 2, false: 1}[row == passed]; n != want {
				t.Errorf("%s: row %s came %d times, want %d", name, row, n, want)
			}
		}
		if len(got) != 40 {
			t.Errorf("%s: %d rows of 40", name, len(got))
		}
	}
}

// A row that comes to match `where` when it changes is found; one that matches no more is read by its key alone.
func TestVersionsWhere(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, pgAppointments),
		"sqlite":   newSQLite(t, liteAppointments),
	} {
		now := map[string]string{"postgres": "now()", "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')"}[name]
		cfg := appointments()
		cfg.Where = "status = 'booked'"
		s := b.stream(cfg)
		at := b.end(s)
		b.exec("insert into appointments (chatbot_id, created_at, status) values ('bot', " + now + ", 'draft'), ('bot', " + now + ", 'booked'), ('bot', null, 'draft')")
		wantKeys(t, name+", booked", b.drain(s, &at, 10), "2")
		end := b.end(s)
		b.exec("update appointments set status = 'booked', updated_at = " + now + " where id = 1")
		b.exec("update appointments set status = 'draft', updated_at = " + now + " where id = 2")
		b.exec("update appointments set status = 'booked', updated_at = " + now + " where id = 3")
		recs := b.records(s, &at, 10)
		wantKeys(t, name+", booked later", sorted(keysOf(recs)), "1", "3")
		for i := range recs {
			if past, err := s.Past(end, &recs[i]); !past || err != nil {
				t.Errorf("%s: row %s is past: %v, %v", name, recs[i].Row, past, err)
			}
		}
		again, err := b.read(s, []string{"2"})
		if err != nil || len(again) != 1 || again[0].Version <= recs[0].Version[:17] || again[0].Updated.IsZero() {
			t.Errorf("%s: read again %v, %v", name, again, err)
		}
		// Another condition finds what changes from then on.
		cfg.Where = "status = 'draft'"
		s = b.stream(cfg)
		b.exec("update appointments set updated_at = " + now + ", content = 'again' where id = 2")
		if got := b.drain(s, &at, 10); !slices.Contains(got, "2") {
			t.Errorf("%s: another condition found %v", name, got)
		}
	}
}

func TestVersionsConfig(t *testing.T) {
	t.Parallel()
	plain := "create table appointments (id bigserial primary key, chatbot_id text, created_at timestamptz, updated_at %s, deleted_at %s, content text)"
	for _, test := range []struct {
		name, updated, deleted string
		change                 func(*Config)
		want                   string
	}{
		{"gaps", "timestamptz", "timestamptz", func(c *Config) { c.Cursor = CursorGaps }, "cursor gaps finds new rows only; leave it out beside updated and deleted"},
		{"deleted alone", "timestamptz", "timestamptz", func(c *Config) { c.Created, c.Updated = "", "" }, "deleted needs a created or an updated column"},
		{"text", "text", "timestamptz", nil, `when a row changed is told by times, and column "updated_at" is text: cast it in a query`},
		{"a date", "date", "timestamptz", nil, `column "updated_at" (updated) is a date`},
		{"a flag alone", "timestamptz", "boolean", func(c *Config) { c.Updated = "" }, `column "deleted_at" (deleted) is bool, which does not say when`},
		{"missing", "timestamptz", "boolean", func(c *Config) { c.Updated, c.Deleted = "changed_at", "gone" }, `has no columns "changed_at" (updated), "gone" (deleted)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newPostgres(t, fmt.Sprintf(plain, test.updated, test.deleted))
			cfg := appointments()
			if test.change != nil {
				test.change(&cfg)
			}
			if _, err := b.db.Stream(b.ctx, cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %s", err, test.want)
			}
		})
	}
	lite := newSQLite(t, "create table appointments (id integer primary key, chatbot_id text, created_at text, deleted bool, content text)")
	cfg := appointments()
	cfg.Updated, cfg.Deleted = "", "deleted"
	if _, err := lite.db.Stream(lite.ctx, cfg); err == nil || !strings.Contains(err.Error(), `column "deleted" (deleted) is bool, which does not say when`) {
		t.Errorf("sqlite: error %v", err)
	}
}

// A bookmark of other columns would be wrong.
func TestVersionsDefinition(t *testing.T) {
	t.Parallel()
	b := newPostgres(t, pgAppointments)
	seen := map[string]string{}
	for name, change := range map[string]func(*Config){
		"gaps":            func(c *Config) { c.Updated, c.Deleted = "", "" },
		"created":         func(c *Config) { c.Updated, c.Deleted, c.Cursor = "", "", CursorCreated },
		"updated":         func(c *Config) { c.Deleted = "" },
		"deleted":         func(c *Config) { c.Updated = "" },
		"both":            func(*Config) {},
		"others":          func(c *Config) { c.Updated, c.Deleted = c.Deleted, c.Updated },
		"without created": func(c *Config) { c.Created = "" },
	} {
		cfg := appointments()
		change(&cfg)
		d := b.stream(cfg).Definition()
		if other := seen[d]; other != "" {
			t.Errorf("%s and %s have one definition: %s", name, other, d)
		}
		seen[d] = name
	}
	if seen["postgres created appointments id created_at"] == "" {
		t.Errorf("a stream without versions is defined as it was before there were any: %v", seen)
	}
}
