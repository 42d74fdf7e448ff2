package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// An interrupter is told of each call of a database, and may keep it or let it fail.
type interrupter struct {
	mu       sync.Mutex
	do       map[string]func(ctx context.Context) error // by method
	released map[string]chan struct{}
}

func (i *interrupter) set(method string, f func(context.Context) error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.do == nil {
		i.do, i.released = map[string]func(context.Context) error{}, map[string]chan struct{}{}
	}
	if was := i.released[method]; was != nil {
		close(was)
	}
	i.do[method], i.released[method] = f, make(chan struct{})
}

func (i *interrupter) call(ctx context.Context, method string) error {
	i.mu.Lock()
	f, released := i.do[method], i.released[method]
	i.mu.Unlock()
	if f == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-released:
			cancel()
		case <-ctx.Done():
		}
	}()
	return f(ctx)
}

// What databases may do instead of what they are asked for.
func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
func breaks(context.Context) error    { return errors.New("permission denied for table deliveries") }
func isAway(context.Context) error    { return errAway }

var errNothing = errors.New("found nothing")

func findsNothing(context.Context) error { return errNothing }

// takes is slow.
func takes(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

type interruptedLedger struct {
	*ledger.Ledger
	*interrupter
}

func (l interruptedLedger) Claim(ctx context.Context, c jobs.Claim) ([]jobs.Delivery, error) {
	if err := l.call(ctx, "Claim"); err != nil {
		if errors.Is(err, errNothing) {
			err = nil
		}
		return nil, err
	}
	return l.Ledger.Claim(ctx, c)
}

func (l interruptedLedger) NextDue(ctx context.Context, webhooks []string) (time.Time, error) {
	if err := l.call(ctx, "NextDue"); err != nil {
		return time.Time{}, err
	}
	return l.Ledger.NextDue(ctx, webhooks)
}

func (l interruptedLedger) Claimable(ctx context.Context, webhooks []string) (time.Time, error) {
	if err := l.call(ctx, "Claimable"); err != nil {
		if errors.Is(err, errNothing) {
			err = nil
		}
		return time.Time{}, err
	}
	return l.Ledger.Claimable(ctx, webhooks)
}

func (l interruptedLedger) Settle(ctx context.Context, o []jobs.Outcome) ([]bool, error) {
	if err := l.call(ctx, "Settle"); err != nil {
		return nil, err
	}
	return l.Ledger.Settle(ctx, o)
}

func (l interruptedLedger) KeepLease(ctx context.Context, lease string, ttl time.Duration) error {
	if err := l.call(ctx, "KeepLease"); err != nil {
		return err
	}
	return l.Ledger.KeepLease(ctx, lease, ttl)
}

func (l interruptedLedger) Reclaim(ctx context.Context, own ...string) (int, error) {
	if err := l.call(ctx, "Reclaim"); err != nil {
		return 0, err
	}
	return l.Ledger.Reclaim(ctx, own...)
}

func (l interruptedLedger) Prune(ctx context.Context, before time.Time) error {
	if err := l.call(ctx, "Prune"); err != nil {
		return err
	}
	return l.Ledger.Prune(ctx, before)
}

func (l interruptedLedger) Enter(ctx context.Context, e jobs.Entries) ([]bool, error) {
	if err := l.call(ctx, "Enter"); err != nil {
		return nil, err
	}
	return l.Ledger.Enter(ctx, e)
}

func (l interruptedLedger) StartRun(ctx context.Context, s jobs.RunStart) (jobs.Run, bool, error) {
	if err := l.call(ctx, "StartRun"); err != nil {
		return jobs.Run{}, false, err
	}
	return l.Ledger.StartRun(ctx, s)
}

func (l interruptedLedger) GatherDone(ctx context.Context, id string) error {
	if err := l.call(ctx, "GatherDone"); err != nil {
		return err
	}
	return l.Ledger.GatherDone(ctx, id)
}

type interruptedTable struct {
	*table
	*interrupter
}

func (s interruptedTable) After(ctx context.Context, b jobs.Bookmark, limit int) (jobs.Page, error) {
	if err := s.call(ctx, "After"); err != nil {
		return jobs.Page{}, err
	}
	return s.table.After(ctx, b, limit)
}

func (s interruptedTable) Older(ctx context.Context, cursor, until jobs.Bookmark, chatbots []string, since, before time.Time, limit int) (jobs.Page, error) {
	if err := s.call(ctx, "Older"); err != nil {
		return jobs.Page{}, err
	}
	return s.table.Older(ctx, cursor, until, chatbots, since, before, min(limit, 50))
}

func (s interruptedTable) Read(ctx context.Context, rows []string) (records []jobs.Record, left []string, err error) {
	if err := s.call(ctx, "Read"); err != nil {
		return nil, nil, err
	}
	return s.table.Read(ctx, rows)
}

func (s interruptedTable) Wait(ctx context.Context, poll time.Duration) error {
	if err := s.call(ctx, "Wait"); err != nil {
		return err
	}
	return s.table.Wait(ctx, poll)
}

// A watched is a daemon on a bench whose databases can be interrupted.
type watched struct {
	*bench
	interrupter
	runner  *jobs.Runner
	log     lockedBuffer
	reader  func(text string) // of each line, if there is one
	ask     func(ctx context.Context, database string) (string, error)
	drop    func(database string, then time.Time) int
	pushing context.Context // ends with the daemon
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const grace = 15 * time.Second // of a push

// watch readies a daemon such as the program's for a table of so many rows; start starts it.
func watch(t *testing.T, rows int, hooks ...jobs.Webhook) *watched {
	t.Helper()
	w := &watched{bench: newBench(t)}
	w.leads.add("bot", rows)
	w.provision(hooks...)
	w.runner = w.bench.runner(func(o *jobs.Options) {
		o.Ledger = interruptedLedger{w.ledger, &w.interrupter}
		o.Sources = []jobs.Source{interruptedTable{w.leads, &w.interrupter}}
		o.Poll, o.LeaseTTL, o.SourcePoll, o.Grace, o.Retention = 5*time.Second, 30*time.Second, 10*time.Second, grace, 24*time.Hour
		o.Log = slog.New(logger{slog.NewTextHandler(&w.log, nil), &w.reader})
		o.Ask = func(ctx context.Context, database string) (string, error) {
			if w.ask == nil {
				return "", nil
			}
			return w.ask(ctx, database)
		}
		o.Drop = func(database string, then time.Time) int {
			if w.drop == nil {
				return 0
			}
			return w.drop(database, then)
		}
	})
	return w
}

func (w *watched) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w.pushing = ctx
	ended := make(chan error, 1)
	go func() { ended <- w.runner.Serve(ctx, func() {}) }()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.As(err, new(*jobs.UnrecordedError)) && !errors.Is(err, context.Canceled) {
			w.t.Errorf("it ended with %v", err)
		}
		w.close()
	}
}

// stalls watches the daemon for so long as systemd does, and returns when it was first said to stand still, and why.
func (w *watched) stalls(during time.Duration) (after time.Duration, why string) {
	for began := time.Now(); time.Since(began) < during; time.Sleep(5 * time.Second) {
		if why := w.runner.Stalled(time.Minute); why != "" {
			return time.Since(began), why
		}
	}
	return 0, ""
}

func often(w *jobs.Webhook)         { w.Schedule, w.Immediate = "@every 30s", false }
func fromBeginning(w *jobs.Webhook) { w.From = jobs.FromBeginning }

// TestStandsStill: whatever part of the daemon stands still though it could move, it is said so after a minute, and why.
func TestStandsStill(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		does   func(context.Context) error
		retry  bool // a record fails at first
		change []func(*jobs.Webhook)
		want   string
	}{
		{"a claim has no answer", "Claim", hangs, false, nil, `^the dispatcher has had no answer from the ledger for 1m\d+s`},
		{"a claim fails for ever", "Claim", breaks, false, nil, `^the dispatcher has failed for 1m\d+s: claim what is due: permission denied`},
		{
			"a claim finds nothing of what is due", "Claim", findsNothing, true, nil,
			`^the claiming of what is due has failed for 1m\d+s: records are due, there is room for them, and they stay where they are`,
		},
		{"the next due time has no answer", "NextDue", hangs, false, nil, `^the dispatcher has had no answer from the ledger`},
		{"a run cannot start", "StartRun", hangs, false, []func(*jobs.Webhook){often}, `^the dispatcher has had no answer from the ledger`},
		{"runs fail to start", "StartRun", breaks, false, []func(*jobs.Webhook){often}, `^the starting of runs has failed for 1m\d+s: start the run of schedule @every 30s\b.*: permission denied`},
		{"a run's end has no answer", "GatherDone", hangs, false, []func(*jobs.Webhook){often}, `^the end of run \S+ has had no answer from the ledger`},
		{"outcomes have no answer", "Settle", hangs, false, nil, `^the settling of outcomes has had no answer from the ledger`},
		{"outcomes are refused", "Settle", breaks, false, nil, `^the settling of outcomes has failed for 1m\d+s: permission denied`},
		{"a page cannot be entered", "Enter", hangs, false, nil, `^the reading of stream Lead has had no answer from the ledger`},
		{"the source has no answer", "After", hangs, false, nil, `^the reading of stream Lead has had no answer from the source`},
		{"the source wakes nobody", "Wait", hangs, false, nil, `^the reading of stream Lead has not come round for 1m\d+s`},
		{"the rows of a retry have no answer", "Read", hangs, true, nil, `^the dispatcher has had no answer from the source`},
		{"a backfill has no answer", "Older", hangs, false, []func(*jobs.Webhook){fromBeginning}, `^the backfill of webhook acme from stream Lead has had no answer from the source`},
		{"a run's backfill has no answer", "Older", hangs, false, []func(*jobs.Webhook){fromBeginning, often}, `^the backfill of webhook acme from stream Lead has had no answer`},
		{"leases are not reclaimed", "Reclaim", hangs, false, nil, `^the housekeeping has had no answer from the ledger`},
		{"housekeeping fails for ever", "Reclaim", breaks, false, nil, `^the housekeeping has failed for 1m\d+s: permission denied`},
		{"the lease is not kept", "KeepLease", hangs, false, nil, `^the keeping of the lease has had no answer from the ledger`},
		{"the lease is refused", "KeepLease", breaks, false, nil, `^the keeping of the lease has failed for 1m\d+s: permission denied`},
		{"a push does not end", "Push", hangs, false, nil, `^a push to webhook acme has not come round for 1m\d+s`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, 100, hook("acme", append([]func(*jobs.Webhook){immediate}, c.change...)...))
				var refused sync.Once
				w.crm.answer = func(a attempt) (err error) {
					if c.retry {
						refused.Do(func() { err = refuse(a) })
					}
					return errors.Join(err, w.call(w.pushing, "Push"))
				}
				if !c.retry {
					w.set(c.method, c.does)
				}
				defer w.start()()
				time.Sleep(time.Second)
				w.leads.add("bot", 3)
				if c.retry {
					time.Sleep(time.Second)
					w.set(c.method, c.does)
					time.Sleep(time.Minute)
				}
				go func() { // whatever else goes on
					for w.pushing.Err() == nil {
						w.leads.add("bot", 1)
						rest := time.NewTimer(3 * time.Second)
						select {
						case <-rest.C:
						case <-w.pushing.Done():
							rest.Stop()
						}
					}
				}()
				after, why := w.stalls(4 * time.Minute)
				if !regexp.MustCompile(c.want).MatchString(why) {
					t.Fatalf("after %v it is said %q, want %s\n%s", after, why, c.want, &w.log)
				}
				if after < time.Minute || after > 2*time.Minute+grace {
					t.Errorf("it is said after %v", after)
				}
				if awaited := w.runner.Awaited(); len(awaited) > 0 {
					t.Errorf("it waits for %v, which is there", awaited)
				}
			})
		})
	}
}

// TestMoves: nothing stands still while a database is away, or at work, or slow by seconds, while a CRM takes its time, or
// while there is nothing to do; what is waited for is said, once.
func TestMoves(t *testing.T) {
	for _, c := range []struct {
		name    string
		method  string
		does    func(context.Context) error
		ask     func(ctx context.Context, database string) (string, error)
		change  []func(*jobs.Webhook)
		rows    int
		awaited []string
		says    string // once
	}{
		{"nothing to do", "", nil, nil, nil, 0, nil, ""},
		{"the ledger is away", "Claim", isAway, nil, nil, 0, []string{"the ledger"}, "the ledger is away, waiting for it"},
		{"the lease's ledger is away", "KeepLease", isAway, nil, nil, 0, []string{"the ledger"}, "the ledger is away, waiting for it"},
		{"the ledger is away when outcomes come", "Settle", isAway, nil, nil, 0, []string{"the ledger"}, "the ledger is away, waiting for it"},
		{"the source is away", "After", isAway, nil, nil, 0, []string{"the source"}, "the source is away, waiting for it"},
		{
			"the ledger answers nobody", "Claim", hangs, func(context.Context, string) (string, error) { return "", errAway }, nil, 0,
			[]string{"the ledger"},
			"the ledger is slow to answer, waiting for it",
		},
		{
			"the ledger does not even refuse", "Settle", hangs, func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }, nil, 0,
			[]string{"the ledger"},
			"the ledger is slow to answer, waiting for it",
		},
		{"the ledger's lease row is locked", "KeepLease", hangs, atWork, nil, 0, []string{"the ledger"}, "the ledger is slow to answer, waiting for it"},
		{"a query of a huge table", "After", takes(6 * time.Minute), atWork, nil, 0, []string{"the source"}, "the source is slow to answer, waiting for it"},
		{"the ledger is slow by seconds", "Claim", takes(9 * time.Second), nil, nil, 0, nil, ""},
		{"the ledger is slow by seconds when outcomes come", "Settle", takes(9 * time.Second), nil, nil, 0, nil, ""},
		{"the ledger does much, slowly", "Prune", func(ctx context.Context) error {
			for range 100 {
				time.Sleep(3 * time.Second)
				jobs.Heartbeat(ctx)
			}
			return nil
		}, nil, nil, 0, nil, ""},
		{"a CRM takes its time", "Push", takes(grace - time.Second), nil, nil, 0, nil, ""},
		{"a CRM is down", "Push", func(context.Context) error { return isDown(attempt{}) }, nil, nil, 0, nil, ""},
		{"a long backfill", "Older", takes(20 * time.Second), nil, []func(*jobs.Webhook){fromBeginning}, 800, nil, ""},
		{"a run's long backfill", "Older", takes(20 * time.Second), nil, []func(*jobs.Webhook){fromBeginning, often}, 800, nil, ""},
		{"a run that fails for its stream", "After", breaks, nil, []func(*jobs.Webhook){often}, 0, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, c.rows, hook("acme", append([]func(*jobs.Webhook){immediate}, c.change...)...))
				w.ask = c.ask
				w.crm.answer = func(attempt) error { return w.call(w.pushing, "Push") }
				w.set(c.method, c.does)
				defer w.start()()
				time.Sleep(time.Second)
				w.leads.add("bot", 30)
				if after, why := w.stalls(5 * time.Minute); why != "" {
					t.Errorf("after %v it is said that %s", after, why)
				}
				if diff := cmp.Diff(c.awaited, w.runner.Awaited(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("it waits for (-want +got):\n%s", diff)
				}
				if log := w.log.String(); c.says != "" && strings.Count(log, c.says) != 1 {
					t.Errorf("it does not say once %q:\n%s", c.says, log)
				}
				w.set(c.method, nil)
				time.Sleep(7 * time.Minute) // longer than any of it takes
				if awaited := w.runner.Awaited(); len(awaited) > 0 {
					t.Errorf("it still waits for %v", awaited)
				}
			})
		})
	}
}

// TestHeldByOthers: a webhook that a session of the database's holds for long, and that no claim can have for that, is no
// stall; it goes on when it is let go.
func TestHeldByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, 0, hook("acme", immediate))
		var refused sync.Once
		w.crm.answer = func(a attempt) (err error) {
			refused.Do(func() { err = refuse(a) })
			return err
		}
		defer w.start()()
		time.Sleep(time.Second)
		w.leads.add("bot", 1)
		time.Sleep(time.Second)
		w.set("Claim", findsNothing)
		w.set("Claimable", findsNothing)
		if after, why := w.stalls(10 * time.Minute); why != "" {
			t.Errorf("after %v it is said that %s", after, why)
		}
		w.set("Claim", nil)
		w.set("Claimable", nil)
		time.Sleep(10 * time.Second)
		if diff := cmp.Diff(map[string]int{"delivered": 1}, w.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

func atWork(context.Context, string) (string, error) { return "a query has been at work for 99 s", nil }

// TestLostAnswers: where a database answers others, and is at work at nothing, the connection that waits is given up, and
// the daemon goes on by itself long before it would be said to stand still. What began after the question was asked is
// given as much time.
func TestLostAnswers(t *testing.T) {
	for _, c := range []struct{ method, database string }{{"Claim", jobs.TheLedger}, {"Settle", jobs.TheLedger}, {"After", jobs.TheSource}} {
		t.Run(c.method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, 5, hook("acme", often, fromBeginning))
				lost := make(chan struct{})
				w.set(c.method, func(ctx context.Context) error {
					select {
					case <-lost: // and again with the next connection it is well
						return nil
					default:
					}
					select {
					case <-lost:
						return errAway
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				began, dropped := time.Now(), []string{}
				var mu sync.Mutex
				w.drop = func(database string, then time.Time) int {
					mu.Lock()
					defer mu.Unlock()
					dropped = append(dropped, database+" "+time.Since(then).Round(time.Second).String())
					if len(dropped) > 1 {
						return 0
					}
					close(lost)
					return 1
				}
				defer w.start()()
				if after, why := w.stalls(5 * time.Minute); why != "" {
					t.Errorf("it is said to stand still after %v: %s", after, why)
				}
				mu.Lock()
				defer mu.Unlock()
				if diff := cmp.Diff([]string{c.database + " 10s", c.database + " 10s"}, dropped); diff != "" {
					t.Errorf("given up (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(map[string]int{"delivered": 5}, w.states()); diff != "" {
					t.Errorf("after %v (-want +got):\n%s", time.Since(began), diff)
				}
				if n := strings.Count(w.log.String(), "connections to it were lost"); n != 1 {
					t.Errorf("it is said %d times:\n%s", n, w.log.String())
				}
			})
		})
	}
}

// A logger has each line read before it is written.
type logger struct {
	slog.Handler
	read *func(text string)
}

func (l logger) Handle(ctx context.Context, r slog.Record) error {
	if *l.read != nil {
		(*l.read)(r.Message)
	}
	return l.Handler.Handle(ctx, r)
}

// TestLogIsNotRead: whoever keeps the watchdog's line on a slow database waiting, a log that nobody reads, keeps nothing
// else: /healthz is answered, and records are pushed.
func TestLogIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, 0, hook("acme", immediate))
		w.ask = func(context.Context, string) (string, error) { return "a statement is at work", nil }
		var said, free bool
		w.reader = func(text string) {
			if !strings.Contains(text, "is slow to answer") {
				return
			}
			said = true
			var answered atomic.Bool
			go func() {
				w.runner.Stalled(time.Minute)
				answered.Store(true)
			}()
			for range 100_000 { // who waits for a lock stops synctest's clock
				if free = answered.Load(); free {
					return
				}
				runtime.Gosched()
			}
		}
		w.set("NextDue", hangs)
		stop := w.start()
		time.Sleep(time.Minute)
		stop()
		if !said || !free {
			t.Errorf("that the ledger is slow was said: %v; meanwhile the watchdog could be asked: %v", said, free)
		}
	})
}

// TestNothingOutlivesTheRunner: when a daemon has stopped, nothing asks its databases any more, nor gives up connections
// to them, which may be another daemon's by then.
func TestNothingOutlivesTheRunner(t *testing.T) {
	for name, ask := range map[string]func(context.Context, string) (string, error){
		"a question is open": func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return "", ctx.Err()
		},
		"connections were found lost": func(context.Context, string) (string, error) { return "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, 0, hook("acme", immediate))
				var asking, calls atomic.Int64
				w.ask = func(ctx context.Context, database string) (string, error) {
					asking.Add(1)
					defer asking.Add(-1)
					calls.Add(1)
					return ask(ctx, database)
				}
				w.drop = func(string, time.Time) int { calls.Add(1); return 1 }
				w.set("NextDue", hangs)
				stop := w.start()
				time.Sleep(16 * time.Second) // a question is asked after ten to fifteen
				before := calls.Load()
				stop()
				during := calls.Load()
				if before == 0 || asking.Load() > 0 {
					t.Errorf("of %d calls to its databases %d are open when it has stopped", during, asking.Load())
				}
				time.Sleep(time.Minute)
				if n := calls.Load() - during; n > 0 {
					t.Errorf("%d calls to its databases came after it had stopped", n)
				}
			})
		})
	}
}
