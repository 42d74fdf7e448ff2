package sources

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// A kept row is one of a table that keys are read from.
type kept struct {
	n                int
	created, updated time.Time // zero: NULL
	nobody, draft    bool
}

func (r *kept) stands(versioned bool) time.Time {
	if versioned && r.updated.After(r.created) {
		return r.updated
	}
	return r.created
}

// Each row of the window comes once, and so does each that has no time; whatever finds them, and however small the pages.
func TestKeys(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	var rows []kept
	for n := range 60 {
		r := kept{n: n + 1, created: now.Add(-time.Duration(n*n) * time.Hour / 4), nobody: n%17 == 3, draft: n%13 == 5}
		switch {
		case n%7 == 2:
			r.updated = now.Add(-time.Hour - time.Duration(n)*time.Minute)
		case n%19 == 4:
			r.created = time.Time{}
		}
		rows = append(rows, r)
	}
	rand.Shuffle(len(rows), func(i, j int) { rows[i].n, rows[j].n = rows[j].n, rows[i].n }) // ids say nothing of times
	since := now.Add(-72 * time.Hour)

	text := func(layout string) func(time.Time) any { return func(t time.Time) any { return t.Format(layout) } }
	stamp := text("2006-01-02 15:04:05.000000Z07:00")
	millis := func(t time.Time) any { return t.UnixMilli() }
	mixed := func(t time.Time) any {
		switch t.Hour() % 3 {
		case 0:
			return t.Unix()
		case 1:
			return t.UnixMilli()
		}
		return t.Format(time.RFC3339)
	}
	const uuid = "('00000000-0000-0000-0000-' || lpad(%d::text, 12, '0'))::uuid"
	byTime := "create index on leads (created_at)"
	liteByTime := "create index by_time on leads (created_at)"
	for _, test := range []struct {
		name, engine string
		id, typ      string
		key          string // of row n, in SQL
		created      func(time.Time) any
		index        string
		change       func(*Config)
		byTime       bool
	}{
		{name: "postgres, gaps", engine: "postgres", id: "bigserial", typ: "timestamptz"},
		{name: "postgres, gaps, with an index", engine: "postgres", id: "bigserial", typ: "timestamptz", index: byTime, byTime: true},
		{name: "postgres, gaps, times without a zone", engine: "postgres", id: "bigserial", typ: "timestamp", index: byTime, byTime: true},
		{name: "postgres, gaps, dates", engine: "postgres", id: "serial", typ: "date", index: byTime, byTime: true},
		{name: "postgres, gaps, texts", engine: "postgres", id: "bigserial", typ: "text", created: text(time.RFC3339Nano), index: byTime},
		{name: "postgres, gaps, no times", engine: "postgres", id: "bigserial", typ: "timestamptz", index: byTime, change: func(c *Config) { c.Created = "" }},
		{name: "postgres, a query", engine: "postgres", id: "bigint", typ: "timestamptz", index: byTime, byTime: true, change: func(c *Config) {
			c.Table, c.Query = "", "select l.*, 1 as one from leads l"
		}},
		{name: "postgres, UUIDs", engine: "postgres", id: "uuid", key: uuid, typ: "timestamptz"},
		{name: "postgres, UUIDs, with an index", engine: "postgres", id: "uuid", key: uuid, typ: "timestamptz", index: "create index on leads (created_at, id)", byTime: true},
		{name: "postgres, changes", engine: "postgres", id: "bigserial", typ: "timestamptz", change: func(c *Config) { c.Updated = "updated_at" }},
		{
			name: "postgres, changes, with an index", engine: "postgres", id: "bigserial", typ: "timestamptz", byTime: true,
			index: "create index on leads (greatest(updated_at, created_at), id)", change: func(c *Config) { c.Updated = "updated_at" },
		},
		{name: "sqlite, gaps", engine: "sqlite", id: "integer", typ: "datetime"},
		{name: "sqlite, gaps, with an index", engine: "sqlite", id: "integer", typ: "datetime", index: liteByTime, byTime: true},
		{name: "sqlite, gaps, numbers", engine: "sqlite", id: "integer", typ: "integer", created: millis, index: liteByTime, byTime: true},
		{name: "sqlite, gaps, all sorts", engine: "sqlite", id: "integer", typ: "", created: mixed, index: liteByTime, byTime: true},
		{name: "sqlite, gaps, all sorts, no index", engine: "sqlite", id: "integer", typ: "", created: mixed},
		{name: "sqlite, texts as ids", engine: "sqlite", id: "text", typ: "datetime", key: "'row ' || %d"},
		{name: "sqlite, texts as ids, with an index", engine: "sqlite", id: "text", typ: "datetime", key: "'row ' || %d", index: liteByTime, byTime: true},
		{
			name: "sqlite, changes, with an index", engine: "sqlite", id: "integer", typ: "datetime", byTime: true,
			index: "create index by_change on leads (coalesce(updated_at, created_at), id)", change: func(c *Config) { c.Updated = "updated_at" },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			open := map[string]func(testing.TB, ...string) *bench{"postgres": newPostgres, "sqlite": newSQLite}[test.engine]
			b := open(t, fmt.Sprintf("create table leads (id %s primary key, chatbot_id text, created_at %s, updated_at %[2]s, first_name text, status text)", test.id, test.typ))
			if test.index != "" {
				b.exec(test.index)
			}
			cfg := smallLeads()
			cfg.Where = "status <> 'draft'"
			if test.change != nil {
				test.change(&cfg)
			}
			if test.created == nil {
				test.created = stamp
			}
			if test.key == "" {
				test.key = "%d"
			}
			value := func(at time.Time) any {
				if at.IsZero() {
					return nil
				}
				return test.created(at)
			}
			var want []string
			for _, r := range rows {
				chatbot, status := any("bot"), "final"
				if r.nobody {
					chatbot = nil
				}
				if r.draft {
					status = "draft"
				}
				key := fmt.Sprintf(test.key, r.n)
				b.exec(b.app.Rebind("insert into leads (id, chatbot_id, created_at, updated_at, first_name, status) values ("+key+", ?, ?, ?, 'Ann', ?)"),
					chatbot, value(r.created), value(r.updated), status)
				at := r.stands(cfg.versioned())
				if test.typ == "date" {
					at = at.Truncate(24 * time.Hour)
				}
				if !r.nobody && !r.draft && (cfg.Created == "" || at.IsZero() || !at.Before(since)) {
					var text string
					if err := b.app.Get(&text, "select cast("+key+" as text)"); err != nil {
						t.Fatal(err)
					}
					want = append(want, text)
				}
			}
			slices.Sort(want)
			s := b.stream(cfg)
			for _, limit := range []int{1, 7, 1000} {
				keys := s.Keys(since).(*keysScan)
				got := drainKeys(t, keys, limit)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%d at once (-want +got):\n%s", limit, diff)
				}
				if keys.byTime != test.byTime {
					t.Errorf("rows are found by their times: %v", keys.byTime)
				}
			}
		})
	}
}

// drainKeys reads all keys, and gives them sorted.
func drainKeys(t *testing.T, keys jobs.Keys, limit int) (got []string) {
	t.Helper()
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for n := 0; ; n++ {
		if n == 2 && limit == 1 { // it goes on where it was
			if _, err := keys.Next(stopped, limit); !errors.Is(err, context.Canceled) {
				t.Fatalf("a read that was called off: %v", err)
			}
		}
		page, err := keys.Next(context.Background(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if len(page) > limit {
			t.Fatalf("%d rows at once, want at most %d", len(page), limit)
		}
		for _, rec := range page {
			if len(rec.Fields) > 0 || rec.Chatbot != "bot" || rec.Type != "Lead" {
				t.Fatalf("a key is %+v", rec)
			}
			got = append(got, rec.Row)
		}
	}
	slices.Sort(got)
	return got
}

// What check and `sql indexes` say of the index that keys are read by.
func TestIndexOfKeys(t *testing.T) {
	t.Parallel()
	for engine, open := range map[string]func(testing.TB, ...string) *bench{"postgres": newPostgres, "sqlite": newSQLite} {
		schema := map[string]string{"postgres": pgLeads, "sqlite": liteLeads}[engine]
		fill := map[string]string{
			"postgres": "insert into leads (chatbot_id) select 'bot' from generate_series(1, %d) n",
			"sqlite":   "with recursive c (n) as (select %d union all select n - 1 from c where n > 1) insert into leads (chatbot_id) select 'bot' from c",
		}[engine]
		b := open(t, schema, fmt.Sprintf(fill, 2000))
		said := func() (index string) {
			t.Helper()
			findings, err := b.db.Check(b.ctx, leads())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if _, sql, ok := strings.Cut(f.Text, "reconcile reads the whole table; "); ok {
					index = sql
				}
			}
			return index
		}
		if index := said(); index != "" {
			t.Errorf("%s: of a small table check says %s", engine, index)
		}
		b.exec(fmt.Sprintf(fill, sampleRows))
		index := said()
		if !strings.HasSuffix(index, ` on "leads" ("created_at", "id");`) {
			t.Fatalf("%s: check wants the index %q", engine, index)
		}
		if printed := IndexesSQL(engine, []Config{leads()}); !strings.Contains(printed, "\n-- "+index+"\n") {
			t.Errorf("%s: sql indexes does not print %s:\n%s", engine, index, printed)
		}
		b.exec(index)
		if index := said(); index != "" {
			t.Errorf("%s: with the index check says %s", engine, index)
		}
	}
}
