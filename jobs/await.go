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

// A waiter waits for databases that are away, and logs that: once where it waits without end, else every ten seconds.
type waiter struct {
	log         *slog.Logger
	unavailable func(error) bool
	refused     func(error) bool // whether such an error is a refusal of a database that is there; nil: none is
	patience    time.Duration    // 0: for ever

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

	sayAgain = 10 * time.Second // to people who wait with it
)

// An outage is something that is away, or was.
type outage struct {
	waiting int // how many wait for it
	began   time.Time
	told    bool        // this time was logged
	said    []time.Time // when the last times were logged, at most sayAway of them
	untold  int         // times since then that were not

	refused time.Time // since when every error was a refusal; zero: the last was not
	why     error     // the last
}

func newWaiter(log *slog.Logger, unavailable func(error) bool, patience time.Duration) *waiter {
	return &waiter{log: log, unavailable: unavailable, patience: patience, outages: map[string]*outage{}}
}

// Await calls f until it succeeds, fails with an error that is not unavailable, ctx ends, or patience, counted from the
// first failure, is over (0: never over). A call of f that is under way then is called off. It logs that what is away, and
// that it is back.
func Await(ctx context.Context, log *slog.Logger, what string, unavailable func(error) bool, patience time.Duration, f func(context.Context) error) error {
	var away error
	var since time.Time
	return newWaiter(log, unavailable, patience).do(ctx, what, func(ctx context.Context) error {
		trying, cancel := ctx, context.CancelFunc(func() {})
		if away != nil && patience > 0 {
			trying, cancel = context.WithDeadline(ctx, since.Add(patience))
		}
		defer cancel()
		err := f(trying)
		switch {
		case err != nil && trying.Err() != nil && ctx.Err() == nil:
			return away // rather than that the time was over
		case err != nil && unavailable(err):
			if away == nil {
				since = time.Now()
			}
			away = err
		}
		return err
	})
}

// do calls f until it succeeds, fails with an error that waiting does not mend, or ctx ends. what names the database.
// Where ctx ends, the error is ctx's too: a database says in its own words that what it was asked was called off.
func (w *waiter) do(ctx context.Context, what string, f func(context.Context) error) error {
	away := false
	backoff := retry.WithJitterPercent(20, retry.WithCappedDuration(atMostEvery, retry.NewExponential(100*time.Millisecond)))
	if pauses := backoff; w.patience > 0 {
		limited := sync.OnceValue(func() retry.Backoff { return retry.WithMaxDuration(w.patience, pauses) }) // from the first failure on
		backoff = retry.BackoffFunc(func() (time.Duration, bool) { return limited().Next() })
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
		w.note(what, err)
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
		o.began, o.told, o.refused = time.Now(), false, time.Time{}
	}
}

// note keeps whether what is waited for is away or refuses.
func (w *waiter) note(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.outages[what]
	switch o.why = err; {
	case w.refused == nil || !w.refused(err):
		o.refused = time.Time{}
	case o.refused.IsZero():
		o.refused = time.Now()
	}
}

// refusing says what has refused everything for longer than after, and how; "": nothing has.
func (w *waiter) refusing(after time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what, o := range w.outages {
		if d := time.Since(o.refused); o.waiting > 0 && !o.refused.IsZero() && d > after {
			return fmt.Sprintf("%s has refused everything for %v: %v", what, d.Round(time.Second), o.why)
		}
	}
	return ""
}

// say logs that what is away, and why, unless that was said of late.
func (w *waiter) say(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.outages[what]
	left := (w.patience - time.Since(o.began)).Round(time.Second)
	if o.told && left > 0 && time.Since(o.said[len(o.said)-1]) >= sayAgain {
		o.told = false
	}
	often := len(o.said) == sayAway && time.Since(o.said[0]) < sayAwayIn
	if o.told || often && time.Since(o.began) < untilItStays {
		return
	}
	args := []any{"error", err}
	if w.patience > 0 {
		args = append(args, "gives_up_in", max(0, left))
	}
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
