package sources

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

const (
	pgNotes = `create table notes (id bigserial primary key, chatbot_id text, created_at timestamptz, updated_at timestamptz,
	title text, content text, extra jsonb);
	create index on notes (created_at, id); create index on notes (greatest(updated_at, created_at), id)`
	liteNotes = `create table notes (id integer primary key autoincrement, chatbot_id text, created_at datetime, updated_at datetime,
	title text, content text, extra json)`
)

// notes are read by every cursor, and as a query's rows.
func notes(maxBody int) map[string]Config {
	cfg := Config{
		Type: "note", Table: "notes", ID: "id", Chatbot: "chatbot_id", Created: "created_at", MaxBody: maxBody,
		Fields: []Mapping{{Name: "title", Column: "title"}, {Name: "content", Column: "content"}, {Name: "extra", Column: "extra"}, {Name: "of", Const: "us"}},
	}
	all := map[string]Config{"gaps": cfg}
	cfg.Cursor = CursorCreated
	all["created"] = cfg
	cfg.Cursor, cfg.Updated = "", "updated_at"
	all["changes"] = cfg
	cfg.Cursor, cfg.Updated, cfg.Table, cfg.Query = CursorCreated, "", "", "select * from notes"
	all["query"] = cfg
	return all
}

// addNotes adds a note of each of these sizes, a second apart, the last one an hour ago; ids count from 1.
func (b *bench) addNotes(sizes []int) {
	b.t.Helper()
	first := time.Now().Add(-time.Hour - time.Duration(len(sizes))*time.Second)
	text := map[string]string{"postgres": "repeat('x', $3)", "sqlite": "substr(hex(zeroblob($3)), 1, $3)"}[b.db.Engine()]
	for i, size := range sizes {
		b.exec("insert into notes (chatbot_id, created_at, title, content) values ('bot', $1, $2, "+text+")",
			first.Add(time.Duration(i)*time.Second).UTC().Format("2006-01-02 15:04:05Z"), "t", size-1)
	}
}

// wantNotes checks that pages hold these notes, each once, the large ones without fields, and no page too much.
func wantNotes(t *testing.T, what string, pages [][]jobs.Record, sizes []int, most int) {
	t.Helper()
	got := map[string]bool{}
	for _, page := range pages {
		bytes := 0
		for i := range page {
			rec := &page[i]
			n, err := strconv.Atoi(rec.Row)
			if err != nil || got[rec.Row] {
				t.Errorf("%s: row %s came twice, or is no row", what, rec.Row)
				continue
			}
			got[rec.Row] = true
			size := sizes[n-1]
			if size > most {
				var large *jobs.TooLargeError
				if !errors.As(rec.Err, &large) || large.Bytes != size || large.Most != most || len(rec.Fields) > 0 {
					t.Errorf("%s: row %s of %d bytes has %d fields and the error %v", what, rec.Row, size, len(rec.Fields), rec.Err)
				}
				continue
			}
			content, _ := rec.Field("content").(string)
			if rec.Err != nil || rec.Field("title") != "t" || len(content) != size-1 || rec.Field("of") != "us" {
				t.Errorf("%s: row %s of %d bytes has %d bytes of content and the error %v", what, rec.Row, size, len(content), rec.Err)
			}
			bytes += size
		}
		if bytes > pageBytes+most {
			t.Errorf("%s: a page of %d bytes", what, bytes)
		}
	}
	if len(got) != len(sizes) {
		t.Errorf("%s: %d rows came of %d", what, len(got), len(sizes))
	}
}

// Whatever way rows are read, a page has about as many bytes as it may, rows that are too large come without their
// fields and with their size, and none is left out. What a row may take it may take to the last byte.
func TestPagesAreBoundedInBytes(t *testing.T) {
	const most = 1 << 20
	sizes := []int{3 << 20, 700, most, most + 1}
	for range 30 {
		sizes = append(sizes, 700<<10, 40<<10)
	}
	sizes = append(sizes, 2*most, 10)
	for engine, b := range map[string]*bench{"postgres": newPostgres(t, pgNotes), "sqlite": newSQLite(t, liteNotes)} {
		b.addNotes(sizes)
		for name, cfg := range notes(most) {
			t.Run(engine+" "+name, func(t *testing.T) {
				s := b.stream(cfg)
				var pages [][]jobs.Record
				for at, drained := jobs.Bookmark(""), false; !drained; {
					p, err := s.After(b.ctx, at, 512)
					if err != nil {
						t.Fatal(err)
					}
					pages, at, drained = append(pages, p.Records), p.Bookmark, p.Drained
				}
				wantNotes(t, "new rows", pages, sizes, most)
				if len(pages) < 3 {
					t.Errorf("%d pages", len(pages))
				}

				end := b.end(s)
				pages = nil
				for at, drained := jobs.Bookmark(""), false; !drained; {
					p, err := s.Older(b.ctx, at, end, nil, time.Time{}, time.Time{}, 512)
					if err != nil {
						t.Fatal(err)
					}
					pages, at, drained = append(pages, p.Records), p.Bookmark, p.Drained
				}
				wantNotes(t, "older rows", pages, sizes, most)
				if n, err := s.CountOlder(b.ctx, end, nil, time.Time{}, time.Time{}); err != nil || n != len(sizes) {
					t.Errorf("CountOlder is %d, %v", n, err)
				}

				keys, err := s.Latest(b.ctx, 100)
				if err != nil || len(keys) != len(sizes) || keys[0] != strconv.Itoa(len(sizes)) {
					t.Errorf("Latest is %v, %v", keys, err)
				}
				keys, pages = append(keys, "4711"), nil // of which one is gone
				for left := keys; len(left) > 0; {
					var records []jobs.Record
					if records, left, err = s.Read(b.ctx, left); err != nil {
						t.Fatal(err)
					}
					pages = append(pages, records)
				}
				wantNotes(t, "rows read again", pages, sizes, most)
				if lag, err := s.Lag(b.ctx, ""); err != nil || lag < time.Hour {
					t.Errorf("Lag is %v, %v", lag, err)
				}
			})
		}
	}
}

// Gaps that fill are read in pages that are bounded, too, and none is forgotten.
func TestGapsAreBoundedInBytes(t *testing.T) {
	const most = 1 << 20
	b := newPostgres(t, pgNotes)
	s := b.stream(notes(most)["gaps"])
	late := b.begin("insert into notes (chatbot_id, content) select 'bot', repeat('x', 700000) from generate_series(1, 40)")
	b.exec("insert into notes (chatbot_id, content) values ('bot', 'x')")
	var at jobs.Bookmark
	wantKeys(t, "what is committed", b.drain(s, &at, 512), "41")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.exec("insert into notes (chatbot_id, content) select 'bot', repeat('x', 700000) from generate_series(1, 40)")
	var got []string
	for drained := false; !drained; {
		p, err := s.After(b.ctx, at, 512)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(p.Records); n > 2*(pageBytes/700000+1) { // of the gaps, and above
			t.Errorf("a page of %d", n)
		}
		at, drained = p.Bookmark, p.Drained
		got = append(got, keysOf(p.Records)...)
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 80 {
		t.Errorf("%d rows came of 80: %v", len(got), got)
	}
}

// What a JSON column takes counts as the text that it gives.
func TestLargeJSON(t *testing.T) {
	const most = 1 << 20
	for engine, b := range map[string]*bench{"postgres": newPostgres(t, pgNotes), "sqlite": newSQLite(t, liteNotes)} {
		t.Run(engine, func(t *testing.T) {
			for _, n := range []int{most - 2, most} {
				b.exec("insert into notes (chatbot_id, extra) values ('bot', $1)", `"`+strings.Repeat("x", n)+`"`)
			}
			at := jobs.Bookmark("")
			records := b.records(b.stream(notes(most)["gaps"]), &at, 10)
			var large *jobs.TooLargeError
			if len(records) != 2 || records[0].Err != nil || !errors.As(records[1].Err, &large) || large.Bytes != most+2 {
				t.Fatalf("%d records; %v", len(records), records[len(records)-1].Err)
			}
			if text, _ := records[0].Field("extra").(jobs.JSON); len(text) != most {
				t.Errorf("%d bytes of JSON", len(text))
			}
		})
	}
}

// PostgreSQL sends little more than a page, nothing of a row that is too large, and does not even read that to tell.
func TestLargeRowsStayInTheDatabase(t *testing.T) {
	b := newPostgres(t, pgNotes)
	b.addNotes([]int{60_000_000})
	b.exec("insert into notes (chatbot_id, created_at, content) select 'bot', created_at, content from notes, generate_series(1, 19)")
	b.addNotes([]int{100})
	route, dsn, err := pgtest.NewRoute(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(b.ctx, dsn, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer route.Close()
	defer db.Close()
	s, err := db.Stream(b.ctx, notes(0)["gaps"])
	if err != nil {
		t.Fatal(err)
	}
	read := func(at jobs.Bookmark) (jobs.Page, int64) {
		t.Helper()
		before := route.Sent()
		p, err := s.After(b.ctx, at, 512)
		if err != nil {
			t.Fatal(err)
		}
		return p, route.Sent() - before
	}
	p, sent := read("")
	if len(p.Records) != 21 || !p.Drained || sent > 100_000 {
		t.Errorf("%d rows, drained: %v, %d bytes came from the database", len(p.Records), p.Drained, sent)
	}
	b.exec("insert into notes (chatbot_id, content) select 'bot', repeat('x', 1000000) from generate_series(1, 100)")
	if p, sent = read(p.Bookmark); p.Drained || sent > pageBytes+2_000_000 {
		t.Errorf("%d rows, drained: %v, %d bytes came from the database", len(p.Records), p.Drained, sent)
	}

	plan := b.explainAnalyzed(s.db.eng.bounded(s.cursor.(*gapsCursor).pageSQL, &s.conv), 0, 20)
	for _, found := range regexp.MustCompile(`(?:hit|read)=(\d+)`).FindAllStringSubmatch(plan, -1) {
		if n, _ := strconv.Atoi(found[1]); n > 40 { // one of the texts has a hundred pages, compressed
			t.Errorf("it reads %d pages to tell the sizes of 20 rows:\n%s", n, plan)
		}
	}
}

func (b *bench) explainAnalyzed(query string, args ...any) (plan string) {
	b.t.Helper()
	for i, arg := range args { // or the plan would be a generic one
		query = strings.ReplaceAll(query, fmt.Sprintf("$%d", i+1), fmt.Sprint(arg))
	}
	var lines []string
	if err := b.app.Select(&lines, "explain (analyze, buffers, costs off, timing off) "+query); err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// SQLite tells the sizes without reading the values: the program that it makes of a query marks each column whose size alone it reads.
func TestSQLiteTellsSizesWithoutReading(t *testing.T) {
	b := newSQLite(t, liteNotes)
	s := b.stream(notes(0)["gaps"])
	rows, err := b.app.Queryx("explain "+s.cursor.(*gapsCursor).pageSQL, 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	const byteLengthOnly = 0xc0 // OPFLAG_BYTELENARG
	n := 0
	for rows.Next() {
		columns, err := rows.SliceScan()
		if err != nil {
			t.Fatal(err)
		}
		if columns[1] == "Column" && columns[6] == int64(byteLengthOnly) {
			n++
		}
	}
	if n != 6 { // three for the row's size, and one beside each value
		t.Errorf("%d columns are asked for their sizes alone", n)
	}
}
