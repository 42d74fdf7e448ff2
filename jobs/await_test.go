package jobs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errGone = errors.New("it is gone")

// A page is a log that may be read while it is written.
type page struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

// awaiting is a waiter and what it logs.
func awaiting() (*waiter, *page) {
	log := &page{}
	return newWaiter(slog.New(slog.NewTextHandler(log, nil)), func(err error) bool { return errors.Is(err, errGone) }, 0), log
}

// outage waits for what is away for so long.
func (w *waiter) outage(d time.Duration) {
	began := time.Now()
	_ = w.do(context.Background(), "it", func(context.Context) error {
		if time.Since(began) < d {
			return errGone
		}
		return nil
	})
}

// TestAwayIsSaidOnce: for how ever long, and by how many it is waited for.
func TestAwayIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := awaiting()
		for range 3 {
			go w.outage(2 * time.Hour)
		}
		time.Sleep(time.Hour)
		if got := w.awaited(); len(got) != 1 || got[0] != "it" {
			t.Errorf("awaited: %v", got)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "it is back") {
			t.Errorf("logged:\n%s", log)
		}
		if got := w.awaited(); len(got) != 0 {
			t.Errorf("awaited when it is back: %v", got)
		}
	})
}

// TestComingAndGoing: what is away for a moment a thousand times is not said a thousand times; that it then stays away is.
func TestComingAndGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := awaiting()
		for range 1000 {
			w.outage(time.Second)
			time.Sleep(time.Second)
		}
		// A bit more than half an hour.
		said := strings.Count(log.String(), "is away")
		if back := strings.Count(log.String(), "is back"); said < 30 || said > 45 || back != said {
			t.Errorf("said %d times to be away, %d times to be back", said, back)
		}
		began := time.Now()
		go w.outage(time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "is away"); n != said+1 {
			t.Errorf("that it stays away was said %d times after %v", n-said, time.Since(began))
		}
		if !strings.Contains(log.String(), "times=") {
			t.Error("how often it was away is not said")
		}
		time.Sleep(time.Hour)
	})
}

// TestCalledOff: who stops while a database is at work hears that it was called off, in whatever words the database says
// so; that is no failure of the database.
func TestCalledOff(t *testing.T) {
	canceling := errors.New("pq: canceling statement due to user request (57014)")
	broken := errors.New("pq: relation does not exist")
	for name, test := range map[string]struct {
		err     error
		stopped bool
		want    bool
	}{
		"a statement that was called off":            {canceling, true, true},
		"a mistake that has nothing to do with it":   {broken, true, false},
		"a mistake while nobody stops":               {broken, false, false},
		"a query that says itself it was called off": {context.Canceled, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			w := newWaiter(slog.New(slog.DiscardHandler), func(err error) bool { return errors.Is(err, canceling) }, 0)
			err := w.do(ctx, "the ledger", func(context.Context) error {
				if test.stopped {
					stop()
				}
				return test.err
			})
			if !errors.Is(err, test.err) || errors.Is(err, context.Canceled) != test.want {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestRefusing: a database that is there and refuses everything, for longer than a while, is named with the reason. One that is
// away is not, nor one that answered in between.
func TestRefusing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errBarred := errors.New("no such table")
		w := newWaiter(slog.New(slog.DiscardHandler), func(error) bool { return true }, 0)
		w.refused = func(err error) bool { return errors.Is(err, errBarred) }
		ctx, stop := context.WithCancel(t.Context())
		var err atomic.Pointer[error]
		ask := func() {
			_ = w.do(ctx, TheLedger, func(context.Context) error { return *err.Load() })
		}
		for _, c := range []struct {
			what string
			err  error
			want string
		}{
			{"it is away", errGone, ""},
			{"it refuses", errBarred, "the ledger has refused everything for 10m0s: no such table"},
			{"it is away again", errGone, ""},
			{"it answers", nil, ""},
			{"it refuses again", errBarred, "the ledger has refused everything for 10m0s: no such table"},
		} {
			if err.Store(&c.err); c.err != nil {
				go ask()
			}
			time.Sleep(4 * time.Minute)
			if got := w.refusing(5 * time.Minute); got != "" {
				t.Errorf("%s for 4 minutes: %s", c.what, got)
			}
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if got := w.refusing(5 * time.Minute); got != c.want {
				t.Errorf("%s for 10 minutes: %q, want %q", c.what, got, c.want)
			}
		}
		stop()
	})
}
