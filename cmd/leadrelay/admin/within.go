package admin

import (
	"context"
	"errors"
	"time"
)

// errSilent is of a database that does not even answer that it was called off.
var errSilent = errors.New("a database does not answer")

const soonAfter = 2 * time.Second

// within calls f and returns what it returns, or errSilent where ctx has ended and f, which should end with it, has not
// soon after: a database driver may wait for its server for as long as the network keeps it waiting, and whoever asked is
// to hear of that.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value    T
		err      error
		panicked any
	}
	ended := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			r.panicked = recover()
			ended <- r
		}()
		r.value, r.err = f()
	}()
	var r result
	select {
	case r = <-ended:
	case <-ctx.Done():
		select {
		case r = <-ended:
		case <-time.After(soonAfter):
			return r.value, errSilent
		}
	}
	if r.panicked != nil {
		panic(r.panicked) // to whom the request is
	}
	return r.value, r.err
}
