package sources

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestGapsLateCommit(t *testing.T) {
	b := newPostgres(t, pgLeads)
	s := b.stream(leads())
	at := b.end(s)
	late := b.begin(addLead)
	back := b.begin(addLead)
	b.exec(addLead)
	wantKeys(t, "what is committed", b.drain(s, &at, 100), "3")
	if pos, n := s.Describe(at); pos != "3" || n != 2 {
		t.Errorf("Describe = %s, %d gaps; want 3, 2", pos, n)
	}
	wantKeys(t, "nothing new", b.drain(s, &at, 100))
	again := at
	b.drain(s, &again, 100)
	if again != at {
		t.Errorf("an idle scan moved the bookmark from %s to %s", at, again)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := back.Rollback(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "the late one", b.drain(s, &at, 100), "1")
	wantKeys(t, "nothing new", b.drain(s, &at, 100))
	if _, n := s.Describe(at); n != 1 {
		t.Errorf("%d gaps, want the one rolled back", n)
	}
}

func TestGapsWhere(t *testing.T) {
	b := newPostgres(t, pgLeads)
	cfg := leads()
	cfg.Where = "first_name <> 'draft' -- the operator's comment"
	s := b.stream(cfg)
	at := b.end(s)
	b.exec("insert into leads (chatbot_id, first_name) select 'bot', case when n % 10 = 0 then 'Ann' else 'draft' end from generate_series(1, 95) n")
	wantKeys(t, "those that match", b.drain(s, &at, 4), "10", "20", "30", "40", "50", "60", "70", "80", "90")
	if pos, n := s.Describe(at); pos != "95" || n != 0 {
		t.Errorf("Describe = %s, %d; rows that do not match leave gaps", pos, n)
	}
	late := b.begin("insert into leads (chatbot_id, first_name) values ('bot', 'draft')")
	b.exec(addLead)
	wantKeys(t, "past it", b.drain(s, &at, 100), "97")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "a late draft", b.drain(s, &at, 100))
	if _, n := s.Describe(at); n != 0 {
		t.Errorf("a late row that does not match left its gap open")
	}
	got, err := b.read(s, []string{"1", "10", "4711", "no id", "99999999999999999999"})
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "Read, whether they match or not", sorted(keysOf(got)), "1", "10")
}

func TestGapsNobody(t *testing.T) {
	b := newPostgres(t, pgLeads)
	s := b.stream(leads())
	at := b.end(s)
	b.exec("insert into leads (chatbot_id) values (null), ('bot'), (null)")
	wantKeys(t, "rows of somebody", b.drain(s, &at, 100), "2")
	if pos, n := s.Describe(at); pos != "3" || n != 0 {
		t.Errorf("Describe = %s, %d", pos, n)
	}
}

func TestGapsIncrement(t *testing.T) {
	for _, test := range []struct {
		name        string
		increment   int
		add         string
		keys        []string
		gaps, after int
	}{
		{"on the grid", 10, "select 1", []string{"21", "31"}, 2, 2},
		{"ids between", 10, "insert into leads (id, chatbot_id) values (25, 'bot')", []string{"21", "25", "31"}, 37, 36},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newPostgres(t, pgLeads, fmt.Sprintf("alter sequence leads_id_seq increment by %d", test.increment))
			s := b.stream(leads())
			at := b.end(s)
			one, two := b.begin(addLead), b.begin(addLead)
			b.exec(addLead)
			b.exec(addLead)
			b.exec(test.add)
			wantKeys(t, "committed", b.drain(s, &at, 100), test.keys...)
			if _, n := s.Describe(at); n != test.gaps {
				t.Errorf("%d gaps, want %d", n, test.gaps)
			}
			_ = one.Rollback()
			b.exec("update leads set first_name = 'Bea'")
			if test.after != test.gaps {
				_ = two.Commit()
				wantKeys(t, "late", b.drain(s, &at, 100), "11")
				if _, n := s.Describe(at); n != test.after {
					t.Errorf("%d gaps, want %d", n, test.after)
				}
				return
			}
			_ = two.Rollback()
			wantKeys(t, "none late", b.drain(s, &at, 100))
		})
	}
}

func TestGapsAge(t *testing.T) {
	b := newPostgres(t, pgLeads)
	start := time.Now()
	b.setClock(start)
	cfg := leads()
	cfg.GapKeep = 24 * time.Hour
	s := b.stream(cfg)
	at := b.end(s)
	early, never := b.begin(addLead), b.begin(addLead)
	defer never.Rollback()
	b.exec(addLead)
	wantKeys(t, "committed", b.drain(s, &at, 100), "3")

	b.setClock(start.Add(25 * time.Hour)) // nobody looked since; the first look still finds it
	if err := early.Commit(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "filled after gap_keep, before any look", b.drain(s, &at, 100), "1")
	if _, n := s.Describe(at); n != 0 {
		t.Errorf("%d gaps after gap_keep and a look", n)
	}
}

func TestGapsOldAreLookedUpRarely(t *testing.T) {
	b := newPostgres(t, pgLeads)
	start := time.Now()
	b.setClock(start)
	s := b.stream(leads())
	at := b.end(s)
	late := b.begin(addLead)
	b.exec(addLead)
	b.drain(s, &at, 100)
	b.setClock(start.Add(time.Hour))
	wantKeys(t, "a full look", b.drain(s, &at, 100))
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.setClock(start.Add(time.Hour + 30*time.Second))
	wantKeys(t, "old gaps rest", b.drain(s, &at, 100))
	b.setClock(start.Add(time.Hour + time.Minute))
	wantKeys(t, "a minute later", b.drain(s, &at, 100), "1")
}

// Gaps must be found, page by page, even where there are more of them filled than a page holds.
func TestGapsManyFilledAtOnce(t *testing.T) {
	b := newPostgres(t, pgLeads)
	s := b.stream(leads())
	at := b.end(s)
	late := b.begin("insert into leads (chatbot_id) select 'bot' from generate_series(1, 50)")
	b.exec(addLead)
	wantKeys(t, "committed", b.drain(s, &at, 7), "51")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.exec(addLead)
	want := []string{"52"}
	for n := range 50 {
		want = append(want, strconv.Itoa(n+1))
	}
	wantKeys(t, "all of them", sorted(b.drain(s, &at, 7)), sorted(want)...)
}

func TestGapsRestored(t *testing.T) {
	restored := func(t *testing.T, b *bench, s *Stream, at jobs.Bookmark) {
		t.Helper()
		if _, err := s.After(b.ctx, at, 100); !errors.Is(err, jobs.ErrRestored) {
			t.Errorf("error %v, want ErrRestored", err)
		}
	}
	engines := map[string]func(t *testing.T) *bench{
		"postgres": func(t *testing.T) *bench { return newPostgres(t, pgLeads) },
		"sqlite":   func(t *testing.T) *bench { return newSQLite(t, liteLeads) },
	}
	for name, open := range engines {
		t.Run(name+", deleting the newest is legal", func(t *testing.T) {
			b := open(t)
			s := b.stream(leads())
			at := b.end(s)
			for range 5 {
				b.exec(addLead)
			}
			b.drain(s, &at, 100)
			b.exec("delete from leads where id > 2")
			wantKeys(t, "after deleting", b.drain(s, &at, 100))
			b.exec(addLead)
			wantKeys(t, "the next", b.drain(s, &at, 100), "6")
			b.exec("delete from leads")
			wantKeys(t, "after deleting all", b.drain(s, &at, 100))
		})
	}
	t.Run("postgres, truncated", func(t *testing.T) {
		b := engines["postgres"](t)
		s := b.stream(leads())
		at := b.end(s)
		b.exec(addLead)
		b.exec(addLead)
		b.drain(s, &at, 100)
		b.exec("truncate leads restart identity")
		restored(t, b, s, at)
		b.exec(addLead)
		restored(t, b, s, at)
	})
	t.Run("sqlite, made anew", func(t *testing.T) {
		b := engines["sqlite"](t)
		s := b.stream(leads())
		at := b.end(s)
		b.exec(addLead)
		b.drain(s, &at, 100)
		b.exec("drop table leads")
		b.exec(liteLeads)
		restored(t, b, s, at)
	})
	for name, open := range engines {
		t.Run(name+", cursor created", func(t *testing.T) {
			b := open(t)
			cfg := leads()
			cfg.Cursor = CursorCreated
			s := b.stream(cfg)
			b.exec(addLead)
			at := b.end(s)
			b.exec(addLead)
			b.exec(addLead)
			wantKeys(t, "new", sorted(b.drain(s, &at, 1)), "2", "3")
			b.exec("delete from leads where id = 3")
			wantKeys(t, "after deleting the newest", b.drain(s, &at, 1))
			b.exec("drop table leads")
			b.exec(map[string]string{"postgres": pgLeads, "sqlite": liteLeads}[name])
			b.exec(addLead)
			s = b.stream(cfg)
			restored(t, b, s, at)
		})
	}
	t.Run("unused sequence", func(t *testing.T) {
		b := engines["postgres"](t)
		s := b.stream(leads())
		at := b.end(s)
		wantKeys(t, "empty", b.drain(s, &at, 100))
	})
}

// Ids that people choose lie above the sequence. What the sequence gives out later, below them, is new all the same.
func TestGapsChosenIDs(t *testing.T) {
	b := newPostgres(t, pgLeads)
	start := time.Now()
	b.setClock(start)
	s := b.stream(leads())
	at := b.end(s)
	b.exec(addLead)
	b.exec("insert into leads (id, chatbot_id) values (6, 'bot')")
	wantKeys(t, "one given out, one chosen", b.drain(s, &at, 100), "1", "6")
	b.setClock(start.Add(365 * 24 * time.Hour)) // any gap has been dropped by then
	wantKeys(t, "nothing", b.drain(s, &at, 100))
	if _, n := s.Describe(at); n != 0 {
		t.Fatalf("%d gaps are open; the test wants none", n)
	}
	late := b.begin(addLead) // 2
	b.exec(addLead)
	b.exec(addLead)
	wantKeys(t, "below the chosen one", b.drain(s, &at, 100), "3", "4")
	b.exec(addLead)
	wantKeys(t, "the last below it", b.drain(s, &at, 100), "5")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.exec("select nextval('leads_id_seq')") // 6 is taken
	b.exec(addLead)
	got := b.drain(s, &at, 100)
	wantKeys(t, "above it", got, "2", "7")
	if strings.Contains(string(at), "front") {
		t.Errorf("bookmark %s; the sequence has passed", at)
	}
	_, err := s.After(b.ctx, at, 10)
	if err != nil {
		t.Fatal(err)
	}
}

func TestGapsEnd(t *testing.T) {
	b := newPostgres(t, pgLeads)
	s := b.stream(leads())
	for range 3 {
		b.exec("insert into leads (chatbot_id, created_at) values ('bot', now() - interval '3 days')")
	}
	b.exec("select nextval('leads_id_seq')") // 4: rolled back days ago
	b.exec("insert into leads (chatbot_id, created_at) values ('bot', now() - interval '2 days')")
	open := b.begin(addLead) // 6
	b.exec(addLead)          // 7
	last := b.begin(addLead) // 8
	at := b.end(s)
	if pos, n := s.Describe(at); pos != "7" || n != 1 {
		t.Errorf("End is %s with %d gaps; want 7 with 1", pos, n)
	}
	for row, want := range map[string]bool{"1": false, "4": false, "5": false, "6": true, "7": false, "8": true} {
		got, err := s.Past(at, &jobs.Record{Row: row})
		if err != nil || got != want {
			t.Errorf("Past(%s) = %v, %v; want %v", row, got, err, want)
		}
	}
	if err := open.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := last.Commit(); err != nil {
		t.Fatal(err)
	}
	until := at
	wantKeys(t, "what End left ahead", b.drain(s, &at, 100), "6", "8")
	older, err := s.Older(b.ctx, "", until, nil, time.Time{}, time.Time{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "what was visible then", keysOf(older.Records), "1", "2", "3", "5", "7")
	n, err := s.CountOlder(b.ctx, until, []string{jobs.AllChatbots}, time.Now().Add(-60*time.Hour), time.Time{})
	if err != nil || n != 2 {
		t.Errorf("CountOlder since 60 hours = %d, %v; want 2", n, err)
	}
}

// Rows that are open while the table is empty have lower ids than the first that is seen.
func TestGapsEndOfEmptyTable(t *testing.T) {
	b := newPostgres(t, pgLeads)
	s := b.stream(leads())
	one, two := b.begin(addLead), b.begin(addLead)
	at := b.end(s)
	b.exec(addLead)
	end := b.end(s) // all that there is is of the last day
	wantKeys(t, "the first", b.drain(s, &at, 100), "3")
	if err := one.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := two.Commit(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "those below", b.drain(s, &at, 100), "1", "2")
	wantKeys(t, "those below, from a later end", b.drain(s, &end, 100), "1", "2")
}

func TestOlder(t *testing.T) {
	for name, b := range map[string]*bench{
		"postgres gaps":           newPostgres(t, pgLeads),
		"postgres created":        newPostgres(t, pgLeads),
		"postgres gaps, text":     newPostgres(t, strings.Replace(pgLeads, "timestamptz", "text", 1)),
		"postgres gaps, date":     newPostgres(t, strings.Replace(pgLeads, "timestamptz", "date", 1)),
		"postgres created, local": newPostgres(t, strings.Replace(pgLeads, "timestamptz", "timestamp", 1)),
		"sqlite gaps":             newSQLite(t, liteLeads),
		"sqlite created":          newSQLite(t, liteLeads),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := leads()
			if strings.Contains(name, "created") {
				cfg.Cursor = CursorCreated
			}
			if !strings.Contains(name, "sqlite") {
				b.exec("set timezone to utc")
				b.app.SetMaxOpenConns(1)
			}
			s := b.stream(cfg)
			for i := range 30 {
				b.exec(fmt.Sprintf("insert into leads (chatbot_id, created_at) values ('bot%d', '2024-01-%02d 00:00:00')", i%3, i+1))
			}
			b.exec("update leads set created_at = null where id = 4")
			b.exec("insert into leads (id, chatbot_id, created_at) values (40, null, '2024-01-29 00:00:00')")
			until := b.end(s)
			b.exec("insert into leads (id, chatbot_id) values (39, 'bot1')") // in a gap, and past the end
			b.exec("delete from leads where id = 39 and '" + name + "' = 'sqlite gaps'")
			b.exec(addLead)
			within := func(chatbots []string, since, before time.Time) (keys []string) {
				for at, drained := jobs.Bookmark(""), false; !drained; {
					p, err := s.Older(b.ctx, at, until, chatbots, since, before, 4)
					if err != nil {
						t.Fatal(err)
					}
					if len(p.Records) > 4 {
						t.Fatalf("%d records", len(p.Records))
					}
					keys = append(keys, keysOf(p.Records)...)
					at, drained = p.Bookmark, p.Drained
				}
				n, err := s.CountOlder(b.ctx, until, chatbots, since, before)
				if err != nil || n != len(keys) {
					t.Errorf("CountOlder = %d, %v; Older gave %d", n, err, len(keys))
				}
				slices.SortFunc(keys, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
				return keys
			}
			read := func(chatbots []string, since time.Time) []string { return within(chatbots, since, time.Time{}) }
			if got := read([]string{"*"}, time.Time{}); len(got) != 30 {
				t.Errorf("all: %v", got)
			}
			wantKeys(t, "one chatbot", read([]string{"bot1"}, time.Time{}), "2", "5", "8", "11", "14", "17", "20", "23", "26", "29")
			since := time.Date(2024, 1, 25, 0, 0, 0, 0, time.UTC)
			wantKeys(t, "since", read([]string{"bot0", "bot1"}, since), "4", "25", "26", "28", "29")
			day := func(n int) time.Time { return time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC) }
			wantKeys(t, "before", within([]string{"bot0"}, time.Time{}, day(10)), "1", "4", "7")
			wantKeys(t, "between", within(nil, day(25), day(28)), "4", "25", "26", "27")
			wantKeys(t, "before a moment later", within(nil, day(27), day(28).Add(time.Microsecond)), "4", "27", "28")
			wantKeys(t, "before all", within(nil, time.Time{}, day(1)), "4")
			if n, err := s.CountOlder(b.ctx, "", nil, time.Time{}, time.Time{}); n != 0 || err != nil {
				t.Errorf("before every row: %d, %v", n, err)
			}
		})
	}
}
