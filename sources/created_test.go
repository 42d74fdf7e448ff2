package sources

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// addUUID is a lead whose id is its number, so that tests can name it.
func addUUID(n int) string {
	return fmt.Sprintf("insert into leads (id, n, chatbot_id) values ('00000000-0000-0000-0000-%012d', %d, 'bot')", n, n)
}

func numbers(keys []string) []string {
	for i, k := range keys {
		keys[i] = strings.TrimLeft(k, "0-")
	}
	return keys
}

func TestCreatedLateCommit(t *testing.T) {
	b := newPostgres(t, pgUUIDLeads)
	s := b.stream(smallLeads())
	if s.Cursor() != CursorCreated {
		t.Fatalf("cursor %s for a uuid", s.Cursor())
	}
	at := b.end(s)
	late := b.begin(addUUID(1))
	b.exec(addUUID(2))
	wantKeys(t, "committed", numbers(b.drain(s, &at, 100)), "2")
	end := b.end(s)
	wantKeys(t, "each once", b.drain(s, &at, 100))
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.exec(addUUID(3))
	wantKeys(t, "late and new", numbers(b.drain(s, &at, 100)), "1", "3")
	wantKeys(t, "each once", b.drain(s, &at, 100))
	until := end
	recs := b.records(s, &end, 1)
	wantKeys(t, "behind the end", numbers(keysOf(recs)), "1", "3")
	for i := range recs {
		if past, err := s.Past(until, &recs[i]); err != nil || !past {
			t.Errorf("Past(%s) = %v, %v", recs[i].Row, past, err)
		}
	}
	older, err := s.Older(b.ctx, "", until, nil, time.Time{}, time.Time{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "visible at the end", numbers(keysOf(older.Records)), "2")
	if past, err := s.Past(until, &older.Records[0]); err != nil || past {
		t.Errorf("Past(%s) = %v, %v", older.Records[0].Row, past, err)
	}
}

// Among rows of one creation time, and among those without any, the key decides; as a number where it is one.
func TestCreatedTiesOfNumbers(t *testing.T) {
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, "create table leads (id bigint primary key, chatbot_id text, created_at timestamptz, first_name text)",
			"insert into leads (id, chatbot_id, created_at) select n, 'bot', case when n % 2 = 0 then now() end from generate_series(-150, 150) n"),
		"sqlite": newSQLite(t, "create table leads (id bigint primary key, chatbot_id text, created_at datetime, first_name text)",
			"with recursive c (n) as (select -150 union all select n + 1 from c where n < 150) insert into leads (id, chatbot_id, created_at) select n, 'bot', case when n % 2 = 0 then current_timestamp end from c"),
	} {
		cfg := smallLeads()
		cfg.Cursor = CursorCreated
		s := b.stream(cfg)
		var want []string
		for n := -150; n <= 150; n++ {
			want = append(want, strconv.Itoa(n))
		}
		at := jobs.Bookmark("")
		wantKeys(t, name+", new", sorted(b.drain(s, &at, 7)), sorted(want)...)
		var got []string
		end := b.end(s)
		for at, drained := jobs.Bookmark(""), false; !drained; {
			p, err := s.Older(b.ctx, at, end, nil, time.Time{}, time.Time{}, 7)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, keysOf(p.Records)...)
			at, drained = p.Bookmark, p.Drained
		}
		wantKeys(t, name+", older", sorted(got), want...)
	}
}

// One transaction's rows all have the same creation time.
func TestCreatedTies(t *testing.T) {
	for _, where := range []string{"", "n % 2 = 0"} {
		b := newPostgres(t, pgUUIDLeads)
		cfg := smallLeads()
		cfg.Where = where
		s := b.stream(cfg)
		want := 1000
		if where != "" {
			want = 500
		}
		insert := "insert into leads (n, chatbot_id) select n, 'bot' from generate_series(1, 1000) n"
		b.exec(insert)
		old := jobs.Bookmark("")
		seen := map[string]bool{}
		for _, k := range b.drain(s, &old, 7) {
			seen[k] = true
		}
		if len(seen) != want {
			t.Errorf("from the beginning: %d rows, want %d", len(seen), want)
		}
		until := b.end(s)
		n, err := s.CountOlder(b.ctx, until, []string{"bot"}, time.Time{}, time.Time{})
		if err != nil || n != want {
			t.Errorf("CountOlder = %d, %v; want %d", n, err, want)
		}
		b.exec(insert)
		if got := b.drain(s, &old, 7); len(got) != want {
			t.Errorf("%d more rows, want %d", len(got), want)
		}
		if n, err := s.CountOlder(b.ctx, until, nil, time.Time{}, time.Time{}); err != nil || n != want {
			t.Errorf("CountOlder = %d, %v; want %d still", n, err, want)
		}
	}
}

func TestCreatedNull(t *testing.T) {
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, pgUUIDLeads),
		"sqlite":   newSQLite(t, "create table leads (id text primary key, n int, chatbot_id text, created_at datetime default current_timestamp, first_name text)"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			b.setClock(start)
			s := b.stream(smallLeads())
			null := func(n int) string {
				return strings.Replace(strings.Replace(addUUID(n), "n, chatbot_id", "n, created_at, chatbot_id", 1), ", 'bot'", ", null, 'bot'", 1)
			}
			b.exec(null(1))
			at := b.end(s)
			b.exec(null(2))
			b.exec(null(3))
			b.exec(null(4))
			recs := b.records(s, &at, 2)
			wantKeys(t, "rows without a time", sorted(numbers(keysOf(recs))), "2", "3", "4")
			wantKeys(t, "each once", b.drain(s, &at, 2))
			end := b.end(s)
			if past, err := s.Past(end, &recs[0]); past || err != nil {
				t.Errorf("Past of a row without a time that was seen: %v, %v", past, err)
			}
			b.exec(null(5))
			b.setClock(start.Add(undatedEvery))
			recs = b.records(s, &at, 2)
			wantKeys(t, "a later one", numbers(keysOf(recs)), "5")
			if past, err := s.Past(end, &recs[0]); !past || err != nil {
				t.Errorf("Past of a row without a time that came later: %v, %v", past, err)
			}
			if n, err := s.CountOlder(b.ctx, end, nil, start, time.Time{}); n != 4 || err != nil {
				t.Errorf("CountOlder = %d, %v; want 4: they have no age", n, err)
			}
		})
	}
}

func TestCreatedPrepared(t *testing.T) {
	b := newPostgres(t, pgUUIDLeads)
	s := b.stream(smallLeads())
	at := b.end(s)
	tx := b.begin(addUUID(1))
	b.exec(addUUID(2))
	wantKeys(t, "committed", numbers(b.drain(s, &at, 100)), "2")
	if _, err := tx.Exec("prepare transaction 'p'"); err != nil {
		t.Fatal(err)
	}
	_ = tx.Rollback() // of nothing
	wantKeys(t, "nothing new", b.drain(s, &at, 100))
	other := b.stream(smallLeads()) // a process that knows only the bookmark
	m, err := parseCreatedMark(at)
	if err != nil {
		t.Fatal(err)
	}
	copied := at
	wantKeys(t, "nothing new", b.drain(other, &copied, 100))
	if got, _ := parseCreatedMark(copied); got.low.After(m.low) {
		t.Errorf("a prepared transaction let the mark pass from %s to %s", m.low, got.low)
	}
	b.exec("commit prepared 'p'")
	wantKeys(t, "the prepared one", numbers(b.drain(s, &at, 100)), "1")
	wantKeys(t, "the prepared one, for the other", numbers(b.drain(other, &copied, 100)), "1")
}

func TestPreparedBounds(t *testing.T) {
	sec := func(n int) time.Time { return time.Unix(int64(n), 0) }
	var p prepareds
	check := func(what string, got time.Time, want int) {
		t.Helper()
		if !got.Equal(sec(want)) {
			t.Errorf("%s: %d, want %d", what, got.Unix(), want)
		}
	}
	check("none", p.oldest(sec(100), sec(90), time.Time{}, nil), 90)
	check("was running at 100", p.oldest(sec(110), sec(105), time.Time{}, map[string]time.Time{"1": sec(101)}), 90)
	check("another, that began after", p.oldest(sec(120), sec(118), time.Time{}, map[string]time.Time{"2": sec(111)}), 105)
	check("remembered", p.oldest(sec(130), sec(128), time.Time{}, map[string]time.Time{"2": sec(111)}), 105)
	var fresh prepareds
	check("unknown, with a floor", fresh.oldest(sec(9000), sec(8999), sec(8000), map[string]time.Time{"3": sec(8500)}), 8000)
	var first prepareds
	check("unknown", first.oldest(sec(9000), sec(8999), time.Time{}, map[string]time.Time{"3": sec(8500)}), 8500-3600)
}

func TestCreatedBlind(t *testing.T) {
	b := newPostgres(t, pgUUIDLeads, "create role blind login", "grant select on leads to blind")
	t.Cleanup(func() {
		b.exec("drop owned by blind")
		b.exec("drop role blind")
	})
	db, err := Open(b.ctx, strings.Replace(b.dsn, "postgres@", "blind@", 1), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cfg := smallLeads()
	if _, err := db.Stream(b.ctx, cfg); !errors.Is(err, ErrBlind) || !strings.Contains(err.Error(), "pg_read_all_stats") {
		t.Errorf("error %v, want one that names the grant", err)
	}
	cfg.Lookback = time.Minute
	s, err := db.Stream(b.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := b.end(s)
	late := b.begin(addUUID(1))
	b.exec(addUUID(2))
	wantKeys(t, "committed", numbers(b.drain(s, &at, 100)), "2")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "within the lookback", numbers(b.drain(s, &at, 100)), "1")

	b.exec("grant pg_read_all_stats to blind")
	cfg.Lookback = 0
	if s, err = db.Stream(b.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	b.exec("revoke pg_read_all_stats from blind")
	if _, err := s.After(b.ctx, at, 10); !errors.Is(err, ErrBlind) {
		t.Errorf("error %v after the grant was taken back", err)
	}
}

func TestCreatedTypes(t *testing.T) {
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	b := newPostgres(t)
	b.exec("alter database " + b.dsn[strings.LastIndexByte(b.dsn, '/')+1:strings.IndexByte(b.dsn, '?')] + " set timezone to 'Asia/Tokyo'")
	for _, test := range [][2]string{
		{"timestamptz", "bigint"},
		{"timestamp", "int"},
		{"timestamp(0)", "bigint"},
		{"date", "bigint"},
		{"timestamptz", "text"},
		{"timestamp", `text collate "en-x-icu"`},
		{"timestamptz", "varchar(40)"},
		{"date", "char(40)"},
		{"timestamptz", "numeric"},
		{"timestamptz", "oid"},
	} {
		typ, key := test[0], test[1]
		t.Run(typ+" "+key, func(t *testing.T) {
			b.exec("drop table if exists leads")
			b.exec("create table leads (id " + key + " primary key, chatbot_id text, created_at " + typ + ", first_name text)")
			cfg := smallLeads()
			cfg.Cursor, cfg.CreatedZone = CursorCreated, prague
			s := b.stream(cfg)
			at := b.end(s)
			add := "insert into leads values (%d, 'bot', now() at time zone 'Europe/Prague')"
			if typ == "timestamptz" {
				add = "insert into leads values (%d, 'bot', now())"
			}
			late := b.begin(fmt.Sprintf(add, 1))
			b.exec(fmt.Sprintf(add, 2))
			b.exec(fmt.Sprintf(add, 3))
			recs := b.records(s, &at, 1)
			keys := keysOf(recs)
			for i := range keys {
				keys[i] = strings.TrimSpace(keys[i])
			}
			wantKeys(t, "committed", sorted(keys), "2", "3")
			if age := time.Since(recs[0].Created); typ != "date" && (age < -2*time.Second || age > time.Minute) {
				t.Errorf("created %s ago", age)
			}
			got, err := b.read(s, keysOf(recs))
			if err != nil || len(got) != 2 {
				t.Errorf("Read %v gave %d records, %v", keysOf(recs), len(got), err)
			}
			if err := late.Commit(); err != nil {
				t.Fatal(err)
			}
			keys = b.drain(s, &at, 1)
			if len(keys) != 1 || strings.TrimSpace(keys[0]) != "1" {
				t.Errorf("late: %q", keys)
			}
			wantKeys(t, "each once", b.drain(s, &at, 1))
		})
	}
}

// What an application may write to a column of SQLite.
func TestCreatedSQLite(t *testing.T) {
	forms := map[string]func(time.Time) any{
		"rfc3339":      func(t time.Time) any { return t.UTC().Format(time.RFC3339Nano) },
		"offset":       func(t time.Time) any { return t.In(time.FixedZone("", -7*3600)).Format(time.RFC3339) },
		"datetime":     func(t time.Time) any { return t.UTC().Format("2006-01-02 15:04:05") },
		"T":            func(t time.Time) any { return t.UTC().Format("2006-01-02T15:04:05.000") },
		"date":         func(t time.Time) any { return t.UTC().Format("2006-01-02") },
		"Go":           func(t time.Time) any { return t.UTC().String() },
		"seconds":      func(t time.Time) any { return t.Unix() },
		"real":         func(t time.Time) any { return float64(t.UnixMicro()) / 1e6 },
		"milliseconds": func(t time.Time) any { return t.UnixMilli() },
		"no time":      func(time.Time) any { return "yesterday" },
		"digits":       func(t time.Time) any { return strconv.FormatInt(t.Unix(), 10) },
		"zero":         func(time.Time) any { return "0000-00-00 00:00:00" },
		"blob":         func(time.Time) any { return []byte{1, 2, 3} },
	}
	for _, affinity := range []string{"text", "datetime", "integer", "", "real"} {
		for _, keyed := range []string{"text primary key", "integer", "blob"} {
			if keyed != "text primary key" && affinity != "datetime" {
				continue
			}
			t.Run(affinity+" "+keyed, func(t *testing.T) {
				b := newSQLite(t, "create table leads (id "+keyed+" unique, chatbot_id text, created_at "+affinity+", first_name text)")
				start := time.Now()
				cfg := smallLeads()
				cfg.Cursor = CursorCreated
				b.setClock(start)
				s := b.stream(cfg)
				add := func(id int, form string, at time.Time) {
					var key any = id
					if keyed == "blob" {
						key = []byte{0, byte(id), 255}
					}
					b.exec("insert into leads values (?, 'bot', ?, ?)", key, forms[form](at), form)
				}
				n := 0
				old := 0
				for form := range forms {
					n++
					add(n, form, start.Add(-30*24*time.Hour))
					old++
				}
				at := b.end(s)
				until := at
				for round := range 4 {
					now := start.Add(time.Duration(round) * 37 * time.Minute)
					b.setClock(now)
					want := map[string]int{}
					for form := range forms {
						n++
						add(n, form, now)
						want[form]++
					}
					for _, rec := range b.records(s, &at, 3) {
						form, _ := rec.Field("FirstName").(string)
						want[form]--
						if past, err := s.Past(until, &rec); err != nil || !past {
							t.Errorf("Past(%s) = %v, %v", form, past, err)
						}
					}
					for form, n := range want {
						if n != 0 {
							t.Errorf("round %d, %s: %d missing", round, form, n)
						}
					}
					wantKeys(t, "each once", b.drain(s, &at, 3))
				}
				older, err := s.Older(b.ctx, "", until, nil, time.Time{}, time.Time{}, 1000)
				if err != nil {
					t.Fatal(err)
				}
				rest := older
				for !rest.Drained {
					if rest, err = s.Older(b.ctx, rest.Bookmark, until, nil, time.Time{}, time.Time{}, 1000); err != nil {
						t.Fatal(err)
					}
					older.Records = append(older.Records, rest.Records...)
				}
				if len(older.Records) != old {
					t.Errorf("%d rows were visible at the end, want %d", len(older.Records), old)
				}
				var keys []string
				for _, r := range older.Records {
					keys = append(keys, r.Row)
				}
				again, err := b.read(s, keys)
				if err != nil || len(again) != old {
					t.Errorf("Read gave %d of %d, %v", len(again), old, err)
				}
			})
		}
	}
}

// Whatever the server's default is, the statement after the low-water mark has a snapshot of its own.
func TestReadIsolation(t *testing.T) {
	b := newPostgres(t)
	b.exec("alter database " + b.dsn[strings.LastIndexByte(b.dsn, '/')+1:strings.IndexByte(b.dsn, '?')] + " set default_transaction_isolation to 'repeatable read'")
	err := b.db.eng.read(b.ctx, func(q querier) error {
		var isolation, readOnly string
		err := q.QueryRowContext(b.ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&isolation, &readOnly)
		if isolation != "read committed" || readOnly != "on" {
			t.Errorf("%s, read only %s", isolation, readOnly)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUnambiguous(t *testing.T) {
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	change := time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC) // 3:00 becomes 2:00
	for minutes := -180; minutes <= 180; minutes++ {
		from := change.Add(time.Duration(minutes) * time.Minute)
		low := unambiguous(from, prague)
		for later := from; later.Before(change.Add(4 * time.Hour)); later = later.Add(time.Minute) {
			written := later.In(prague).Format("2006-01-02 15:04:05")
			if read, _ := parseTime(written, prague); read.Before(low) {
				t.Fatalf("from %s: %s is read as %s, before %s", from, written, read, low)
			}
		}
		if from.Sub(low) > time.Hour {
			t.Fatalf("from %s: %s is needlessly early", from, low)
		}
	}
}

// A model of the created cursor: rows appear up to the margin late, some without a time, while pages of any size are
// read and webhooks are entered. Each row comes once; and at every end that was taken it is either older or past.
func TestCreatedModel(t *testing.T) {
	t.Parallel()
	b := newSQLite(t, "create table leads (id text primary key, chatbot_id text, created_at, first_name text)")
	rapid.Check(t, func(t *rapid.T) {
		b.exec("delete from leads")
		now := time.Unix(1_700_000_000+rapid.Int64Range(0, 100_000).Draw(t, "start"), 0).UTC()
		b.setClock(now)
		s := b.stream(smallLeads())
		type start struct {
			end   jobs.Bookmark
			older map[string]bool
		}
		var starts []start
		at := jobs.Bookmark("")
		seen := map[string]int{}
		rows := 0
		scan := func() {
			for _, rec := range b.records(s, &at, rapid.IntRange(1, 9).Draw(t, "limit")) {
				seen[rec.Row]++
				for i := range starts {
					past, err := s.Past(starts[i].end, &rec)
					if err != nil {
						t.Fatal(err)
					}
					if past == starts[i].older[rec.Row] {
						t.Fatalf("row %s, created %s, at end %s: past %v, older %v", rec.Row, rec.Created, starts[i].end, past, !past)
					}
				}
			}
		}
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"insert", "insert", "insert", "scan", "wait", "enter"}).Draw(t, "step") {
			case "insert":
				tx := b.begin()
				for range rapid.IntRange(1, 8).Draw(t, "rows") {
					rows++
					created := now.Add(-time.Duration(rapid.IntRange(0, 50).Draw(t, "late")) * time.Second)
					form := rapid.SampledFrom([]any{"2006-01-02 15:04:05", time.RFC3339Nano, int64(1), 1.0, nil, "no time"}).Draw(t, "form")
					switch layout := form.(type) {
					case string:
						form = created.Format(layout)
					case int64:
						form = created.Unix()
					case float64:
						form = float64(created.UnixMilli())
					}
					if _, err := tx.Exec("insert into leads values (?, 'bot', ?, '')", fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "key")*1000+rows), form); err != nil {
						t.Fatal(err)
					}
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
			case "scan":
				scan()
			case "wait":
				now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
				b.setClock(now)
			case "enter":
				scan() // so that what is read from here on is judged by this start
				entered := start{b.end(s), map[string]bool{}}
				for at, drained := jobs.Bookmark(""), false; !drained; {
					p, err := s.Older(b.ctx, at, entered.end, nil, time.Time{}, time.Time{}, rapid.IntRange(1, 9).Draw(t, "older limit"))
					if err != nil {
						t.Fatal(err)
					}
					for _, k := range keysOf(p.Records) {
						if entered.older[k] {
							t.Fatalf("row %s is older twice", k)
						}
						entered.older[k] = true
					}
					at, drained = p.Bookmark, p.Drained
				}
				if len(entered.older) != rows {
					t.Fatalf("%d rows are older, %d are there", len(entered.older), rows)
				}
				starts = append(starts, entered)
			}
		}
		now = now.Add(undatedEvery)
		b.setClock(now)
		scan()
		if len(seen) != rows {
			t.Fatalf("%d rows were read, %d are there", len(seen), rows)
		}
		for k, n := range seen {
			if n != 1 {
				t.Fatalf("row %s was read %d times", k, n)
			}
		}
	})
}

func TestGapsOfText(t *testing.T) {
	b := newSQLite(t, "create table leads (id text primary key, chatbot_id text, created_at text, first_name text)", "insert into leads values ('a', 'bot', null, '')")
	cfg := smallLeads()
	cfg.Cursor = CursorGaps
	if _, err := b.stream(cfg).After(b.ctx, "", 10); err == nil || !strings.Contains(err.Error(), "use cursor: created") {
		t.Errorf("error %v", err)
	}
}
