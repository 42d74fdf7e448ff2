package sources

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// woken reports how long Wait took; it fails the test if that was the poll.
func woken(t *testing.T, s *Stream, what string) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx, time.Hour); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return time.Since(began)
}

// quiet scans until nothing wakes the stream: the listening has begun by then.
func (b *bench) quiet(s *Stream, at *jobs.Bookmark) {
	b.t.Helper()
	for {
		b.drain(s, at, 100)
		ctx, cancel := context.WithTimeout(b.ctx, 500*time.Millisecond)
		err := s.Wait(ctx, time.Hour)
		cancel()
		if err != nil {
			return
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, pgLeads, TriggerSQL("postgres", Defaults())),
		"sqlite":   newSQLite(t, liteLeads),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, other := b.stream(leads()), b.stream(leads())
			at, otherAt := b.end(s), b.end(other)
			scan := func() int {
				b.drain(other, &otherAt, 100)
				return len(b.drain(s, &at, 100))
			}
			settle := func() {
				b.quiet(other, &otherAt)
				b.quiet(s, &at)
			}
			settle()

			b.exec(addLead) // before Wait, after the last scan
			time.Sleep(400 * time.Millisecond)
			if d := woken(t, s, "a row before Wait"); d > time.Second {
				t.Errorf("Wait slept %s over a row that was committed before", d)
			}
			if d := woken(t, other, "the same, another stream"); d > time.Second {
				t.Errorf("another stream's Wait slept %s", d)
			}
			if n := scan(); n != 1 {
				t.Errorf("%d rows", n)
			}
			settle()

			committed := make(chan time.Time, 1)
			go func() {
				time.Sleep(300 * time.Millisecond)
				b.exec(addLead)
				committed <- time.Now()
			}()
			woken(t, s, "a row while waiting")
			if n := scan(); n != 1 {
				t.Errorf("%d rows when woken", n)
			}
			if d := time.Since(<-committed); d > time.Second {
				t.Errorf("woken after %s", d)
			}
			settle()

			began := time.Now()
			if err := s.Wait(b.ctx, 50*time.Millisecond); err != nil || time.Since(began) < 40*time.Millisecond {
				t.Errorf("poll: %v after %s", err, time.Since(began))
			}
			ctx, cancel := context.WithCancel(b.ctx)
			cancel()
			if err := s.Wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWaitEndsWithClose(t *testing.T) {
	t.Parallel()
	b := newSQLite(t, liteLeads)
	s := b.stream(leads())
	for range 3 { // the first ones return at once
		go func() {
			time.Sleep(100 * time.Millisecond)
			b.db.Close()
		}()
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		for {
			if err := s.Wait(ctx, time.Hour); err != nil {
				if ctx.Err() != nil {
					t.Error("Wait went on after Close")
				}
				break
			}
		}
		cancel()
	}
}

// A server that restarts says nothing of what was committed meanwhile: reconnecting is an occasion to look. What fails
// while it is away is told from what will never work.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Remove()
	b := &bench{t: t, ctx: context.Background(), dsn: server.URL("postgres")}
	if b.app, err = sqlx.Open("postgres", b.dsn); err != nil {
		t.Fatal(err)
	}
	defer b.app.Close()
	b.exec(pgLeads)
	b.open()
	s := b.stream(leads())
	at := b.end(s)
	b.drain(s, &at, 100)
	b.quiet(s, &at)
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := server.Stop(how); err != nil {
			t.Fatal(err)
		}
		for range 10 { // every pooled connection
			if _, err := s.After(b.ctx, at, 10); !IsUnavailable(err) {
				t.Errorf("%v: the server is away, and IsUnavailable says no to: %v", how, err)
			}
		}
		if err := b.db.Ping(b.ctx); !IsUnavailable(err) {
			t.Errorf("Ping: %v", err)
		}
		if _, err := b.db.Check(b.ctx, leads()); !IsUnavailable(err) {
			t.Errorf("Check: %v", err)
		}
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
		woken(t, s, "the listener's new connection")
		for range 10 {
			if _, err := s.After(b.ctx, at, 10); err != nil && !IsUnavailable(err) {
				t.Error(err)
			}
		}
		for range 3 { // the pool's dead connections
			_, _ = b.app.Exec("select 1")
		}
		b.exec(addLead)
		wantKeys(t, "after the restart", b.drain(s, &at, 100), fmt.Sprint(b.lastID()))
	}
	tooMany(t, b)
}

func (b *bench) lastID() (id int) {
	b.t.Helper()
	if err := b.app.Get(&id, "select max(id) from leads"); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// tooMany takes all connections that a role may have.
func tooMany(t *testing.T, b *bench) {
	b.exec("create role poor login connection limit 1; grant select on leads to poor; grant select on leads_id_seq to poor")
	db, err := Open(b.ctx, dsnAs(b.dsn, "poor"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	one, err := db.eng.(*postgres).db.Conn(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if err := db.Ping(b.ctx); !IsUnavailable(err) {
		t.Errorf("too many connections: %v", err)
	}
}

// On a standby there is no LISTEN and other servers' transactions are not seen; the gaps cursor needs neither.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer primary.Remove()
	b := &bench{t: t, ctx: context.Background()}
	if b.app, err = sqlx.Open("postgres", primary.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	defer b.app.Close()
	b.exec(pgLeads)
	standby, err := primary.Standby()
	if err != nil {
		t.Fatal(err)
	}
	defer standby.Remove()
	b.dsn = standby.URL("postgres")
	b.open()

	created := leads()
	created.Cursor = CursorCreated
	if _, err := b.db.Stream(b.ctx, created); !errors.Is(err, ErrBlind) {
		t.Errorf("error %v for cursor created on a standby without lookback", err)
	}
	created.Lookback = time.Minute
	streams := []*Stream{b.stream(leads()), b.stream(created)}
	ends := []func() []string{}
	for _, s := range streams {
		at := b.end(s)
		ends = append(ends, func() []string { return b.drain(s, &at, 10) })
	}
	await := func(want ...string) {
		t.Helper()
		for i, next := range ends {
			var got []string
			for deadline := time.Now().Add(10 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				got = append(got, next()...)
			}
			wantKeys(t, fmt.Sprintf("stream %d", i), got, want...)
		}
	}
	late := b.begin(addLead)
	b.exec(addLead)
	await("2")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	await("1")
	began := time.Now()
	for range 3 {
		if err := streams[0].Wait(b.ctx, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if time.Since(began) > 5*time.Second {
		t.Errorf("three polls took %s", time.Since(began))
	}
}

// TestForgottenListener: a listener whose connection the network has forgotten makes another, and keeps nobody who closes
// the source waiting: the driver's own end waits for what it asked last.
func TestForgottenListener(t *testing.T) {
	t.Parallel()
	b := newPostgres(t, pgLeads, TriggerSQL("postgres", Defaults()))
	way, by, err := pgtest.NewRoute(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // the connections are closed with the source
			way.Close()
		}
	})
	db, err := Open(b.ctx, by, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const ping = 500 * time.Millisecond
	db.wake.ping = ping
	if err := db.wake.wait(b.ctx, db.wake.now(), ping); err != nil { // which begins the listening
		t.Fatal(err)
	}
	// woken commits rows until one of them is noticed.
	woken := func(when string) {
		t.Helper()
		seen, began := db.wake.now(), time.Now()
		for db.wake.now() == seen {
			if time.Since(began) > 30*time.Second {
				t.Fatal(when + " nothing wakes it")
			}
			b.exec(addLead)
			time.Sleep(100 * time.Millisecond)
		}
	}
	woken("in the beginning")
	way.Forget()
	woken("when its connection was forgotten")
	way.Forget()
	time.Sleep(ping * 3 / 2) // it has asked
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it is not closed")
	}
}
