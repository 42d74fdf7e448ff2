package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

func events(w *jobs.Webhook)    { w.Dialect = "events" }
func immediate(w *jobs.Webhook) { w.Immediate = true }

func versionedBench(t testing.TB, hooks ...jobs.Webhook) *bench {
	b := newBench(t)
	b.leads.versioned = true
	b.provision(hooks...)
	b.hooks = hooks
	return b
}

// bodies are what was sent to a webhook, in order.
func (c *crm) bodies(webhook string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, a := range c.attempts {
		if a.webhook == webhook {
			all = append(all, a.body)
		}
	}
	return all
}

// TestVersionsOnSchedule: changes between two scans are one, and what was acknowledged before goes as an update.
func TestVersionsOnSchedule(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(b *bench)
		want []string
	}{
		"an edit before delivery": {func(b *bench) {
			b.leads.add("bot", 1)
			b.leads.change("1", nil)
			b.runNow(false)
		}, []string{"Lead 1 create 2"}},
		"an edit after delivery": {func(b *bench) {
			b.leads.add("bot", 1)
			b.runNow(false)
			b.leads.change("1", nil)
			b.leads.change("1", nil)
			b.runNow(false)
		}, []string{"Lead 1 create 1", "Lead 1 update 3"}},
		"an edit after delivery failed": {func(b *bench) {
			b.leads.add("bot", 1)
			b.crm.answer = refuse
			b.runNow(true)
			b.crm.answer = nil
			b.leads.change("1", nil)
			b.runNow(false)
			b.leads.change("1", nil)
			b.runNow(false)
		}, []string{"Lead 1 create 1", "Lead 1 create 2", "Lead 1 update 3"}},
		"an edit between two attempts": {func(b *bench) {
			b.leads.add("bot", 1)
			b.crm.answer = func(a attempt) error {
				if a.body == "Lead 1 create 1" {
					b.leads.change("1", nil)
					return refuse(a)
				}
				return nil
			}
			b.runNow(false)
		}, []string{"Lead 1 create 1", "Lead 1 create 2"}},
		"a removal after delivery": {func(b *bench) {
			b.leads.add("bot", 1)
			b.runNow(false)
			b.leads.change("1", func(r *jobs.Record) { r.Action = jobs.ActionRemove })
			b.runNow(false)
		}, []string{"Lead 1 create 1", "Lead 1 remove 2"}},
		"a removal before delivery": {func(b *bench) {
			b.leads.add("bot", 1)
			b.leads.change("1", func(r *jobs.Record) { r.Action = jobs.ActionRemove })
			b.runNow(false)
		}, nil},
		"a row that another chatbot was given": {func(b *bench) {
			b.leads.add("bot", 1)
			b.serve(time.Minute) // entered, and due at the next fire
			b.leads.change("1", func(r *jobs.Record) { r.Chatbot = "another" })
			b.runNow(false)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := versionedBench(t, hook("acme", events), hook("eager", immediate, func(w *jobs.Webhook) { w.Chatbots = []string{"nobody"} }))
				defer b.close()
				tt.do(b)
				if diff := cmp.Diff(tt.want, b.crm.bodies("acme")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				for _, d := range b.deliveries() {
					if d.State != jobs.Delivered && d.State != jobs.Dead {
						t.Errorf("version %s is %s", d.Version, d.State)
					}
				}
			})
		})
	}
}

func (b *bench) deliveries() []jobs.Delivery {
	b.t.Helper()
	all, _, err := b.ledger.Deliveries(context.Background(), ledger.Filter{Limit: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// TestRunTakesChangesOn: a run's counts hold whatever versions took each other's places.
func TestRunTakesChangesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := versionedBench(t, hook("acme", events))
		defer b.close()
		b.leads.hold = time.Second
		start := time.Now()
		b.leads.add("bot", 20)
		var n atomic.Int64
		b.crm.answer = func(a attempt) error {
			if n.Add(1)%3 == 0 {
				b.leads.change(strings.Fields(a.body)[1], nil)
				return refuse(a)
			}
			return nil
		}
		run := b.runNow(false)
		if run.Gathered+run.Carried != 20 || run.Delivered != 20 || run.Pending() != 0 || run.Dead != 0 {
			t.Errorf("run: %+v", run)
		}
		if first := b.crm.attempts[0].at.Sub(start); first < time.Second {
			t.Errorf("sent %v after it was seen", first)
		}
	})
}

// TestHold: a version that another change may leave as it is is not sent until it can be told apart, and is then sent
// as the row is.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := versionedBench(t, hook("acme", events, immediate))
		defer b.close()
		b.leads.hold = time.Second
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- b.runner().Serve(ctx, func() {}) }()
		synctest.Wait()
		start := time.Now()
		b.leads.add("bot", 1)
		time.Sleep(10 * time.Second)
		if at := b.crm.times("acme", start); !slices.Equal(at, []time.Duration{time.Second}) {
			t.Errorf("sent after %v", at)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestEvents: webhooks that want some events only.
func TestEvents(t *testing.T) {
	for name, tt := range map[string]struct {
		events []string
		want   []string
	}{
		"all":           {nil, []string{"Lead 1 create 1", "Lead 1 update 2", "Lead 1 remove 3"}},
		"new rows":      {[]string{"Lead.create"}, []string{"Lead 1 create 1"}},
		"changes":       {[]string{"Lead.update"}, []string{"Lead 1 update 2"}},
		"removals":      {[]string{"Lead.remove"}, []string{"Lead 1 remove 3"}}, // of rows that it was never told of, since it hears of no new ones
		"but removals":  {[]string{"Lead.create", "Lead.update"}, []string{"Lead 1 create 1", "Lead 1 update 2"}},
		"of other rows": {[]string{"Note.create"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := versionedBench(t, hook("acme", events, func(w *jobs.Webhook) { w.Events = tt.events }))
				defer b.close()
				b.leads.add("bot", 1)
				b.runNow(false)
				time.Sleep(time.Second)
				b.leads.change("1", nil)
				b.runNow(false)
				b.leads.change("1", func(r *jobs.Record) { r.Action = jobs.ActionRemove })
				b.runNow(false)
				if diff := cmp.Diff(tt.want, b.crm.bodies("acme")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestVersionsUnderEdits: many rows are changed and deleted while a daemon pushes them to a CRM that fails one attempt
// in five. No two versions of a row are under way at once, each row is told of in order, and in the end as it is.
func TestVersionsUnderEdits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := versionedBench(t, hook("acme", events, immediate))
		defer b.close()
		r, edits := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4)) // each of one goroutine, or under mu
		var mu sync.Mutex
		under, there, last := map[string]bool{}, map[string]bool{}, map[string]string{}
		b.crm.answer = func(a attempt) error {
			var row, action, version string
			if _, err := fmt.Sscanf(a.body, "Lead %s %s %s", &row, &action, &version); err != nil {
				t.Error(err)
			}
			mu.Lock()
			if under[row] {
				t.Errorf("two versions of row %s are under way", row)
			}
			under[row] = true
			pause, fails := time.Duration(r.IntN(900))*time.Millisecond, r.IntN(5) == 0
			mu.Unlock()
			time.Sleep(pause)
			mu.Lock()
			defer mu.Unlock()
			delete(under, row)
			if fails {
				return refuse(a)
			}
			if there[row] != (action != jobs.ActionCreate) && !(action == jobs.ActionRemove) {
				t.Errorf("row %s: %s, and the CRM has it: %v", row, action, there[row])
			}
			there[row], last[row] = action != jobs.ActionRemove, version
			return nil
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- b.runner().Serve(ctx, func() {}) }()
		synctest.Wait()
		rows := b.leads.add("bot", 12)
		now := map[string]string{}
		removed := map[string]bool{}
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			row := rows[edits.IntN(len(rows))]
			gone := edits.IntN(6) == 0
			now[row] = b.leads.change(row, func(rec *jobs.Record) {
				rec.Action = jobs.ActionCreate
				if gone {
					rec.Action = jobs.ActionRemove
				}
			})
			removed[row] = gone
		}
		time.Sleep(3 * 24 * time.Hour)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, row := range rows {
			if there[row] == removed[row] {
				t.Errorf("row %s is removed: %v, and the CRM has it: %v", row, removed[row], there[row])
			}
			if want := now[row]; there[row] && last[row] != want {
				t.Errorf("row %s: the CRM has version %s, want %s", row, last[row], want)
			}
		}
		for state, n := range b.states() {
			if !strings.HasPrefix(state, "dead superseded") && state != "delivered" && state != "dead withdrawn" {
				t.Errorf("%d are %s", n, state)
			}
		}
	})
}
