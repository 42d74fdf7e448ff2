package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/leadrelay/leadrelay/jobs"
)

// begin starts a run that must be ours.
func (s *stage) begin(start jobs.RunStart) jobs.Run {
	s.t.Helper()
	run, mine, err := s.StartRun(context.Background(), start)
	s.must(err)
	if !mine {
		s.t.Fatal("the run is another's")
	}
	if diff := cmp.Diff(run, s.run(run.ID)); diff != "" {
		s.t.Fatalf("the run as returned and as kept (-returned +kept):\n%s", diff)
	}
	return run
}

func (s *stage) end() {
	s.t.Helper()
	_, err := s.EndRuns(context.Background())
	s.must(err)
}

var counts = cmpopts.IgnoreFields(jobs.Run{}, "ID", "Kind", "Schedule", "FireAt", "StartedAt", "EndedAt", "Gathering", "Webhooks", "Types", "Chatbots")

func (s *stage) wantRun(when, id string, want jobs.Run) {
	s.t.Helper()
	got := s.run(id)
	if diff := cmp.Diff(want, got, counts); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
	if got.UnderWay() < 0 {
		s.t.Errorf("%s: %d under way", when, got.UnderWay())
	}
}

func TestRunAccounting(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		carried := s.spentAfter(lease, "acme", 0)
		run := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.wantRun("begun", run.ID, jobs.Run{Carried: 1})

		in := func(state jobs.State) jobs.Delivery {
			d := s.record("acme", state)
			d.Run, d.Lease = run.ID, lease
			return d
		}
		page := []jobs.Delivery{in(jobs.Sending), in(jobs.Sending), in(jobs.Sending), in(jobs.Sending), in(jobs.Pending), in(jobs.Dead)}
		page[5].Reason, page[5].LastError = jobs.Rejected, "SessionID is too large"
		s.enter(lease, page...)
		s.wantRun("gathered", run.ID, jobs.Run{Carried: 1, Gathered: 6, Dead: 1})
		s.end()
		if got := s.run(run.ID); !got.EndedAt.IsZero() {
			t.Error("ended while it gathers")
		}
		s.must(s.GatherDone(ctx, run.ID))
		s.end()
		if got := s.run(run.ID); !got.EndedAt.IsZero() || got.Gathering {
			t.Errorf("gathered, with %d under way: %+v", got.UnderWay(), got)
		}

		test := s.acked(page[1])
		test.Delivery.TestAnswer = true
		s.settle(s.acked(page[0]), test, s.died(page[2], jobs.Withdrawn), s.failed(page[3], time.Minute))
		s.wantRun("settled", run.ID, jobs.Run{Carried: 1, Gathered: 6, Dead: 2, Delivered: 1, TestAnswers: 1})
		for _, d := range s.claim(lease, 8, 8) {
			if d.ID == carried.ID {
				s.settle(s.acked(d))
			} else {
				s.settle(s.spent(d, fire))
			}
		}
		s.wantRun("one more was spent", run.ID, jobs.Run{Carried: 1, Gathered: 6, Dead: 2, Delivered: 2, TestAnswers: 1, Failed: 1})
		s.pass(time.Minute)
		s.settle(s.spent(s.take(lease, page[3].ID), fire))
		s.wantRun("the retry was spent", run.ID, jobs.Run{Carried: 1, Gathered: 6, Dead: 2, Delivered: 2, TestAnswers: 1, Failed: 2})
		s.end()
		got := s.run(run.ID)
		if !got.EndedAt.Equal(s.Now()) || got.Pending() != 2 {
			t.Errorf("ended: %+v", got)
		}
		// What comes later is no longer this run's.
		s.pass(fire)
		for _, d := range s.claim(lease, 8, 8) {
			if d.Run != run.ID {
				t.Errorf("was last in run %q", d.Run)
			}
			s.settle(s.acked(d))
		}
		if diff := cmp.Diff(got, s.run(run.ID)); diff != "" {
			t.Errorf("a run that has ended changed (-then +now):\n%s", diff)
		}
		if got := s.status("acme").LastRun; !got.Equal(run.StartedAt) {
			t.Errorf("last run %v, want %v", got, run.StartedAt)
		}
	})
}

// A spent record that becomes due again within its run, by another's acknowledgement or by its own fire, is under way
// again, and counted once in the end.
func TestRunOfReleased(t *testing.T) {
	for name, again := range map[string]func(s *stage, lease string){
		"by an acknowledgement": func(s *stage, lease string) { s.ack(lease, "acme") },
		"by its fire":           func(s *stage, _ string) { s.pass(fire) },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *stage) {
				s.webhooks("acme")
				lease := s.lease()
				run := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
				d, other := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
				d.Run, d.Lease, other.Run, other.Lease = run.ID, lease, run.ID, lease
				s.enter(lease, d, other)
				s.must(s.GatherDone(context.Background(), run.ID))
				s.settle(s.spent(d, fire))
				s.wantRun("spent", run.ID, jobs.Run{Gathered: 2, Failed: 1})
				again(s, lease)
				d = s.take(lease, d.ID)
				s.wantRun("claimed again", run.ID, jobs.Run{Gathered: 2})
				s.settle(s.failed(d, 0))
				d = s.take(lease, d.ID)
				s.settle(s.spent(d, fire))
				s.wantRun("spent again", run.ID, jobs.Run{Gathered: 2, Failed: 1})
				s.pass(fire)
				s.settle(s.acked(s.take(lease, d.ID)), s.acked(other))
				s.wantRun("delivered", run.ID, jobs.Run{Gathered: 2, Delivered: 2})
				s.end()
				if s.run(run.ID).EndedAt.IsZero() {
					t.Error("not ended")
				}
			})
		})
	}
}

func TestAdoption(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other", "held")
		lease := s.lease()
		first := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		at := func(webhook, row string, next time.Duration, change func(*jobs.Delivery)) jobs.Delivery {
			d := record(webhook, row, jobs.Pending)
			d.NextAt = start.Add(next)
			if change != nil {
				change(&d)
			}
			d.ID = d.Key.ID()
			return d
		}
		retrying := at("acme", "retrying", 0, nil)
		retrying.State, retrying.Lease = jobs.Sending, lease
		spent := at("acme", "spent", 0, nil)
		spent.State, spent.Lease = jobs.Sending, lease
		s.enter(lease, retrying, spent)
		s.settle(s.failed(retrying, time.Hour), s.spent(spent, fire))
		s.enter(lease,
			at("acme", "due", 0, nil),
			at("acme", "waits for its fire", time.Hour, nil),
			at("acme", "settles until later", time.Hour, func(d *jobs.Delivery) { d.NotBefore = start.Add(time.Hour) }),
			at("acme", "has settled", time.Hour, func(d *jobs.Delivery) { d.NotBefore = start }),
			at("acme", "in an open run", time.Hour, func(d *jobs.Delivery) { d.Run = first.ID }),
			at("acme", "another type", time.Hour, func(d *jobs.Delivery) { d.Type = "Appointment" }),
			at("acme", "another chatbot", time.Hour, func(d *jobs.Delivery) { d.Chatbot = "bot2" }),
			at("other", "another webhook", time.Hour, nil),
			at("held", "a held webhook", time.Hour, nil),
		)
		s.put(jobs.Webhook{ID: "held", State: jobs.Held})
		adopted := func(run jobs.Run) []string {
			rows := []string{}
			items, _, err := s.Deliveries(ctx, Filter{Run: run.ID})
			s.must(err)
			for _, d := range items {
				if d.NextAt.After(run.StartedAt) {
					t.Errorf("%s was taken on, and is due at %v", d.Row, d.NextAt)
				}
				rows = append(rows, d.Row)
			}
			return rows
		}
		sorted := cmpopts.SortSlices(func(a, b string) bool { return a < b })
		for _, c := range []struct {
			name              string
			start             jobs.RunStart
			want              []string
			gathered, carried int
		}{
			{"a fire takes what is due", jobs.RunStart{Kind: jobs.Scheduled, Schedule: "@daily", FireAt: start, Webhooks: []string{"acme", "held"}}, []string{"due"}, 1, 0},
			{"by hand, one chatbot", jobs.RunStart{Kind: jobs.Manual, Chatbots: []string{"bot2"}}, []string{"another chatbot"}, 1, 0},
			{"by hand, one type", jobs.RunStart{Kind: jobs.Manual, Types: []string{"Appointment"}}, []string{"another type"}, 1, 0},
			{"by hand, no types", jobs.RunStart{Kind: jobs.Manual, Types: []string{}}, []string{}, 0, 0},
			{"by hand, one webhook", jobs.RunStart{Kind: jobs.Manual, Webhooks: []string{"acme"}}, []string{"waits for its fire", "has settled", "spent"}, 2, 1},
			{"by hand, all", jobs.RunStart{Kind: jobs.Manual}, []string{"another webhook"}, 1, 0},
		} {
			c.start.Lease = lease
			run := s.begin(c.start)
			if diff := cmp.Diff(c.want, adopted(run), sorted); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
			s.wantRun(c.name, run.ID, jobs.Run{Gathered: c.gathered, Carried: c.carried})
		}
		if got := len(s.claim(lease, 20, 20)); got != 7 {
			t.Errorf("%d are due, want the 7 that were taken on", got)
		}
	})
}

// A run of a process that is gone does not keep its records from one that somebody waits for.
func TestAdoptionFromTheDead(t *testing.T) {
	for _, kind := range []jobs.RunKind{jobs.Manual, jobs.Scheduled} {
		for _, gathered := range []bool{true, false} {
			name := string(kind) + " gathering"
			if gathered {
				name = string(kind) + " gathered"
			}
			t.Run(name, func(t *testing.T) {
				onBoth(t, func(t *testing.T, s *stage) {
					ctx := context.Background()
					s.webhooks("acme")
					dead := s.lease()
					start := jobs.RunStart{Kind: kind, Lease: dead}
					if kind == jobs.Scheduled {
						start.Schedule, start.FireAt = "@daily", s.Now()
					}
					old := s.begin(start)
					d, retrying := s.record("acme", jobs.Pending), s.record("acme", jobs.Sending)
					d.Run, retrying.Run, retrying.Lease = old.ID, old.ID, dead
					s.enter(dead, d, retrying)
					s.settle(s.failed(retrying, time.Hour))
					if gathered {
						s.must(s.GatherDone(ctx, old.ID))
					}
					s.pass(10 * time.Minute)
					must[int](t)(s.Reclaim(ctx))
					lease := s.lease()
					run := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
					s.wantRun("the new run", run.ID, jobs.Run{Gathered: 1})
					s.wantRun("the old run", old.ID, jobs.Run{Gathered: 2, Failed: 1})
					s.settle(s.acked(s.take(lease, d.ID)))
					s.wantRun("delivered", run.ID, jobs.Run{Gathered: 1, Delivered: 1})
					s.pass(time.Hour)
					s.settle(s.acked(s.take(lease, retrying.ID)))
					s.wantRun("the old run's retry", old.ID, jobs.Run{Gathered: 2, Failed: 1, Delivered: 1})
					s.must(s.GatherDone(ctx, old.ID))
					s.end()
					if s.run(old.ID).EndedAt.IsZero() {
						t.Error("the old run never ends")
					}
				})
			})
		}
	}
}

func TestOrphans(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		dead := s.lease()
		scheduled := s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: dead, Schedule: "@daily", FireAt: s.Now(), Types: []string{"Lead"}})
		gathered := s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: dead, Schedule: "@hourly", FireAt: s.Now()})
		s.must(s.GatherDone(ctx, gathered.ID))
		manual := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: dead, Webhooks: []string{"acme"}, Chatbots: []string{"bot"}})
		if diff := cmp.Diff([]jobs.Run{scheduled, manual}, must[[]jobs.Run](t)(s.Gathering(ctx))); diff != "" {
			t.Errorf("gathering (-want +got):\n%s", diff)
		}
		s.pass(2 * time.Minute)
		if diff := cmp.Diff([]jobs.Run{scheduled}, must[[]jobs.Run](t)(s.Gathering(ctx))); diff != "" {
			t.Errorf("gathering under a lease that ran out (-want +got):\n%s", diff)
		}
		ledgers := []*Ledger{s.Ledger, s.open(), s.open()}
		var found atomic.Int32
		var all sync.WaitGroup
		for _, l := range ledgers {
			all.Go(func() {
				lease, err := l.TakeLease(ctx, "test", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				runs, err := l.Orphans(ctx, lease)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range runs {
					found.Add(1)
					if diff := cmp.Diff(scheduled, r); diff != "" {
						t.Errorf("orphan (-want +got):\n%s", diff)
					}
				}
			})
		}
		all.Wait()
		if got := found.Load(); got != 1 {
			t.Errorf("%d took the orphan over, want 1", got)
		}
		if s.run(manual.ID).EndedAt.IsZero() {
			t.Error("the manual run of a process that is gone goes on")
		}
		s.end()
		if s.run(gathered.ID).EndedAt.IsZero() {
			t.Error("the gathered run has nothing under way and goes on")
		}
		if !s.run(scheduled.ID).EndedAt.IsZero() {
			t.Error("the run that was taken over has ended")
		}
	})
}

// TestOrphansAfterAnOutage: who comes back first after an outage in which all leases ran out ends and takes over nothing of
// others, who may live; its own it is told of.
func TestOrphansAfterAnOutage(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		mine, other := s.lease(), s.lease()
		own := s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: mine, Schedule: "@daily", FireAt: s.Now()})
		gathered := s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: mine, Schedule: "@weekly", FireAt: s.Now()})
		s.must(s.GatherDone(ctx, gathered.ID))
		ownManual := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: mine})
		theirs := s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: other, Schedule: "@hourly", FireAt: s.Now()})
		theirManual := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: other})
		s.pass(time.Hour)
		for _, step := range []struct {
			name  string
			does  func()
			want  []jobs.Run
			ended string // no longer open
		}{
			{"when it is back", func() {}, []jobs.Run{own}, ""},
			{"with its lease renewed", func() { s.must(s.KeepLease(ctx, mine, time.Minute)) }, []jobs.Run{own, theirs}, theirManual.ID},
			{"asked again", func() {}, []jobs.Run{own, theirs}, theirManual.ID},
		} {
			step.does()
			runs := must[[]jobs.Run](t)(s.Orphans(ctx, mine))
			slices.SortFunc(runs, func(a, b jobs.Run) int { return strings.Compare(a.ID, b.ID) })
			if diff := cmp.Diff(step.want, runs); diff != "" {
				t.Errorf("%s: orphans (-want +got):\n%s", step.name, diff)
			}
			for _, id := range []string{ownManual.ID, theirManual.ID} {
				if ended := !s.run(id).EndedAt.IsZero(); ended != (id == step.ended) {
					t.Errorf("%s: manual run %s has ended: %v", step.name, id, ended)
				}
			}
		}
	})
}

func TestFires(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		last := func(want time.Time) {
			t.Helper()
			if got := must[time.Time](t)(s.LastFire(ctx, "@daily")); !got.Equal(want) {
				t.Errorf("last fire %v, want %v", got, want)
			}
		}
		last(start)
		s.pass(time.Hour)
		last(start)

		const n = 8
		for day := range 3 {
			at := start.Add(time.Duration(day+1) * fire)
			s.pass(fire)
			var mine atomic.Int32
			ids := make([]string, n)
			var all sync.WaitGroup
			for i := range n {
				l := s.Ledger
				if i%2 == 1 {
					l = s.open()
				}
				lease := s.lease()
				all.Go(func() {
					run, ours, err := l.StartRun(ctx, jobs.RunStart{Kind: jobs.Scheduled, Lease: lease, Schedule: "@daily", FireAt: at})
					if err != nil {
						t.Error(err)
					}
					if ours {
						mine.Add(1)
					}
					ids[i] = run.ID
				})
			}
			all.Wait()
			if mine.Load() != 1 {
				t.Errorf("the fire of day %d began %d times", day, mine.Load())
			}
			for _, id := range ids {
				if id != ids[0] || id == "" {
					t.Errorf("runs of one fire: %v", ids)
					break
				}
			}
			last(at)
		}
		// An older fire that comes late does not move it back.
		s.begin(jobs.RunStart{Kind: jobs.Scheduled, Lease: s.lease(), Schedule: "@daily", FireAt: start})
		last(start.Add(3 * fire))
	})
}

// A webhook that is held or disabled while a run is under way does not keep the run from its end.
func TestRunOfWebhookThatStops(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		run := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		a, b, c := s.record("acme", jobs.Pending), s.record("acme", jobs.Sending), s.record("other", jobs.Sending)
		for _, d := range []*jobs.Delivery{&a, &b, &c} {
			d.Run, d.Lease = run.ID, lease
		}
		s.enter(lease, a, b, c)
		s.must(s.GatherDone(ctx, run.ID))
		s.pass(time.Second)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Disabled, StateReason: jobs.ReasonByHand})
		s.settle(s.failed(b, time.Minute))
		s.end()
		if !s.run(run.ID).EndedAt.IsZero() {
			t.Error("ended while another webhook's record is under way")
		}
		s.settle(s.acked(c))
		s.end()
		got := s.run(run.ID)
		if got.EndedAt.IsZero() || got.Pending() != 2 {
			t.Errorf("not ended, or not 2 pending: %+v", got)
		}
	})
}

// A chatbot comes from whoever asks for a run, and may be no text: nobody's records are of it then.
func TestRunOfNoText(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.enter(lease, s.record("acme", jobs.Pending))
		run, _, err := s.StartRun(context.Background(), jobs.RunStart{
			Kind: jobs.Manual, Lease: lease, Webhooks: []string{"acme"}, Chatbots: []string{"\x00", "\xff"},
		})
		if err != nil || run.Carried+run.Gathered != 0 {
			t.Errorf("%+v, %v", run, err)
		}
	})
}

func TestRunNotFound(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		if _, err := s.Run(context.Background(), "none"); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("read: %v", err)
		}
		if err := s.GatherDone(context.Background(), "none"); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("gather done: %v", err)
		}
	})
}

// TestRunBesideKeptLease: while a run takes on what another has, whose lease ran out, that one may be kept after all. All
// or nothing goes over, and is counted so.
func TestRunBesideKeptLease(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		other := s.open()
		var page []jobs.Delivery
		for range 100 {
			page = append(page, s.record("acme", jobs.Pending))
		}
		s.enter("", page...)
		for n := range 40 {
			lease := s.lease()
			run := s.begin(jobs.RunStart{Kind: jobs.Manual, Lease: lease})
			if run.Gathered != 100 {
				t.Fatalf("run %+v has not all", run)
			}
			s.pass(time.Minute)
			var group sync.WaitGroup
			group.Go(func() {
				time.Sleep(time.Duration(n) * 200 * time.Microsecond)
				if err := other.KeepLease(ctx, lease, time.Second); err != nil {
					t.Error(err)
				}
			})
			_, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: s.lease()})
			s.must(err)
			group.Wait()
			if err := s.audit(); err != nil {
				t.Fatal(err)
			}
			s.pass(2 * time.Minute)
			_, err = s.Orphans(ctx, s.lease())
			s.must(err)
			s.pass(2 * time.Minute)
		}
	})
}
