package sources

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// explain is the plan of a statement as the planner would choose it now.
func (b *bench) explain(query string, args ...any) string {
	b.t.Helper()
	how := "explain (costs off) "
	if b.db.Engine() == "sqlite" {
		how = "explain query plan "
	}
	rows, err := b.app.Queryx(how+query, args...)
	if err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		columns, err := rows.SliceScan()
		if err != nil {
			b.t.Fatal(err)
		}
		last := columns[len(columns)-1]
		if text, ok := last.([]byte); ok {
			last = string(text)
		}
		fmt.Fprintln(&plan, last)
	}
	return plan.String()
}

// constantSeeks are the texts of a statement, not its parameters, at which SQLite begins to read an index: which bound of
// several it begins at its plans do not say, but its programs do.
func (b *bench) constantSeeks(query string, args ...any) (found []string) {
	b.t.Helper()
	rows, err := b.app.Queryx("explain "+query, args...)
	if err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	texts, seeks := map[int64]string{}, []int64{} // by register
	for rows.Next() {
		var addr, p1, p2, p3 int64
		var opcode string
		var p4, p5, comment any
		if err := rows.Scan(&addr, &opcode, &p1, &p2, &p3, &p4, &p5, &comment); err != nil {
			b.t.Fatal(err)
		}
		switch opcode {
		case "String8":
			texts[p2] = fmt.Sprint(p4)
		case "SeekGE", "SeekGT": // constants are put into their registers further down
			seeks = append(seeks, p3)
		}
	}
	if len(seeks) == 0 {
		b.t.Errorf("%s seeks nothing", query)
	}
	for _, register := range seeks {
		if text, ok := texts[register]; ok {
			found = append(found, text)
		}
	}
	return found
}

// With fifty thousand rows, every statement of a scan goes by an index.
func TestPlans(t *testing.T) {
	fill := map[string]string{
		"postgres": "insert into leads (chatbot_id, created_at) select 'bot', now() - n * interval '1 minute' from generate_series(50000, 1, -1) n",
		"sqlite":   "with recursive c (n) as (select 50000 union all select n - 1 from c where n > 1) insert into leads (chatbot_id, created_at) select 'bot', datetime('now', '-' || n || ' minutes') from c",
	}
	whole := regexp.MustCompile(`(?m)Seq Scan|^SCAN leads$|^\s*(->\s+)?Sort\s*$|TEMP B-TREE FOR ORDER BY`)
	found := regexp.MustCompile(`Seq Scan|TEMP B-TREE FOR ORDER BY`) // what is found may be sorted, and SQLite walk back a few rows
	gapsArgs := func(n int) []any {
		var seen, next pq.Int64Array
		for i := range int64(n) {
			seen, next = append(seen, 40000+i*3), append(next, 40002+i*3)
		}
		return []any{seen, next, 500}
	}
	for engine, open := range map[string]func(testing.TB, ...string) *bench{"postgres": newPostgres, "sqlite": newSQLite} {
		schema := map[string]string{"postgres": pgLeads, "sqlite": liteLeads}[engine]
		b := open(t, schema, "create index on_created on leads (created_at, id)", fill[engine], "analyze leads")
		gaps := b.stream(leads())
		cfg := leads()
		cfg.Cursor = CursorCreated
		created := b.stream(cfg)
		c, g := created.cursor.(*createdCursor), gaps.cursor.(*gapsCursor)
		avoid := func(bad *regexp.Regexp, name, query string, args ...any) {
			t.Helper()
			if plan := b.explain(query, args...); bad.MatchString(plan) {
				t.Errorf("%s, %s:\n%s\n%s", engine, name, query, plan)
			}
		}
		check := func(name, query string, args ...any) {
			t.Helper()
			avoid(whole, name, query, args...)
		}
		check("page", g.pageSQL, 49900, 500)
		check("page from the beginning", g.pageSQL, 0, 500)
		if g.tracks {
			avoid(found, "one gap", g.gapsSQL, gapsArgs(1)...)
			avoid(found, "a thousand gaps", g.gapsSQL, gapsArgs(1000)...)
		}
		st := g.olderStatement(20000, 49900, newFilter([]string{"bot"}, time.Time{}, time.Time{}), 500)
		check("older", st.sql(), st.args...)
		check("end", g.walkSQL+"5000", 50000)
		for _, s := range []*Stream{gaps, created} {
			condition, args := b.db.eng.byKey(s.shape, &s.cfg, []string{"1", "77", "40000"})
			check("read "+s.kind, s.selects(s.shape.key)+" where "+condition, args...)
			avoid(found, "latest "+s.kind, s.selects(s.shape.key)+" "+s.cursor.latest()+" limit 100")
		}
		regions := c.d.regions(time.Now().Add(-time.Hour))
		last := len(regions)
		st = c.statement(regions, &place{region: last}, filter{}, 500)
		check("created, from the mark", st.sql(), st.args...)
		at := &place{region: last, time: regions[last-1].low, key: "7"}
		if engine == "sqlite" {
			at.key = 7
		}
		st = c.statement(regions, at, filter{}, 500)
		check("created, on from a row", st.sql(), st.args...)
		if engine == "sqlite" {
			for _, at := range []*place{at, {region: last}} {
				st := c.statement(regions, at, filter{}, 500)
				if seeks := b.constantSeeks(st.sql(), st.args...); seeks != nil {
					t.Errorf("%s\nreads from %q on, not from where it was", st.sql(), seeks)
				}
			}
		}
		if engine == "postgres" {
			st = c.statement(regions, &place{}, filter{}, 500)
			avoid(found, "without a time", st.sql(), st.args...)
		}
	}
}

// With thousands of rows, a fifth of them changed, every statement of a scan for changes goes by the index that check
// names, and without that check names it.
func TestPlansOfChanges(t *testing.T) {
	t.Parallel()
	whole := regexp.MustCompile(`(?m)Seq Scan|^SCAN leads|TEMP B-TREE FOR ORDER BY`) // what is found may be sorted
	for _, test := range []struct {
		name, engine, id, updated, deleted string
		index                              string // the columns of it
	}{
		{"postgres, null until it changes", "postgres", "uuid default gen_random_uuid()", "timestamptz", "", `((greatest("updated_at", "created_at")), "id")`},
		{"postgres, never null", "postgres", "bigserial", "timestamptz not null default now()", "", `("updated_at", "id")`},
		{"postgres, never null, a flag", "postgres", "bigserial", "timestamptz not null default now()", "boolean", `("updated_at", "id")`},
		{"postgres, a time of deletion", "postgres", "bigserial", "timestamptz not null default now()", "timestamptz", `((greatest("updated_at", "created_at", "deleted_at")), "id")`},
		{"postgres, with and without a zone", "postgres", "bigserial", "timestamp", "date", `((greatest(("updated_at"::timestamp at time zone 'UTC'), "created_at", ("deleted_at"::timestamp at time zone 'UTC'))), "id")`},
		{"sqlite, null until it changes", "sqlite", "integer", "datetime", "", `((coalesce("updated_at", "created_at")), "id")`},
		{"sqlite, never null", "sqlite", "integer", "datetime not null default current_timestamp", "", `("updated_at", "id")`},
		{"sqlite, a time of deletion", "sqlite", "text default (lower(hex(randomblob(8))))", "text", "text", `((coalesce(case when typeof("deleted_at") in ('integer', 'real') and "deleted_at" >= 1e8 or typeof("deleted_at") = 'text' and "deleted_at" >= '0002-01-01' and "deleted_at" glob '` + dateGlob + `' then "deleted_at" end, "updated_at", "created_at")), "id")`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := smallLeads()
			cfg.Updated = "updated_at"
			gone := ""
			if test.deleted != "" {
				cfg.Deleted, gone = "deleted_at", ", deleted_at "+test.deleted
			}
			schema := "create table leads (id " + test.id + " primary key, chatbot_id text, created_at %s, updated_at " + test.updated + ", first_name text" + gone + ")"
			var b *bench
			if test.engine == "postgres" {
				b = newPostgres(t, fmt.Sprintf(schema, "timestamptz"),
					"insert into leads (chatbot_id, created_at) select 'bot', now() - n * interval '1 minute' from generate_series(20000, 1, -1) n",
					"update leads set updated_at = created_at + interval '1 hour' where left(first_name, 1) is null and extract(minute from created_at)::int % 5 = 0")
			} else {
				b = newSQLite(t, fmt.Sprintf(schema, "datetime"),
					"with recursive c (n) as (select 1500 union all select n - 1 from c where n > 1) insert into leads (chatbot_id, created_at) select 'bot', datetime('now', '-' || n || ' minutes') from c",
					"update leads set updated_at = datetime(created_at, '+1 hour') where rowid % 5 = 0")
			}
			findings, err := b.db.Check(b.ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			index := ""
			for _, f := range findings {
				if _, sql, ok := strings.Cut(f.Text, "each reads the whole table; "); ok {
					index = sql
				}
			}
			if !strings.HasSuffix(index, ` on "leads" `+test.index+";") {
				t.Fatalf("check wants the index %s, want one on %s", index, test.index)
			}
			if printed := IndexesSQL(test.engine, []Config{cfg}); !strings.Contains(printed, index) && !strings.Contains(test.name, "zone") {
				t.Errorf("sql indexes does not print %s:\n%s", index, printed)
			}
			b.exec(index)
			b.exec("analyze leads")
			if findings, err = b.db.Check(b.ctx, cfg); err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if strings.Contains(f.Text, "no index") {
					t.Error(f.Text)
				}
			}
			s := b.stream(cfg)
			c := s.cursor.(*createdCursor)
			check := func(name string, st *statement) {
				t.Helper()
				if plan := b.explain(st.sql(), st.args...); whole.MatchString(plan) {
					t.Errorf("%s:\n%s\n%s", name, st.sql(), plan)
				}
			}
			regions := c.d.regions(time.Now().Add(-time.Hour))
			last := len(regions)
			check("from the mark", c.statement(regions, &place{region: last}, filter{}, 500))
			page, err := s.After(b.ctx, "", 1)
			if err != nil || len(page.Records) != 1 {
				t.Fatal(len(page.Records), err)
			}
			if test.engine == "sqlite" {
				st := c.statement(regions, &place{region: last}, filter{}, 500)
				if seeks := b.constantSeeks(st.sql(), st.args...); seeks != nil {
					t.Errorf("%s\nreads from %q on, not from its mark", st.sql(), seeks)
				}
			}
			check("on from a row", c.statement(regions, &place{region: last, time: regions[last-1].low, key: page.Records[0].Row}, filter{}, 500))
			if test.engine == "postgres" {
				st := c.statement(regions, &place{}, filter{}, 500)
				if plan := b.explain(st.sql(), st.args...); strings.Contains(plan, "Seq Scan") {
					t.Errorf("without a time:\n%s\n%s", st.sql(), plan)
				}
			}
		})
	}
}

// benchmarkAfter reads a table of 100,000 rows in pages of 500.
func benchmarkAfter(b *testing.B, bench *bench, cfg Config, fill string) {
	bench.exec(fill)
	bench.exec("analyze leads")
	s := bench.stream(cfg)
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		at := jobs.Bookmark("")
		for {
			p, err := s.After(bench.ctx, at, 500)
			if err != nil {
				b.Fatal(err)
			}
			rows += len(p.Records)
			at = p.Bookmark
			if p.Drained {
				break
			}
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

const (
	pgFill = `insert into leads (chatbot_id, created_at, first_name, last_name, email, phone_number, content, session_id, uri)
		select 'bot' || n % 100, now() - n * interval '1 second', 'Ann', 'Smith', 'ann' || n || '@example.com', '', repeat('text ', 20), n, 'www.example.com'
		from generate_series(100000, 1, -1) n`
	liteFill = `with recursive c (n) as (select 100000 union all select n - 1 from c where n > 1)
		insert into leads (chatbot_id, created_at, first_name, last_name, email, phone_number, content, session_id, uri)
		select 'bot' || n % 100, datetime('now', '-' || n || ' seconds'), 'Ann', 'Smith', 'ann' || n || '@example.com', '', printf('%.100c', 'x'), n, 'www.example.com' from c`
)

func BenchmarkAfterPostgresGaps(b *testing.B) {
	benchmarkAfter(b, newPostgres(b, pgLeads+"; create index on leads (created_at, id)"), leads(), pgFill)
}

func BenchmarkAfterPostgresCreated(b *testing.B) {
	cfg := leads()
	cfg.Cursor = CursorCreated
	benchmarkAfter(b, newPostgres(b, pgLeads+"; create index on leads (created_at, id)"), cfg, pgFill)
}

func BenchmarkAfterSQLiteGaps(b *testing.B) {
	benchmarkAfter(b, newSQLite(b, liteLeads), leads(), liteFill)
}

func BenchmarkAfterSQLiteCreated(b *testing.B) {
	cfg := leads()
	cfg.Cursor = CursorCreated
	benchmarkAfter(b, newSQLite(b, liteLeads, "create index on_created on leads (created_at, id)"), cfg, liteFill)
}

// BenchmarkIdle is a scan that finds nothing, with a thousand young gaps.
func BenchmarkIdle(b *testing.B) {
	bench := newPostgres(b, pgLeads, "insert into leads (id, chatbot_id) select n * 2, 'bot' from generate_series(1, 1000) n; select setval('leads_id_seq', 2000); analyze leads")
	s := bench.stream(leads())
	at := jobs.Bookmark("")
	bench.drain(s, &at, 500)
	for b.Loop() {
		if _, err := s.After(bench.ctx, at, 500); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPast(b *testing.B) {
	for _, cursor := range []string{CursorGaps, CursorCreated} {
		b.Run(cursor, func(b *testing.B) {
			bench := newPostgres(b, pgLeads, "insert into leads (chatbot_id) select 'bot' from generate_series(1, 100) n")
			cfg := leads()
			cfg.Cursor = cursor
			s := bench.stream(cfg)
			end := bench.end(s)
			rec := jobs.Record{Row: "77", Created: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Past(end, &rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAfterChanges reads a table of 100,000 rows of which every third has changed, by the expression's index.
func BenchmarkAfterChanges(b *testing.B) {
	for engine, open := range map[string]func(testing.TB, ...string) *bench{"postgres": newPostgres, "sqlite": newSQLite} {
		b.Run(engine, func(b *testing.B) {
			cfg := leads()
			cfg.Updated = "updated_at"
			schema := map[string]string{"postgres": pgLeads, "sqlite": liteLeads}[engine]
			bench := open(b, schema, "alter table leads add updated_at "+map[string]string{"postgres": "timestamptz", "sqlite": "datetime"}[engine])
			findings, err := bench.db.Check(bench.ctx, cfg)
			if err != nil {
				b.Fatal(err)
			}
			for _, f := range findings {
				if _, index, ok := strings.Cut(f.Text, "whole table; "); ok {
					bench.exec(index)
				}
			}
			fill := map[string]string{"postgres": pgFill, "sqlite": liteFill}[engine]
			benchmarkAfter(b, bench, cfg, fill+"; update leads set updated_at = created_at where id % 3 = 0")
		})
	}
}
