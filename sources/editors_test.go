package sources

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// versionOf names a version of a row, with what its content was then.
func versionOf(rec *jobs.Record) string {
	return fmt.Sprintf("%s %s %s %v", rec.Row, rec.Version, rec.Action, rec.Field("Content"))
}

// A model of a stream with versions: rows come, change and are deleted up to the margin late, while pages of any size
// are read, webhooks are entered and their backfills go on. The last that is read of each row is what it is, nothing
// comes twice, and a webhook gets what each row is at the end: from its backfill, if it was so when the webhook was
// entered, or else because it is past the webhook's start.
func TestVersionsModel(t *testing.T) {
	t.Parallel()
	b := newSQLite(t, "create table appointments (id text primary key, chatbot_id text, created_at, updated_at, deleted_at, content int)", "create index on_change on appointments (coalesce(updated_at, created_at), id)")
	cfg := appointments()
	rapid.Check(t, func(t *rapid.T) {
		b.exec("delete from appointments")
		now := time.Unix(1_700_000_000+rapid.Int64Range(0, 100_000).Draw(t, "start"), 0).UTC()
		b.setClock(now)
		s := b.stream(cfg)
		type start struct {
			end, cursor jobs.Bookmark
			done        bool
			got         map[string]string // row → version
		}
		var starts []*start
		at := jobs.Bookmark("")
		seen, last := map[string]bool{}, map[string]string{}
		used := map[string]bool{} // no two changes of a row are in one second
		rows, edits := 0, 0
		stamp := func(row int) any {
			form := rapid.SampledFrom([]any{"2006-01-02 15:04:05", time.RFC3339Nano, int64(1), 1.0}).Draw(t, "form")
			for late := rapid.IntRange(0, 50).Draw(t, "late"); ; late = (late + 1) % 51 {
				when := now.Add(-time.Duration(late) * time.Second)
				if key := fmt.Sprint(row, when); used[key] {
					now = now.Add(time.Second)
					b.setClock(now)
				} else {
					used[key] = true
					switch layout := form.(type) {
					case string:
						return when.Add(time.Duration(edits) * time.Microsecond).Format(layout)
					case int64:
						return when.Unix()
					}
					return float64(when.UnixMilli())
				}
			}
		}
		scan := func() {
			for _, rec := range b.records(s, &at, rapid.IntRange(1, 9).Draw(t, "limit")) {
				v := versionOf(&rec)
				if seen[v] {
					t.Fatalf("%s came twice", v)
				}
				seen[v], last[rec.Row] = true, v
				for _, st := range starts {
					past, err := s.Past(st.end, &rec)
					if err != nil {
						t.Fatal(err)
					}
					if past {
						st.got[rec.Row] = v
					}
				}
			}
		}
		backfill := func(st *start) {
			p, err := s.Older(b.ctx, st.cursor, st.end, nil, time.Time{}, time.Time{}, rapid.IntRange(1, 9).Draw(t, "older limit"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Records {
				if past, err := s.Past(st.end, &p.Records[i]); past || err != nil {
					t.Fatalf("%s is older and past: %v", versionOf(&p.Records[i]), err)
				}
				st.got[p.Records[i].Row] = versionOf(&p.Records[i])
			}
			st.cursor, st.done = p.Bookmark, p.Drained
		}
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			step := rapid.SampledFrom([]string{"insert", "insert", "edit", "edit", "edit", "delete", "scan", "wait", "enter", "backfill"}).Draw(t, "step")
			row := 0
			if rows > 0 {
				row = 1 + rapid.IntRange(0, rows-1).Draw(t, "row")
			} else if step == "edit" || step == "delete" {
				step = "insert"
			}
			edits++
			switch step {
			case "insert":
				for range rapid.IntRange(1, 5).Draw(t, "rows") {
					rows++
					created := stamp(rows)
					if rapid.IntRange(0, 9).Draw(t, "undated") == 0 {
						created = nil
					}
					b.exec("insert into appointments values (?, 'bot', ?, null, null, ?)", strconv.Itoa(rows), created, edits)
				}
			case "edit":
				b.exec("update appointments set updated_at = ?, deleted_at = null, content = ? where id = ?", stamp(row), edits, strconv.Itoa(row))
			case "delete":
				b.exec("update appointments set deleted_at = ?, content = ? where id = ?", stamp(row), edits, strconv.Itoa(row))
			case "scan":
				scan()
			case "wait":
				now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
				b.setClock(now)
			case "enter":
				scan() // as what is entered is from a position that nothing can pass unseen
				starts = append(starts, &start{end: b.end(s), got: map[string]string{}})
			case "backfill":
				for _, st := range starts {
					if !st.done {
						backfill(st)
					}
				}
			}
		}
		now = now.Add(undatedEvery)
		b.setClock(now)
		scan()
		for _, st := range starts {
			for !st.done {
				backfill(st)
			}
		}
		var keys []string
		for i := range rows {
			keys = append(keys, strconv.Itoa(i+1))
		}
		current, err := b.read(s, keys)
		if err != nil || len(current) != rows {
			t.Fatalf("%d rows of %d, %v", len(current), rows, err)
		}
		for i := range current {
			want := versionOf(&current[i])
			if got := last[current[i].Row]; got != want {
				t.Fatalf("the last that was read is %q, the row is %q", got, want)
			}
			for _, st := range starts {
				if got := st.got[current[i].Row]; got != want {
					t.Fatalf("a webhook got %q at last, the row is %q", got, want)
				}
			}
		}
	})
}

// Twelve editors change, delete and bring back the same few rows, a fifth of them in transactions that are held open,
// so that a change that began before another comes after it. What was read last of each row is what it is.
func TestEditors(t *testing.T) {
	t.Parallel()
	const (
		editors = 12
		each    = 25
		rows    = 60
		hold    = 800 * time.Millisecond
	)
	b := newPostgres(t, pgAppointments, fmt.Sprintf("insert into appointments (chatbot_id, created_at) select 'bot', now() - n * interval '1 day' from generate_series(1, %d) n", rows))
	b.app.SetMaxOpenConns(editors + 2)
	cfg := appointments()
	streams := []*Stream{b.stream(cfg), b.stream(cfg)}
	marks := make([]jobs.Bookmark, len(streams))
	type seen map[string]*jobs.Record
	last := make([]seen, len(streams)) // what was read last of each row
	for i, s := range streams {
		last[i] = seen{}
		for _, rec := range b.records(s, &marks[i], 50) {
			last[i][rec.Row] = &rec
		}
	}
	var editing sync.WaitGroup
	for e := range editors {
		editing.Add(1)
		random := rand.New(rand.NewPCG(uint64(e), 11))
		go func() {
			defer editing.Done()
			for i := range each {
				tx, err := b.app.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				held := random.IntN(5) == 0
				if held { // before it takes the row: others change it meanwhile, and theirs began later
					if _, err := tx.Exec("select now()"); err != nil {
						t.Error(err)
					}
					time.Sleep(hold)
				}
				change := []string{"updated_at = now()", "updated_at = now(), deleted_at = null", "deleted_at = now()"}[random.IntN(3)]
				edit := fmt.Sprintf("update appointments set %s, content = 'editor %d, %d' where id = %d", change, e, i, 1+random.IntN(rows))
				if !strings.HasSuffix(change, "null") { // what is deleted has one time, that of its deletion
					edit += " and deleted_at is null"
				}
				if random.IntN(6) == 0 {
					edit = fmt.Sprintf("insert into appointments (chatbot_id, content) values ('bot', 'editor %d, %d')", e, i)
				}
				if _, err := tx.Exec(edit); err != nil {
					t.Error(err)
				}
				if held && random.IntN(2) == 0 {
					time.Sleep(hold / 4)
				}
				end := tx.Commit
				if random.IntN(7) == 0 {
					end = tx.Rollback
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { editing.Wait(); close(done) }()
	// The webhook of a backfill that goes on beside the edits.
	var start, cursor jobs.Bookmark
	got := seen{}
	backfilled := false
	scan := func() {
		for i, s := range streams {
			if i == 1 { // another process, that knows only the bookmark, and stops in the middle
				s = b.stream(cfg)
				p, err := s.After(b.ctx, marks[i], 7)
				if err != nil {
					t.Fatal(err)
				}
				for _, rec := range p.Records {
					last[i][rec.Row] = &rec
				}
				marks[i] = p.Bookmark
				continue
			}
			for _, rec := range b.records(s, &marks[i], 50) {
				last[i][rec.Row] = &rec
				if start != "" {
					past, err := s.Past(start, &rec)
					if err != nil {
						t.Error(err)
					}
					if past {
						got[rec.Row] = &rec
					}
				}
			}
		}
		if start != "" && !backfilled {
			p, err := streams[0].Older(b.ctx, cursor, start, nil, time.Time{}, time.Time{}, 5)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range p.Records {
				got[rec.Row] = &rec
			}
			cursor, backfilled = p.Bookmark, p.Drained
		}
	}
	began := time.Now()
	for quiet := false; !quiet; {
		select {
		case <-done:
			quiet = true
		case <-time.After(5 * time.Millisecond):
		}
		scan()
		if start == "" && time.Since(began) > time.Second {
			start = b.end(streams[0])
		}
	}
	for !backfilled {
		scan()
	}
	marked := marks[1]
	for _, rec := range b.records(b.stream(cfg), &marked, 50) {
		last[1][rec.Row] = &rec
	}
	scan()
	var keys []string
	for row := range last[0] {
		keys = append(keys, row)
	}
	var there int
	if err := b.app.Get(&there, "select count(*) from appointments"); err != nil || there != len(keys) {
		t.Errorf("%d rows of %d, %v", len(keys), there, err)
	}
	current, err := b.read(streams[0], keys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range current {
		want := versionOf(&current[i])
		for j, what := range []seen{last[0], last[1], got} {
			rec := what[current[i].Row]
			if rec == nil {
				t.Errorf("reader %d never read %q", j, want)
			} else if versionOf(rec) != want {
				t.Errorf("reader %d read %q at last, the row is %q", j, versionOf(rec), want)
			}
		}
	}
}
