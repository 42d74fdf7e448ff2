package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options of a Runner. Ledger, Sources, Sink, Log and Unavailable are required.
type Options struct {
	Ledger      Ledger
	Sources     []Source // one a stream
	Sink        Sink
	Log         *slog.Logger
	Unavailable func(error) bool // whether an error of Ledger or a Source is one that waiting mends
	Refused     func(error) bool // whether such an error is a refusal of a database that is there; nil: none is

	Workers     int           // requests under way together
	PerWebhook  int           // requests under way for one webhook
	GiveUpAfter time.Duration // 0: never
	Retention   time.Duration // of attempts and runs; 0: for ever
	Patience    time.Duration // how long a database that is away, or silent, is waited for; 0: for ever
	Grace       time.Duration // how long requests under way may take to end when the runner stops; default 15s
	LeaseTTL    time.Duration // default 30s
	Poll        time.Duration // how often what other processes did is looked for; default 1s
	SourcePoll  time.Duration // how often immediate mode looks when nothing wakes it; default 10s

	// Ask asks a database that is slow to answer (TheLedger, TheSource or what Await was told), over a connection
	// of its own, whether it is there, and what it is at work at for this process; "" is nothing. nil: it is there, and at
	// work at nothing.
	Ask func(ctx context.Context, database string) (work string, err error)
	// Drop gives up the connections to a database that have waited for an answer since before then, and counts them. It
	// is called where the database has answered Ask since, and is at work at nothing; where it has answered nobody for
	// Patience; and where a runner has stopped and still waits for it. nil: it can give up none.
	Drop func(database string, then time.Time) int

	ReconcileAt   *Schedule // when Serve reconciles; nil: never
	ReconcileDays int       // how far back it then looks
}

// A Runner gathers, pushes, settles and retries. One runner serves, or does one run; several, in one process or many,
// work on one ledger side by side.
type Runner struct {
	o          Options
	log        *slog.Logger
	wait       *waiter
	holder     *holder
	pool       *pool
	settler    *settler
	sources    map[string]Source
	turns      map[string]chan struct{} // by type: whoever fills it scans the stream, one at a time
	wake       chan struct{}            // something fell due, or may have
	moved      chan struct{}            // outcomes were settled
	begun      chan Run                 // by Start: to be read for
	refreshing chan struct{}            // whoever fills it reads the webhooks
	stopped    chan struct{}            // a webhook's state may be another
	vigil      *vigil
	bulletin   *bulletin
	claims     sync.Mutex // held from a claim until what it gave is with the workers

	mu        sync.Mutex
	roster    *roster
	lastFire  map[string]time.Time // by schedule key: the last fire that this process has seen to
	fireAgain map[string]time.Time // the dispatcher's, by schedule key: when a fire that failed is tried again
	runs      []*activeRun         // that this process gathers for
	said      map[string]said      // by what was being done
	judged    map[string]int       // failures that were recorded, by webhook, since its state was last looked at
	serving   bool
	chores    sync.WaitGroup // gathers under way
}

const (
	pageSize   = 512 // rows read and keys entered at once
	queueLimit = 2 * pageSize
	totalLimit = 8 * pageSize
	pageBytes  = 8 << 20                // of the bodies that a page hands to the workers, about
	byteLimit  = 32 << 20               // of bodies that wait or are on their way
	patience   = 250 * time.Millisecond // how long a page waits for room in queues that move
)

// NewRunner makes a runner; it does nothing before Serve or RunNow.
func NewRunner(o Options) *Runner {
	for value, fallback := range map[*time.Duration]time.Duration{
		&o.Grace: 15 * time.Second, &o.LeaseTTL: 30 * time.Second, &o.Poll: time.Second, &o.SourcePoll: 10 * time.Second,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	r := &Runner{
		o: o, log: o.Log,
		pool:    newPool(o.PerWebhook, queueLimit, totalLimit),
		sources: map[string]Source{}, turns: map[string]chan struct{}{},
		wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), stopped: make(chan struct{}, 1), begun: make(chan Run), refreshing: make(chan struct{}, 1), bulletin: newBulletin(o.Log),
		lastFire: map[string]time.Time{}, fireAgain: map[string]time.Time{}, said: map[string]said{}, judged: map[string]int{},
	}
	r.vigil = newVigil(o.Log, o.Ask, o.Drop, o.Patience)
	r.pool.workers = o.Workers
	r.wait = newWaiter(o.Log, o.Unavailable, o.Patience)
	r.wait.refused = o.Refused
	r.holder = newHolder(o.Ledger, r.wait, o.LeaseTTL, o.Log)
	r.settler = newSettler(o.Ledger, r.wait, r.settled, r.notSettled)
	for _, s := range o.Sources {
		r.sources[s.Type()] = s
		r.turns[s.Type()] = make(chan struct{}, 1)
	}
	return r
}

// Serve gathers on schedule and at once, pushes and retries until ctx ends. Then it takes no more, waits for the
// requests under way, at most Options.Grace, records them and returns nil, or, where the ledger does not come back in
// time, an UnrecordedError. It calls ready when its loops run.
func (r *Runner) Serve(ctx context.Context, ready func()) error {
	r.serving = true
	return r.session(ctx, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return r.dispatchAll(ctx) })
		g.Go(func() error { return r.keepHouse(ctx) })
		g.Go(func() error { return r.takeBegun(ctx) })
		g.Go(func() error { return r.keepReconciled(ctx) })
		for _, s := range r.o.Sources {
			g.Go(func() error { return r.follow(ctx, s) })
		}
		ready()
		err := g.Wait()
		r.chores.Wait()
		return err
	})
}

// recordWithin is how long a runner that stops waits for a ledger that is away, once its requests have ended. A service
// manager has its patience, too.
const recordWithin = 10 * time.Second

// session runs body with a lease, workers and a settler, and stops them in order.
func (r *Runner) session(ctx context.Context, body func(context.Context) error) error {
	if _, err := r.refresh(ctx); err != nil {
		return err
	}
	if err := r.holder.take(ctx); err != nil {
		return fmt.Errorf("take a lease in the ledger: %w", err)
	}
	// What was asked is answered and recorded while stopping too: none of this ends with ctx.
	pushing, callOff := context.WithCancel(context.WithoutCancel(ctx))
	defer callOff()
	recording, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var keeper, workers, settling sync.WaitGroup
	watched := func(name string, f func(context.Context)) func() {
		loop := r.vigil.begin(name)
		return func() {
			defer loop.End()
			f(loop.in(recording))
		}
	}
	keeper.Go(watched("the keeping of the lease", r.holder.keep))
	keeper.Go(watched("the watching of webhooks' states", r.watchStates))
	keeper.Go(func() { r.vigil.keep(recording) })
	settling.Go(watched("the settling of outcomes", r.settler.run))
	for range r.o.Workers {
		workers.Go(func() { r.work(pushing) })
	}

	// The time to stop in begins when stopping does: body, and then the workers, may be waiting for a ledger that is
	// away to take what they have to record.
	var grace, last *time.Timer
	stopping := sync.OnceFunc(func() {
		grace, last = time.AfterFunc(r.o.Grace, callOff), time.AfterFunc(r.o.Grace+recordWithin, abandon)
	})
	defer context.AfterFunc(ctx, stopping)()
	var abandoning sync.WaitGroup
	defer abandoning.Wait()
	ended := make(chan struct{})
	defer close(ended)
	abandoning.Go(func() {
		select {
		case <-ended:
		case <-recording.Done():
			r.vigil.abandon(ended) // who waits for an answer then, waits for nothing
		}
	})

	err := body(ctx)

	r.pool.close() // take no more,
	stopping()     // wait for what is in flight, at most the grace,
	workers.Wait() // then call it off, and still wait;
	soon := time.AfterFunc(recordWithin, abandon)
	close(r.settler.in)
	settling.Wait() // and record what was answered, if the ledger is there in time.
	soon.Stop()
	r.bulletin.flush(true)
	if drop := r.o.Ledger.DropLease(recording, r.holder.current()); drop != nil && err == nil {
		err = fmt.Errorf("drop the lease: %w", drop)
	}
	grace.Stop()
	last.Stop()
	abandon()
	keeper.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	if r.settler.lost != nil {
		if err != nil && r.o.Unavailable(err) {
			err = nil // it is why that is lost, and was said
		}
		err = errors.Join(r.settler.lost, err)
	}
	return err
}

// work pushes jobs until the pool closes.
func (r *Runner) work(ctx context.Context) {
	for {
		j, ok := r.pool.next()
		if !ok {
			return
		}
		loop := r.vigil.begin("a push to webhook " + j.webhook.ID)
		r.push(loop.in(ctx), j)
		loop.End()
		r.pool.done(j.delivery.Webhook, len(j.body))
	}
}

// push makes one attempt and hands on its outcome.
func (r *Runner) push(ctx context.Context, j job) {
	defer func() { // a panic costs its own record an attempt, and nobody else anything
		if p := recover(); p != nil {
			r.log.Error("panic while pushing", "webhook", j.webhook.ID, "delivery", j.delivery.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			now := r.o.Ledger.Now()
			r.settler.record(ctx, r.refused(j, &RefusedError{Reason: errInternal}, now, now))
		}
	}()
	if !r.holder.holds(ctx, j.delivery.Lease) {
		return // another process has it, or will: no attempt was made
	}
	if now := r.webhooks().byID[j.webhook.ID]; now != nil && now.State != Active && !j.probe {
		r.settler.record(ctx, putBack(j.delivery, r.o.Ledger.Now())) // it was stopped meanwhile
		return
	}
	began := r.o.Ledger.Now()
	loopOf(ctx).Pause(r.o.Grace) // in which it ends when stopping, so it may take as long at any time
	answer, err := r.o.Sink.Push(ctx, Request{Webhook: j.webhook, ID: j.delivery.ID, Body: j.body, Attempt: j.delivery.Attempts + 1})
	now := r.o.Ledger.Now()
	var refusal *RefusedError
	switch {
	case err == nil:
		r.pool.answered(j.webhook.ID)
		r.settler.record(ctx, acknowledged(j.delivery, answer, began, now))
	case errors.As(err, &refusal):
		if refusal.Fault != FaultRecord {
			r.pool.failed(j.webhook.ID)
		}
		r.settler.record(ctx, r.refused(j, refusal, began, now))
	case ctx.Err() != nil: // called off with its outcome unknown: dropping the lease makes it owed again
	default:
		r.log.Error("push failed in an unknown way", "webhook", j.webhook.ID, "delivery", j.delivery.ID, "error", err)
		r.settler.record(ctx, r.refused(j, &RefusedError{Reason: errInternal}, began, now))
	}
}

func (r *Runner) refused(j job, refusal *RefusedError, began, now time.Time) Outcome {
	oneRound, giveUpAfter := r.o.Sink.OneRound(j.webhook.Dialect), r.o.GiveUpAfter
	if j.probe { // while its webhook is held the time stands still
		giveUpAfter = 0
	}
	return refused(j.delivery, refusal, j.webhook.RetryAt, began, now, r.fireAfter(j.webhook, now), giveUpAfter, oneRound)
}

// settled tells those who wait for outcomes, and says what they were.
func (r *Runner) settled(batch []Outcome, held []bool) {
	kinds := map[notice]int{}
	for i, o := range batch {
		d := &o.Delivery
		switch {
		case !held[i]:
			kinds[notice{slog.LevelWarn, "outcomes came after their records were taken back; those still owed are sent again", "", ""}]++
		case o.Attempt != nil && o.Attempt.Error != "":
			kinds[notice{slog.LevelWarn, "not delivered", d.Webhook, o.Attempt.Error}]++
		case d.State == Dead:
			kinds[notice{slog.LevelWarn, "not delivered", d.Webhook, string(d.Reason)}]++
		case d.TestAnswer:
			kinds[notice{slog.LevelWarn, "acknowledged as a test request; some CRMs drop such records", d.Webhook, ""}]++
		case d.State == Delivered:
			kinds[notice{slog.LevelInfo, "delivered", d.Webhook, ""}]++
		}
	}
	r.bulletin.note(kinds)
	ro := r.webhooks()
	for i := range batch {
		o := &batch[i]
		if o.Attempt == nil {
			continue
		}
		w := ro.byID[o.Delivery.Webhook]
		if o.Attempt.Fault != FaultRecord {
			r.mu.Lock()
			r.judged[o.Delivery.Webhook]++
			r.mu.Unlock()
		} else if w == nil || w.State != Held {
			continue
		}
		nudge(r.stopped) // the ledger may have stopped a webhook, or let it go
	}
	nudge(r.moved)
	if slices.ContainsFunc(batch, func(o Outcome) bool { return o.Delivery.State != Dead || o.Newer != nil }) {
		nudge(r.wake) // a retry has its time, or an acknowledgement made spent records due
	}
}

// notSettled says that outcomes were not recorded, and are tried again.
func (r *Runner) notSettled(err error) {
	r.sayOnce("outcomes could not be recorded; trying again", "", err)
}

// nudge leaves one token in c.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// firesSeen are the last fires that were seen to, by schedule key.
func (r *Runner) firesSeen() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.lastFire)
}

// nextFire is when w's schedule fires next, after the last of the fires that were seen: one that is due and was not
// seen yet counts as the next, so that a record read just then does not wait for the one after.
func (r *Runner) nextFire(w *Webhook, seen map[string]time.Time, now time.Time) time.Time {
	s := r.webhooks().schedules[w.ID]
	if s == nil { // w is of an older roster
		return now
	}
	last, ok := seen[s.Key()]
	if !ok {
		last = now
	}
	return s.Next(last)
}

// fireAfter is when w's schedule fires next after now.
func (r *Runner) fireAfter(w *Webhook, now time.Time) time.Time {
	if s := r.webhooks().schedules[w.ID]; s != nil {
		return s.Next(now)
	}
	return now.Add(unreadable)
}

// Stalled says what has not moved for so long though it could: a loop that does not come round, or fails all the time, or
// records that wait for workers that wait for records. "" while all is well, and while all that does not move waits for a
// database that is away or at work, or for a CRM.
func (r *Runner) Stalled(after time.Duration) string {
	longest, why := r.vigil.stands()
	if d := r.pool.stands(); d > longest {
		longest, why = d, fmt.Sprintf("records and workers have waited for each other for %v", d.Round(time.Second))
	}
	if longest <= after {
		return ""
	}
	return why
}

// Awaited names the databases that the runner waits for, because they are away or slow to answer.
func (r *Runner) Awaited() []string {
	names := append(r.wait.awaited(), r.vigil.awaited()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// Refused says which database is there and has refused everything for longer than after, and why; "" while none has. A
// restart does not mend it.
func (r *Runner) Refused(after time.Duration) string { return r.wait.refusing(after) }

// Watch takes a goroutine into what Stalled tells of, until the loop's End. It works with the context returned, and says
// when it pauses.
func (r *Runner) Watch(ctx context.Context, name string) (context.Context, *Loop) {
	loop := r.vigil.begin(name)
	return loop.in(ctx), loop
}
