package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sethvargo/go-retry"
)

// What databases are called where they are waited for, or asked.
const (
	TheLedger = "the ledger"
	TheSource = "the source"
)

// A waiter waits for databases that are away, and says so once.
type waiter struct {
	log         *slog.Logger
	unavailable func(error) bool
	patience    time.Duration // 0: for ever

	mu      sync.Mutex
	outages map[string]*outage // by what is or was waited for
}

const (
	// atMostEvery is the longest pause between two tries, well below the time that one who stops has to record outcomes.
	atMostEvery = 2 * time.Second

	// What comes and goes, as a database with too few connections does, is said to be away so often in so long, and more
	// often only where it stays away.
	sayAway      = 5
	sayAwayIn    = 5 * time.Minute
	untilItStays = 30 * time.Second
)

// An outage is something that is away, or was.
type outage struct {
	waiting int // how many wait for it
	began   time.Time
	told    bool        // this time was logged
	said    []time.Time // when the last times were logged, at most sayAway of them
	untold  int         // times since then that were not
}

func newWaiter(log *slog.Logger, unavailable func(error) bool, patience time.Duration) *waiter {
	return &waiter{log: log, unavailable: unavailable, patience: patience, outages: map[string]*outage{}}
}

// Await calls f until it succeeds, fails with an error that is not unavailable, ctx ends, or patience is over (0: never
// over). It says once that what is away, and that it is back.
func Await(ctx context.Context, log *slog.Logger, what string, unavailable func(error) bool, patience time.Duration, f func(context.Context) error) error {
	return newWaiter(log, unavailable, patience).do(ctx, what, f)
}

// do calls f until it succeeds, fails with an error that waiting does not mend, or ctx ends. what names the database.
// Where ctx ends, the error is ctx's too: a database says in its own words that what it was asked was called off.
func (w *waiter) do(ctx context.Context, what string, f func(context.Context) error) error {
	away := false
	backoff := retry.WithJitterPercent(20, retry.WithCappedDuration(atMostEvery, retry.NewExponential(100*time.Millisecond)))
	if w.patience > 0 {
		backoff = retry.WithMaxDuration(w.patience, backoff)
	}
	loop := loopOf(ctx)
	defer loop.back()
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		loop.ask(what)
		err := f(ctx)
		if err == nil || !w.unavailable(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		loop.await()
		if !away {
			away = true
			w.begin(what)
		}
		w.say(what, err)
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
	for name, o := range w.outages {
		if o.waiting > 0 {
			names = append(names, name)
		}
	}
	return names
}

func (w *waiter) begin(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.outages[what]
	if o == nil {
		o = &outage{}
		w.outages[what] = o
	}
	if o.waiting++; o.waiting == 1 {
		o.began, o.told = time.Now(), false
	}
}

// say logs that what is away, and why, unless that was said of late.
func (w *waiter) say(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.outages[what]
	often := len(o.said) == sayAway && time.Since(o.said[0]) < sayAwayIn
	if o.told || often && time.Since(o.began) < untilItStays {
		return
	}
	args := []any{"error", err}
	if o.untold > 0 {
		args = append(args, "times", o.untold+1)
	}
	w.log.Warn(what+" is away, waiting for it", args...)
	o.said = append(o.said, time.Now())
	o.said = o.said[max(0, len(o.said)-sayAway):]
	o.told, o.untold = true, 0
}

func (w *waiter) end(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.outages[what]
	switch o.waiting--; {
	case o.waiting > 0 || err != nil:
	case o.told:
		w.log.Info(what + " is back")
	default:
		o.untold++
	}
}
