package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	askAfter = 10 * time.Second // a database that has not answered for so long is asked whether it is there
	askEvery = 5 * time.Second
	askFor   = 10 * time.Second // a question that is not answered within this is answered: it is away
)

// A vigil sees whether the loops of a runner move. Where one waits for a database's answer it asks that database: one
// that is away, or at work, is waited for, and said so once; where it answers others and does nothing for us, the loop
// waits for an answer that was lost, and its connection is given up, or for a fault of ours.
type vigil struct {
	log      *slog.Logger
	ask      func(ctx context.Context, database string) (work string, err error)
	drop     func(database string, then time.Time) int
	patience time.Duration // with databases that do not answer; 0: without end

	mu        sync.Mutex
	loops     map[*Loop]struct{}
	databases map[string]*inquiry // of those that were found slow to answer

	asking sync.WaitGroup // questions, and what is given up a while after them
}

// An inquiry is into one database.
type inquiry struct {
	asked   time.Time // since when a question is open; zero: none is
	excused time.Time // when it was last found away or at work
	said    bool      // that it is slow to answer
}

func newVigil(log *slog.Logger, ask func(context.Context, string) (string, error), drop func(string, time.Time) int, patience time.Duration) *vigil {
	if drop == nil {
		drop = func(string, time.Time) int { return 0 }
	}
	return &vigil{log: log, ask: ask, drop: drop, patience: patience, loops: map[*Loop]struct{}{}, databases: map[string]*inquiry{}}
}

// begin takes a goroutine into the vigil, until its End.
func (v *vigil) begin(name string) *Loop {
	l := &Loop{vigil: v, name: name, by: time.Now()}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.loops[l] = struct{}{}
	return l
}

// keep asks databases that are slow to answer, until ctx ends; nothing that it began goes on after that.
func (v *vigil) keep(ctx context.Context) {
	if v.ask == nil {
		return
	}
	defer v.asking.Wait()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, say := range v.inquire(ctx) {
				say()
			}
		}
	}
}

var errNoAnswer = errors.New("it does not answer")

// inquire returns what is to be logged. Every push takes v.mu, so nobody logs while holding it: whoever reads the log may
// keep it waiting.
func (v *vigil) inquire(ctx context.Context) (says []func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	slow := v.unanswered()
	for database := range slow {
		q := v.databases[database]
		if q == nil {
			q = &inquiry{}
			v.databases[database] = q
		}
		switch {
		case q.asked.IsZero():
			q.asked = time.Now()
			v.asking.Go(func() { v.question(ctx, database, q) })
		case time.Since(q.asked) >= askFor:
			says = append(says, v.excuse(database, q, errNoAnswer.Error()))
		}
	}
	for database, q := range v.databases {
		if slow[database] || !q.asked.IsZero() {
			continue
		}
		delete(v.databases, database)
		if q.said {
			says = append(says, func() { v.log.Info(database + " has answered") })
		}
	}
	return says
}

// question asks one database. It may take longer than it should: then it is the only one that does.
func (v *vigil) question(ctx context.Context, database string, q *inquiry) {
	asking, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	began := time.Now()
	work, err := v.ask(asking, database)
	switch {
	case err == nil && work == "":
		v.giveUp(ctx, database, began)
	case err != nil && v.patience > 0: // whoever asked looks at its patience when it has an answer
		v.drop(database, began.Add(-v.patience))
	}
	v.answered(database, q, work, err)()
}

// answered notes what a question brought, and returns what is to be logged.
func (v *vigil) answered(database string, q *inquiry, work string, err error) (say func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q.asked = time.Time{}
	switch {
	case errors.Is(err, context.Canceled): // the runner stops
	case err != nil:
		return v.excuse(database, q, err.Error())
	case work != "":
		return v.excuse(database, q, work)
	}
	return func() {}
}

// giveUp gives up the connections whose answers were lost: a way to the database that was broken for a while, or began
// anew, forgets those that were on it. began is when the database was asked something that it has answered. Who waits for
// an answer on one of them that nobody watches, or not for long enough yet, is given as long.
func (v *vigil) giveUp(ctx context.Context, database string, began time.Time) {
	dropped := v.drop(database, began.Add(-askAfter))
	if dropped == 0 {
		return
	}
	v.log.Warn(database+" answers, but not what was asked before: connections to it were lost, and are made anew", "connections", dropped)
	v.asking.Go(func() {
		if rest(ctx, askAfter); ctx.Err() == nil {
			v.drop(database, began)
		}
	})
}

// abandon gives up the connections on which an answer is waited for, from a second on until ended is closed: a driver
// waits for its server for as long as the network keeps it waiting, whatever became of the context.
func (v *vigil) abandon(ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case now := <-tick.C:
			v.drop(TheLedger, now.Add(-time.Second))
			v.drop(TheSource, now.Add(-time.Second))
		}
	}
}

// excuse needs v.mu, and returns what is to be logged without it.
func (v *vigil) excuse(database string, q *inquiry, why string) (say func()) {
	q.excused = time.Now()
	if q.said {
		return func() {}
	}
	q.said = true
	return func() { v.log.Warn(database+" is slow to answer, waiting for it", "why", why) }
}

// unanswered names the databases whose answer some loop has long waited for. It needs v.mu.
func (v *vigil) unanswered() map[string]bool {
	slow := map[string]bool{}
	for l := range v.loops {
		if database := l.unanswered(askAfter); database != "" {
			slow[database] = true
		}
	}
	return slow
}

// awaited names the databases that are away or at work for longer than is usual.
func (v *vigil) awaited() (names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for database := range v.unanswered() {
		if q := v.databases[database]; q != nil && time.Since(q.excused) < askFor+2*askEvery {
			names = append(names, database)
		}
	}
	return names
}

// stands is for how long some loop has not moved though it could, and a sentence on the one that has longest.
func (v *vigil) stands() (longest time.Duration, why string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	excused := func(database string) time.Time {
		if q := v.databases[database]; q != nil {
			return q.excused
		}
		return time.Time{}
	}
	for l := range v.loops {
		if d, text := l.stands(excused); d > longest {
			longest, why = d, text
		}
	}
	return longest, why
}
