package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// another is a process beside the runner, which is sending these rows, and is as long as it lives reached by nobody.
type another struct {
	b     *bench
	lease string
	rows  []string
}

func (b *bench) another(webhook string, rows ...string) *another {
	b.t.Helper()
	return &another{b: b, lease: b.leased(webhook, rows...), rows: rows}
}

// keep renews its lease until ctx ends, unless the ledger is away.
func (p *another) keep(ctx context.Context, away func() bool) {
	for ctx.Err() == nil {
		if !away() {
			if err := p.b.ledger.KeepLease(context.Background(), p.lease, 30*time.Second); err != nil {
				p.b.t.Errorf("a process that lives lost its lease: %v", err)
				return
			}
		}
		time.Sleep(5 * time.Second)
	}
}

// settle records that its rows are delivered.
func (p *another) settle() {
	var outcomes []jobs.Outcome
	for _, row := range p.rows {
		key := jobs.Key{Webhook: "acme", Type: "Lead", Row: row, Action: jobs.ActionCreate}
		outcomes = append(outcomes, jobs.Outcome{Lease: p.lease, Delivery: jobs.Delivery{
			ID: key.ID(), Key: key, Chatbot: "bot", State: jobs.Delivered, Attempts: 1, SettledAt: p.b.ledger.Now(),
		}, Attempt: &jobs.Attempt{At: p.b.ledger.Now(), Status: 200}})
	}
	held, err := p.b.ledger.Settle(context.Background(), outcomes)
	if err != nil {
		p.b.t.Error(err)
	}
	for i := range held {
		if !held[i] {
			p.b.t.Errorf("what a process that lives has sent of row %s counts for nothing", p.rows[i])
		}
	}
}

// TestAfterAnOutage: when the ledger was away for longer than a lease lasts, the process that finds it back first sends
// nothing of what another one that lives is sending; what a dead one left comes a little later.
func TestAfterAnOutage(t *testing.T) {
	for name, lives := range map[string]bool{"another that lives": true, "another that died": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme"))
				defer b.close()
				start := time.Now()
				away := func() bool { at := time.Since(start); return at > time.Minute && at < 3*time.Minute }
				l := &flawed{Ledger: b.ledger, away: away}
				p := b.another("acme", b.leads.add("bot", 3)...)
				ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
				defer cancel()
				if lives {
					go p.keep(ctx, func() bool { at := time.Since(start); return at > 50*time.Second && at < 185*time.Second })
				} else {
					go p.keep(ctx, func() bool { return time.Since(start) > 50*time.Second })
				}
				var settled time.Duration
				go func() {
					time.Sleep(195 * time.Second)
					if lives {
						p.settle()
					}
					for b.states()["delivered"] < 3 && ctx.Err() == nil {
						time.Sleep(time.Second)
					}
					settled = time.Since(start)
				}()
				b.serve(4*time.Minute, l.use, func(o *jobs.Options) { o.LeaseTTL, o.Poll = 30*time.Second, time.Second })
				want := map[string]int{}
				if !lives {
					want = once("Lead", p.rows...)
				}
				if diff := cmp.Diff(want, b.crm.got("acme")); diff != "" {
					t.Errorf("sent again (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(map[string]int{"delivered": 3}, b.states()); diff != "" {
					t.Errorf("states (-want +got):\n%s", diff)
				}
				if settled > 220*time.Second {
					t.Errorf("they were delivered after %v", settled)
				}
				time.Sleep(10 * time.Second)
			})
		})
	}
}

// TestBegunAfterAnOutage: a process that begins when the ledger has just come back knows of no outage, and sends nothing of
// what others that live are sending; what a dead one left it sends, be it that it waits for no retries.
func TestBegunAfterAnOutage(t *testing.T) {
	for name, c := range map[string]struct{ lives, noWait bool }{
		"another that lives":              {true, false},
		"another that lives, not waiting": {true, true},
		"another that died":               {false, false},
		"another that died, not waiting":  {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme"))
				defer b.close()
				p := b.another("acme", b.leads.add("bot", 3)...)
				time.Sleep(time.Hour) // and the ledger is back
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				began := time.Now()
				if c.lives {
					go func() {
						time.Sleep(5 * time.Second)
						p.keep(ctx, func() bool { return false })
					}()
					time.AfterFunc(50*time.Second, p.settle)
				}
				run, err := b.runner(func(o *jobs.Options) { o.LeaseTTL, o.Poll = 30*time.Second, time.Second }).RunNow(ctx, jobs.Scope{}, c.noWait, nil)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				want, gathered, elsewhere, within := once("Lead", p.rows...), 3, 0, 33*time.Second
				switch {
				case c.lives && c.noWait:
					want, gathered, elsewhere, within = map[string]int{}, 0, 3, 10*time.Second
				case c.lives:
					want, gathered, within = map[string]int{}, 0, 55*time.Second
				}
				if diff := cmp.Diff(want, b.crm.got("acme")); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if run.Gathered != gathered || run.Delivered != gathered || run.Elsewhere != elsewhere || took > within {
					t.Errorf("after %v: %+v", took, run)
				}
				cancel()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestStoppedWhileTheLedgerIsAway: a run by hand that gives up waiting for the ledger says so once, and does not keep to
// itself that a stream is stopped, and what to do about that.
func TestStoppedWhileTheLedgerIsAway(t *testing.T) {
	for name, gaveUp := range map[string]func(start time.Time) error{
		"the reading of another stream gives up":    func(time.Time) error { return errAway },
		"the reading of another stream is given up": func(start time.Time) error { time.Sleep(time.Minute); return errAway },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme"))
				defer b.close()
				if err := b.ledger.EnterStream(context.Background(), "Appointment", "table", "0"); err != nil {
					t.Fatal(err)
				}
				appointments := newTable("Appointment")
				appointments.add("bot", 1)
				b.leads.fail = func() error { return jobs.ErrRestored }
				start := time.Now()
				l := &flawed{Ledger: b.ledger, enter: func(jobs.Entries) error { return gaveUp(start) }, run: func() error {
					if time.Since(start) > time.Second {
						return errAway
					}
					return nil
				}}
				_, err := b.runner(l.use, func(o *jobs.Options) {
					o.Sources = append(o.Sources, appointments)
					o.Poll, o.Patience = time.Second, 10*time.Second
				}).RunNow(context.Background(), jobs.Scope{}, false, nil)
				if stopped, ok := errors.AsType[*jobs.StoppedError](err); !ok || stopped.Type != "Lead" {
					t.Errorf("it does not say that a stream is stopped: %v", err)
				}
				if n := strings.Count(err.Error(), errAway.Error()); n != 1 {
					t.Errorf("it says %d times that the ledger is away: %v", n, err)
				}
			})
		})
	}
}

// TestTakenOverUnheard: a run that was taken over from a dead process ends, though the ledger's answer to that was lost.
func TestTakenOverUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		ctx := context.Background()
		dead, err := b.ledger.TakeLease(ctx, "another process", 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		run, _, err := b.ledger.StartRun(ctx, jobs.RunStart{Kind: jobs.Scheduled, Lease: dead, Schedule: "@daily UTC", FireAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		lost := false
		l := &flawed{Ledger: b.ledger, orphans: func(runs []jobs.Run) error {
			if len(runs) > 0 && !lost {
				lost = true
				return errAway
			}
			return nil
		}}
		b.serve(2*time.Minute, l.use, shortLease, func(o *jobs.Options) { o.Poll = time.Second })
		if run, err = b.ledger.Run(ctx, run.ID); err != nil {
			t.Fatal(err)
		}
		if !lost || run.EndedAt.IsZero() {
			t.Errorf("the answer was lost: %v; the run: %+v", lost, run)
		}
	})
}
