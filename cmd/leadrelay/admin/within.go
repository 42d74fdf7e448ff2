package admin

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errSilent is of a database that does not even answer that it was called off.
	errSilent = errors.New("a database does not answer")
	// errPanicked was logged with where it came from.
	errPanicked = errors.New("it panicked")
)

const (
	soonAfter = 2 * time.Second
	// longestErrand is how long what is left of requests is waited for, before what it works with is closed: a stop has
	// not long. What goes on then finds its databases closed, and is told so by them.
	longestErrand = 5 * time.Second
)

// errands are what requests have begun. One that was not waited for is among them until it ends, and is logged then.
type errands struct {
	log  *slog.Logger
	work sync.WaitGroup
}

// end waits until none is left, and no longer than that.
func (e *errands) end(longest time.Duration) {
	ended := make(chan struct{})
	go func() {
		e.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(longest):
		e.log.Warn("requests to the API that were answered already still wait for a database, and are left alone")
	}
}

// within calls f and returns what it returns, or errSilent where ctx has ended and f, which should end with it, has not
// soon after: a database driver may wait for its server for as long as the network keeps it waiting, and whoever asked is
// to hear of that. Then f goes on; what becomes of it is logged, by the name that it has here.
func within[T any](ctx context.Context, e *errands, name string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	began := time.Now()
	var told atomic.Bool // whichever comes first: its end, or that nobody waits any longer
	ended := make(chan result, 1)
	e.work.Go(func() {
		r := result{err: errPanicked}
		defer func() {
			if p := recover(); p != nil {
				e.log.Error("a request panicked", "request", name, "panic", p, "stack", string(debug.Stack()))
			}
			ended <- r
			if told.Swap(true) {
				e.log.Warn("a request ended after it was answered that a database is silent", "request", name, "took", time.Since(began).Round(time.Millisecond), "error", r.err)
			}
		}()
		r.value, r.err = f()
	})
	select {
	case r := <-ended:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-ended:
		return r.value, r.err
	case <-time.After(soonAfter):
	}
	if told.Swap(true) {
		r := <-ended
		return r.value, r.err
	}
	return result{}.value, errSilent
}
