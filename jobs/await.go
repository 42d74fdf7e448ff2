package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sethvargo/go-retry"
)

// A waiter waits for databases that are away, and says so once.
type waiter struct {
	log         *slog.Logger
	unavailable func(error) bool
	patience    time.Duration // 0: for ever

	mu      sync.Mutex
	waiting map[string]int // what is waited for → by how many
}

func newWaiter(log *slog.Logger, unavailable func(error) bool, patience time.Duration) *waiter {
	return &waiter{log: log, unavailable: unavailable, patience: patience, waiting: map[string]int{}}
}

// Await calls f until it succeeds, fails with an error that is not unavailable, ctx ends, or patience is over (0: never
// over). It says once that what is away, and that it is back.
func Await(ctx context.Context, log *slog.Logger, what string, unavailable func(error) bool, patience time.Duration, f func(context.Context) error) error {
	return newWaiter(log, unavailable, patience).do(ctx, what, f)
}

// do calls f until it succeeds, fails with an error that waiting does not mend, or ctx ends. what names the database.
func (w *waiter) do(ctx context.Context, what string, f func(context.Context) error) error {
	away := false
	backoff := retry.WithJitterPercent(20, retry.WithCappedDuration(5*time.Second, retry.NewExponential(100*time.Millisecond)))
	if w.patience > 0 {
		backoff = retry.WithMaxDuration(w.patience, backoff)
	}
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		err := f(ctx)
		if err == nil || !w.unavailable(err) || ctx.Err() != nil {
			return err
		}
		if !away {
			away = true
			w.begin(what, err)
		}
		return retry.RetryableError(err)
	})
	if away {
		w.end(what, err)
	}
	return err
}

// awaited names the databases that are being waited for.
func (w *waiter) awaited() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name := range w.waiting {
		names = append(names, name)
	}
	return names
}

func (w *waiter) begin(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[what]++
	if w.waiting[what] == 1 {
		w.log.Warn(what+" is away, waiting for it", "error", err)
	}
}

func (w *waiter) end(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[what]--
	if w.waiting[what] > 0 {
		return
	}
	delete(w.waiting, what)
	if err == nil {
		w.log.Info(what + " is back")
	}
}
