package sources

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// newPooled is newPostgres with a pgbouncer in transaction mode between the Database and the server.
func newPooled(t testing.TB, schema ...string) *bench {
	t.Helper()
	pooled, direct := pgtest.Pooled(t)
	app, err := sqlx.Open("postgres", direct)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Close() })
	b := &bench{t: t, ctx: context.Background(), dsn: pooled, app: app}
	for _, s := range schema {
		b.exec(s)
	}
	return b.open()
}

// TestPooled: behind a pooler that gives each transaction another session, rows are found as they are without one: of
// transactions that commit late, under either cursor, and again by their keys.
func TestPooled(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{CursorGaps: pgLeads, CursorCreated: pgUUIDLeads} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPooled(t, table)
			s := b.stream(smallLeads())
			if s.Cursor() != name {
				t.Fatalf("cursor %s", s.Cursor())
			}
			id := func() (id string) {
				t.Helper()
				if err := b.app.Get(&id, "select id::text from leads order by created_at desc, id desc limit 1"); err != nil {
					t.Fatal(err)
				}
				return id
			}
			at := b.end(s)
			late := b.begin(addLead)
			b.exec(addLead)
			first := id()
			wantKeys(t, "while another is not committed", b.drain(s, &at, 1), first)
			if err := late.Commit(); err != nil {
				t.Fatal(err)
			}
			second := b.drain(s, &at, 1)
			if len(second) != 1 || second[0] == first {
				t.Fatalf("of the late transaction %v", second)
			}
			wantKeys(t, "after it", b.drain(s, &at, 1))
			all := sorted([]string{first, second[0]})
			again, _, err := s.Read(b.ctx, append(all, "no key"))
			if err != nil {
				t.Fatal(err)
			}
			wantKeys(t, "by their keys", sorted(keysOf(again)), all...)
			var window []string
			for keys := s.Keys(time.Now().Add(-time.Hour)); ; {
				page, err := keys.Next(b.ctx, 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				window = append(window, keysOf(page)...)
			}
			wantKeys(t, "of the last hour", sorted(window), all...)
			var older []string
			for place, end, drained := jobs.Bookmark(""), b.end(s), false; !drained; {
				page, err := s.Older(b.ctx, place, end, []string{"bot"}, time.Time{}, time.Time{}, 1)
				if err != nil {
					t.Fatal(err)
				}
				older = append(older, keysOf(page.Records)...)
				place, drained = page.Bookmark, page.Drained
			}
			wantKeys(t, "older ones", sorted(older), all...)
		})
	}
}

// TestUnheard: behind such a pooler nothing is listened for. A LISTEN would stay with a session that others get next; and
// the poll finds new rows.
func TestUnheard(t *testing.T) {
	t.Parallel()
	b := newPooled(t, pgLeads, TriggerSQL("postgres", Defaults()))
	s := b.stream(leads())
	at := b.end(s)
	b.exec(addLead)
	for range 10 {
		if err := s.Wait(b.ctx, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, "found by the poll", b.drain(s, &at, 10), "1")
	others, err := sqlx.Open("postgres", b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	for range 2 { // all sessions that the pooler has, each held until the end
		tx, err := others.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var channels int
		if err := tx.QueryRow("select count(*) from pg_listening_channels()").Scan(&channels); err != nil {
			t.Fatal(err)
		}
		if channels > 0 {
			t.Error("a session that others get was made to listen")
		}
	}
}

// TestHears: whether notifications come is known before anything is listened for.
func TestHears(t *testing.T) {
	for name, c := range map[string]struct {
		b    *bench
		want bool
	}{"direct": {newPostgres(t), true}, "pooled": {newPooled(t), false}, "sqlite": {newSQLite(t), true}} {
		if got, err := c.b.db.Hears(c.b.ctx); got != c.want || err != nil {
			t.Errorf("%s: %v, want %v: %v", name, got, c.want, err)
		}
	}
}
