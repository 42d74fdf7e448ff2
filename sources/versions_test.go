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
			again, err := s.Read(b.ctx, []string{"1", "2"})
			if err != nil {
				t.Fatal(err)
			}
			wantStory(t, "read again", again, "1 create 22:13:02.000000Z 1s", "2 remove 22:13:04.250000Z 1ms")
			older, err := s.Older(b.ctx, "", end, nil, time.Time{}, 10)
			if err != nil || len(older.Records) != 0 {
				t.Errorf("both rows changed, and %d are older, %v", len(older.Records), err)
			}
			if n, err := s.CountOlder(b.ctx, b.end(s), nil, time.Time{}); err != nil || n != 2 {
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
