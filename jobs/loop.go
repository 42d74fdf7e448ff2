package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Loop is a goroutine with work to do as the vigil over it sees it. It says what it is about to do, so that one that
// moves, or waits for others, can be told from one that stands still. The nil Loop is not watched.
type Loop struct {
	vigil *vigil
	name  string // what it is, for people

	mu       sync.Mutex
	by       time.Time // when it is to be heard of again; zero: it waits for what may never come
	database string    // asked for something, and not answered since by; "": none
	failing  time.Time // since when all that it tried failed; zero: it does not fail
	why      error
}

type loopKey struct{}

// in gives the goroutine's context, by which what it calls can tell of it.
func (l *Loop) in(ctx context.Context) context.Context { return context.WithValue(ctx, loopKey{}, l) }

func loopOf(ctx context.Context) *Loop {
	l, _ := ctx.Value(loopKey{}).(*Loop)
	return l
}

// Heartbeat says that a database has done one of several things that the goroutine of ctx asked of it: it is slow, and
// does not hang.
func Heartbeat(ctx context.Context) {
	l := loopOf(ctx)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.database != "" {
		l.by = time.Now()
	}
}

// End takes the loop out of the vigil.
func (l *Loop) End() {
	if l == nil {
		return
	}
	l.vigil.mu.Lock()
	defer l.vigil.mu.Unlock()
	delete(l.vigil.loops, l)
}

// Pause says that the loop will be heard of again within d.
func (l *Loop) Pause(d time.Duration) { l.set("", time.Now().Add(d)) }

// back says that the loop is at work of its own.
func (l *Loop) back() { l.Pause(0) }

// idle says that the loop waits for what may never come, or for another loop.
func (l *Loop) idle() { l.set("", time.Time{}) }

// ask says that the loop waits for a database's answer.
func (l *Loop) ask(database string) { l.set(database, time.Now()) }

func (l *Loop) set(database string, by time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.database, l.by = database, by
}

// await says that the loop waits for a database that is away. Until now it may have failed for that.
func (l *Loop) await() {
	l.idle()
	l.succeed()
}

// succeed says that what the loop has tried was done.
func (l *Loop) succeed() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing, l.why = time.Time{}, nil
}

// fail says why what the loop has tried was not done.
func (l *Loop) fail(err error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = err
	if l.failing.IsZero() {
		l.failing = time.Now()
	}
}

// stands is for how long the loop has not moved though it could, and a sentence on it. excused is when a database that
// gives no answer was last found away or at work.
func (l *Loop) stands(excused func(database string) time.Time) (d time.Duration, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.by.IsZero() {
		since := l.by
		if l.database != "" {
			since = later(since, excused(l.database))
		}
		d = time.Since(since)
		why = fmt.Sprintf("%s has not come round for %v", l.name, d.Round(time.Second))
		if l.database != "" {
			why = fmt.Sprintf("%s has had no answer from %s for %v, though it answers others and is at work at nothing", l.name, l.database, d.Round(time.Second))
		}
	}
	if failing := time.Since(l.failing); !l.failing.IsZero() && failing > d {
		d, why = failing, fmt.Sprintf("%s has failed for %v: %v", l.name, failing.Round(time.Second), l.why)
	}
	return d, why
}

// unanswered is the database that has not answered the loop for so long; "": none.
func (l *Loop) unanswered(d time.Duration) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.database == "" || time.Since(l.by) < d {
		return ""
	}
	return l.database
}
