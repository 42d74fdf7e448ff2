package sources

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Twelve writers, a fifth of whose transactions are held open and some rolled back, while both cursors read in a loop:
// gaps reads each row exactly once, and so does created; neither misses one.
func TestWriters(t *testing.T) {
	t.Parallel()
	const (
		writers = 12
		each    = 25
		hold    = 800 * time.Millisecond
	)
	b := newPostgres(t, pgLeads+"; create index on leads (created_at, id)")
	b.app.SetMaxOpenConns(writers + 2)
	created := leads()
	created.Cursor = CursorCreated
	streams := []*Stream{b.stream(leads()), b.stream(created), b.stream(created)}
	marks := make([]jobs.Bookmark, len(streams))
	seen := make([]map[string]int, len(streams))
	starts := make([]jobs.Bookmark, len(streams))
	older, past := make([]map[string]bool, len(streams)), make([]map[string]bool, len(streams))
	for i, s := range streams {
		marks[i], seen[i] = b.end(s), map[string]int{}
	}

	var mu sync.Mutex
	committed := map[string]bool{}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Add(1)
		random := rand.New(rand.NewPCG(uint64(w), 7))
		go func() {
			defer writing.Done()
			for range each {
				tx := b.begin()
				var ids []string
				for range 1 + random.IntN(4) {
					var id string
					if err := tx.QueryRow(addLead + " returning id").Scan(&id); err != nil {
						t.Error(err)
						return
					}
					ids = append(ids, id)
				}
				if random.IntN(5) == 0 {
					time.Sleep(hold)
				}
				if random.IntN(7) == 0 {
					_ = tx.Rollback()
					continue
				}
				if err := tx.Commit(); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, id := range ids {
					committed[id] = true
				}
				mu.Unlock()
			}
		}()
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()

	// scan reads all that is new, the third stream as another process would, that knows only the bookmark.
	scan := func(look func(i int, rec *jobs.Record)) {
		for i, s := range streams {
			if i == 2 {
				s = b.stream(created)
			}
			for _, rec := range b.records(s, &marks[i], 50) {
				seen[i][rec.Row]++
				look(i, &rec)
			}
		}
	}
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(5 * time.Millisecond) {
		scan(func(int, *jobs.Record) {})
	}
	// A webhook is entered: every row is either older, visible now, or past its start; never both, never neither.
	for i, s := range streams {
		starts[i], older[i], past[i] = b.end(s), map[string]bool{}, map[string]bool{}
		for at, drained := jobs.Bookmark(""), false; !drained; {
			p, err := s.Older(b.ctx, at, starts[i], nil, time.Time{}, time.Time{}, 50)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keysOf(p.Records) {
				older[i][k] = true
			}
			at, drained = p.Bookmark, p.Drained
		}
	}
	judge := func(i int, rec *jobs.Record) {
		is, err := streams[i].Past(starts[i], rec)
		if err != nil {
			t.Error(err)
		}
		if is == older[i][rec.Row] {
			t.Errorf("stream %d, row %s: past %v, older %v", i, rec.Row, is, older[i][rec.Row])
		}
		past[i][rec.Row] = is
	}
	for quiet := false; !quiet; {
		select {
		case <-done:
			quiet = true
		case <-time.After(5 * time.Millisecond):
		}
		scan(judge)
	}
	scan(judge)
	if len(committed) < 300 {
		t.Fatalf("only %d rows were committed", len(committed))
	}
	for i := range streams {
		for id := range committed {
			if seen[i][id] != 1 {
				t.Errorf("stream %d read row %s %d times", i, id, seen[i][id])
			}
			if !older[i][id] && !past[i][id] {
				t.Errorf("stream %d, row %s: neither older than a start in the middle nor past it", i, id)
			}
		}
		if len(seen[i]) != len(committed) {
			t.Errorf("stream %d read %d rows of %d", i, len(seen[i]), len(committed))
		}
	}
}

// Two daemons share a bookmark: whoever loses the race discards its page and reads on from the other's bookmark.
func TestDaemonsShareABookmark(t *testing.T) {
	t.Parallel()
	b := newPostgres(t, pgLeads)
	b.app.SetMaxOpenConns(8)
	for _, cursor := range []string{CursorGaps, CursorCreated} {
		b.exec("truncate leads")
		cfg := leads()
		cfg.Cursor = cursor
		var mu sync.Mutex
		at := b.end(b.stream(cfg))
		seen := map[string]int{}
		ctx, cancel := context.WithCancel(b.ctx)
		var daemons sync.WaitGroup
		for range 3 {
			s := b.stream(cfg)
			daemons.Add(1)
			go func() {
				defer daemons.Done()
				for ctx.Err() == nil {
					mu.Lock()
					mine := at
					mu.Unlock()
					p, err := s.After(b.ctx, mine, 20)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if at == mine {
						at = p.Bookmark
						for _, k := range keysOf(p.Records) {
							seen[k]++
						}
					}
					mu.Unlock()
				}
			}()
		}
		var writers sync.WaitGroup
		for range 4 {
			writers.Add(1)
			go func() {
				defer writers.Done()
				for i := range 40 {
					tx := b.begin(addLead, addLead)
					if i%5 == 0 {
						time.Sleep(100 * time.Millisecond)
					}
					if err := tx.Commit(); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		writers.Wait()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			n := len(seen)
			mu.Unlock()
			if n == 320 {
				break
			}
		}
		cancel()
		daemons.Wait()
		if len(seen) != 320 {
			t.Errorf("%s: %d rows of 320", cursor, len(seen))
		}
		for k, n := range seen {
			if n != 1 {
				t.Errorf("%s: row %s was read %d times", cursor, k, n)
			}
		}
	}
}

// A backlog in which many ids were rolled back stays quick: gaps are not looked up for every page.
func TestBacklogOfGaps(t *testing.T) {
	b := newPostgres(t, pgLeads)
	b.exec("insert into leads (id, chatbot_id) select n, 'bot' from generate_series(1, 30000) n where n % 3 <> 0")
	b.exec("select setval('leads_id_seq', 30000); analyze leads")
	s := b.stream(leads())
	at := jobs.Bookmark("")
	began := time.Now()
	n := len(b.drain(s, &at, 500))
	if n != 20000 {
		t.Errorf("%d rows", n)
	}
	if _, gaps := s.Describe(at); gaps != 9999 {
		t.Errorf("%d gaps", gaps)
	}
	took := time.Since(began)
	began = time.Now()
	b.drain(s, &at, 500)
	t.Logf("%s for %d rows with 9999 gaps, %s for a look at all of them, bookmark of %d bytes", took, n, time.Since(began), len(at))
	if took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func ExampleDefaults() {
	for _, c := range Defaults() {
		fmt.Println(c.Type, c.Table)
	}
	// Output:
	// Lead leads
	// Appointment appointments
}
