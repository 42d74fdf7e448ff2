package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestSettleRefusesNoOutcome(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		for _, state := range []jobs.State{"", jobs.Sending, "done"} {
			if _, err := s.Settle(context.Background(), []jobs.Outcome{{Delivery: jobs.Delivery{State: state}}}); err == nil {
				t.Errorf("state %q was settled", state)
			}
		}
		if got, err := s.Settle(context.Background(), nil); err != nil || len(got) != 0 {
			t.Errorf("no outcomes: %v, %v", got, err)
		}
	})
}

func TestAttempts(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		once, thrice, withdrawn := s.record("acme", jobs.Pending), s.record("acme", jobs.Pending), s.record("acme", jobs.Pending)
		s.enter("", once, thrice, withdrawn)

		failure := jobs.Attempt{At: start.Add(-time.Second), Duration: time.Second, Status: 500, Error: "http_500"}
		success := jobs.Attempt{At: start.Add(-time.Second), Duration: time.Second, Status: 200, Word: "success"}
		want := map[uuid.UUID][]jobs.Attempt{once.ID: {success}, withdrawn.ID: nil}
		for n := range 3 {
			var outcomes []jobs.Outcome
			for _, d := range s.claim(lease, 8, 8) {
				switch {
				case d.ID == withdrawn.ID:
					outcomes = append(outcomes, s.died(d, jobs.Withdrawn))
				case d.ID == once.ID || n == 2:
					outcomes = append(outcomes, s.acked(d))
				default:
					outcomes = append(outcomes, s.failed(d, 0))
				}
			}
			s.settle(outcomes...)
			a := failure
			if n == 2 {
				a = success
			}
			a.At = s.Now().Add(-time.Second)
			want[thrice.ID] = append(want[thrice.ID], a)
			s.pass(time.Minute)
		}
		for id, attempts := range want {
			if diff := cmp.Diff(attempts, must[[]jobs.Attempt](t)(s.Attempts(ctx, id))); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
		}
		if _, err := s.Attempts(ctx, uuid.New()); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("attempts of no delivery: %v", err)
		}
		var rows int
		s.must(s.read.QueryRow(s.text("select count(*) from attempts")).Scan(&rows))
		if rows != 3 {
			t.Errorf("%d rows of attempts: a success at the first attempt must not cost one", rows)
		}

		s.must(s.Prune(ctx, start.Add(90*time.Second)))
		if got := must[[]jobs.Attempt](t)(s.Attempts(ctx, thrice.ID)); len(got) != 1 {
			t.Errorf("%d attempts are left after pruning, want 1", len(got))
		}
		if got := s.get(thrice.ID).State; got != jobs.Delivered {
			t.Errorf("after pruning %s", got)
		}
	})
}

const fire = 24 * time.Hour

// spentAfter makes a record of the webhook fail a whole round of retries, a minute apart.
func (s *stage) spentAfter(lease string, webhook string, retries int) jobs.Delivery {
	s.t.Helper()
	d := s.record(webhook, jobs.Sending)
	s.enter(lease, d)
	d.Lease = lease
	return s.spendRound(lease, d, retries)
}

func (s *stage) spendRound(lease string, d jobs.Delivery, retries int) jobs.Delivery {
	s.t.Helper()
	for range retries {
		s.settle(s.failed(d, time.Minute))
		s.pass(time.Minute)
		d = s.take(lease, d.ID)
	}
	s.settle(s.spent(d, fire))
	s.pass(time.Second)
	return d
}

// take claims, and wants exactly this delivery.
func (s *stage) take(lease string, id uuid.UUID) jobs.Delivery {
	s.t.Helper()
	claimed := s.claim(lease, 8, 8)
	if diff := cmp.Diff([]uuid.UUID{id}, idsOf(claimed...)); diff != "" {
		s.t.Fatalf("claimed (-want +got):\n%s", diff)
	}
	return claimed[0]
}

// ack delivers a new record of the webhook.
func (s *stage) ack(lease, webhook string) {
	s.t.Helper()
	d := s.record(webhook, jobs.Sending)
	s.enter(lease, d)
	d.Lease = lease
	s.settle(s.acked(d))
	s.pass(time.Second)
}

func (s *stage) isDue(id uuid.UUID) bool {
	s.t.Helper()
	d := s.get(id)
	return d.State == jobs.Pending && !d.NextAt.After(s.Now())
}

func TestReleaseOfSpent(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, s *stage, lease string){
		"the first acknowledgement after an outage": func(t *testing.T, s *stage, lease string) {
			a := s.spentAfter(lease, "acme", 2)
			b := s.spentAfter(lease, "acme", 0)
			other := s.spentAfter(lease, "other", 0)
			s.ack(lease, "acme")
			if !s.isDue(a.ID) || !s.isDue(b.ID) {
				t.Error("the webhook's spent records are not due")
			}
			if s.isDue(other.ID) {
				t.Error("another webhook's record is due")
			}
			if got := must[time.Time](t)(s.NextDue(context.Background(), []string{"acme"})); got.IsZero() || got.After(s.Now()) {
				t.Errorf("claims see nothing due before %v", got)
			}
		},
		"an outage after good times": func(t *testing.T, s *stage, lease string) {
			s.ack(lease, "acme")
			a := s.spentAfter(lease, "acme", 2)
			s.ack(lease, "acme")
			if !s.isDue(a.ID) {
				t.Error("not due")
			}
		},
		"a record within its round keeps its offset": func(t *testing.T, s *stage, lease string) {
			d := s.record("acme", jobs.Sending)
			s.enter(lease, d)
			d.Lease = lease
			s.settle(s.failed(d, time.Minute))
			s.ack(lease, "acme")
			if s.isDue(d.ID) {
				t.Error("due before its offset")
			}
		},
		"one that never failed keeps its fire": func(t *testing.T, s *stage, lease string) {
			waiting := s.record("acme", jobs.Pending)
			waiting.NextAt = s.Now().Add(fire)
			s.enter("", waiting)
			s.spentAfter(lease, "acme", 0)
			s.ack(lease, "acme")
			if s.isDue(waiting.ID) {
				t.Error("due before its fire")
			}
		},
		"poison: others are acknowledged within its round": func(t *testing.T, s *stage, lease string) {
			p := s.record("acme", jobs.Sending)
			s.enter(lease, p)
			p.Lease = lease
			for range 2 {
				s.settle(s.failed(p, time.Minute))
				s.ack(lease, "acme")
				s.pass(time.Minute)
				p = s.take(lease, p.ID)
			}
			s.settle(s.spent(p, fire))
			for range 5 {
				s.ack(lease, "acme")
				if s.isDue(p.ID) {
					t.Fatal("due, though it failed while others were acknowledged")
				}
			}
		},
		"poison without retries does not loop": func(t *testing.T, s *stage, lease string) {
			s.ack(lease, "acme")
			p := s.spentAfter(lease, "acme", 0)
			times := 0
			for range 20 {
				s.ack(lease, "acme")
				if s.isDue(p.ID) {
					times++
					s.settle(s.spent(s.take(lease, p.ID), fire))
				}
			}
			if times > 1 {
				t.Errorf("sent again %d times in 20 acknowledgements", times)
			}
		},
		"released once, and again after a second outage": func(t *testing.T, s *stage, lease string) {
			a := s.spentAfter(lease, "acme", 0)
			s.ack(lease, "acme")
			if !s.isDue(a.ID) {
				t.Fatal("not due after the first outage")
			}
			s.pass(5 * time.Second)
			s.spendRound(lease, s.take(lease, a.ID), 2)
			s.ack(lease, "acme")
			if !s.isDue(a.ID) {
				t.Error("not due after the second outage")
			}
		},
		"acknowledged and spent in one batch": func(t *testing.T, s *stage, lease string) {
			a, b := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
			s.enter(lease, a, b)
			a.Lease, b.Lease = lease, lease
			s.settle(s.spent(a, fire), s.acked(b))
			if !s.isDue(a.ID) {
				t.Error("not due")
			}
		},
		"a test answer is an acknowledgement": func(t *testing.T, s *stage, lease string) {
			a := s.spentAfter(lease, "acme", 0)
			b := s.record("acme", jobs.Sending)
			s.enter(lease, b)
			b.Lease = lease
			o := s.acked(b)
			o.Delivery.TestAnswer = true
			s.settle(o)
			if !s.isDue(a.ID) {
				t.Error("not due")
			}
			if got := s.status("acme"); got.TestAnswers != 1 || got.Delivered != 0 {
				t.Errorf("counted as %+v", got)
			}
		},
		"a withdrawn record is none": func(t *testing.T, s *stage, lease string) {
			a := s.spentAfter(lease, "acme", 0)
			b := s.record("acme", jobs.Sending)
			s.enter(lease, b)
			b.Lease = lease
			s.settle(s.died(b, jobs.Withdrawn))
			if s.isDue(a.ID) {
				t.Error("due")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *stage) {
				s.webhooks("acme", "other")
				test(t, s, s.lease())
			})
		})
	}
}

// Two processes settle the same webhooks in opposite orders, all at once.
func TestSettleConcurrently(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		ids := []string{"a", "b", "c", "d"}
		s.webhooks(ids...)
		run, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: s.lease()})
		s.must(err)
		const workers, rounds = 4, 8
		errs := make(chan error, workers)
		for n := range workers {
			l, lease := s.open(), s.lease()
			var pages [rounds][]jobs.Delivery
			for r := range pages {
				for i := range ids {
					d := s.record(ids[(i*(1+n%2*2)+n)%len(ids)], jobs.Sending)
					d.Run = run.ID
					pages[r] = append(pages[r], d)
				}
				s.enter(lease, pages[r]...)
			}
			go func() {
				for r, page := range pages {
					var outcomes []jobs.Outcome
					for i, d := range page {
						d.Lease = lease
						if (i+r)%2 == 0 {
							outcomes = append(outcomes, s.acked(d))
						} else {
							outcomes = append(outcomes, s.spent(d, fire))
						}
					}
					if _, err := l.Settle(ctx, outcomes); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range workers {
			s.must(<-errs)
		}
		delivered := 0
		for _, id := range ids {
			delivered += s.status(id).Delivered
		}
		if want := workers * rounds * len(ids) / 2; delivered != want {
			t.Errorf("delivered %d, want %d", delivered, want)
		}
		got := s.run(run.ID)
		if got.Gathered != workers*rounds*len(ids) || got.Delivered != delivered || got.Failed+got.UnderWay() != delivered {
			t.Errorf("run %+v", got)
		}
	})
}

// There is no place for a record's content: every column is known here, and none holds one.
func TestNoColumnForContent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		query := `select column_name from information_schema.columns where table_schema = 'leadrelay' and table_name = $1 order by 1`
		if s.lite {
			query = `select name from pragma_table_info($1) order by 1`
		}
		for table, want := range map[string]string{
			"deliveries": "action attempts began_at carried chatbot claims first_failed_at id in_round last_error lease next_at not_before " +
				"reason released round_failed_at rounds row_key run seen_at settled_at spent_in_run state status test_answer took_us type version webhook word",
			"attempts": "began_at delivery error number status took_us word",
		} {
			rows, err := s.read.Query(query, table)
			s.must(err)
			var names []string
			for rows.Next() {
				var name string
				s.must(rows.Scan(&name))
				names = append(names, name)
			}
			s.must(rows.Close())
			if diff := cmp.Diff(strings.Fields(want), names); diff != "" {
				t.Errorf("%s (-want +got):\n%s", table, diff)
			}
		}
	})
}

// TestRecordedTwice: the answer to a commit is lost, and what it recorded is recorded again when the same process has
// claimed the record anew: that is still under way.
func TestRecordedTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		d := s.record("acme", jobs.Pending)
		s.enter("", d)
		for _, first := range []func(jobs.Delivery) jobs.Outcome{
			func(d jobs.Delivery) jobs.Outcome { return s.failed(d, 0) },
			func(d jobs.Delivery) jobs.Outcome {
				o := jobs.Outcome{Lease: lease, Delivery: d}
				o.Delivery.State, o.Delivery.Lease = jobs.Pending, ""
				return o
			},
		} {
			claimed := s.claim(lease, 8, 8)
			o := first(claimed[0])
			s.settle(o)
			again := s.claim(lease, 8, 8)
			if len(again) != 1 {
				t.Fatalf("claimed %v", again)
			}
			if recorded := must[[]bool](t)(s.Settle(ctx, []jobs.Outcome{o})); recorded[0] {
				t.Errorf("recorded again: %+v", o)
			}
			if got := s.get(d.ID); got.State != jobs.Sending || got.Attempts != again[0].Attempts {
				t.Errorf("it was being sent, and is %+v", got)
			}
			o = s.failed(again[0], 0)
			s.settle(o)
		}
	})
}
