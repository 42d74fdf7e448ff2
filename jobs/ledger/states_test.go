package ledger

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// fail settles a claimed delivery as a failed attempt.
func (s *stage) fail(d jobs.Delivery, fault jobs.Fault, reason, word string) {
	s.t.Helper()
	o := jobs.Outcome{Delivery: d, Lease: d.Lease, Attempt: &jobs.Attempt{At: s.Now(), Error: reason, Word: word, Fault: fault}}
	o.Delivery.State, o.Delivery.Lease, o.Delivery.LastError = jobs.Pending, "", reason
	o.Delivery.Attempts++
	o.Delivery.InRound, o.Delivery.NextAt = true, s.Now().Add(time.Hour)
	o.Delivery.FirstFailedAt, o.Delivery.RoundFailedAt = s.Now(), s.Now()
	if held := must[[]bool](s.t)(s.Settle(context.Background(), []jobs.Outcome{o})); !held[0] {
		s.t.Fatal("not recorded")
	}
}

func (s *stage) acknowledge(d jobs.Delivery) {
	s.t.Helper()
	o := jobs.Outcome{Delivery: d, Lease: d.Lease, Attempt: &jobs.Attempt{At: s.Now(), Status: 200}}
	o.Delivery.State, o.Delivery.Lease, o.Delivery.SettledAt = jobs.Delivered, "", s.Now()
	o.Delivery.Attempts++
	must[[]bool](s.t)(s.Settle(context.Background(), []jobs.Outcome{o}))
}

func (s *stage) state(webhook string) (jobs.WebhookState, string) {
	s.t.Helper()
	for _, w := range must[jobs.Registered](s.t)(s.Webhooks(context.Background())).Webhooks {
		if w.ID == webhook {
			return w.State, w.StateReason
		}
	}
	s.t.Fatalf("no webhook %s", webhook)
	return "", ""
}

func TestHold(t *testing.T) {
	type step struct {
		fault        jobs.Fault
		reason, word string
		times        int
	}
	downs := func(n int) step { return step{jobs.FaultDown, "timeout", "", n} }
	unmatched := func(n int) step { return step{jobs.FaultUnmatched, "ack_mismatch", "queued", n} }
	refusals := func(n int) step { return step{jobs.FaultRecord, "http_400", "", n} }
	acked := step{times: 1}
	for name, tt := range map[string]struct {
		steps  []step
		want   jobs.WebhookState
		reason string
	}{
		"nine failures that say down":         {[]step{downs(9)}, jobs.Active, ""},
		"ten":                                 {[]step{downs(10)}, jobs.Held, "timeout"},
		"broken by a refused record":          {[]step{downs(9), refusals(1), downs(9)}, jobs.Active, ""},
		"broken by an acknowledgement":        {[]step{downs(9), acked, downs(9)}, jobs.Active, ""},
		"refused records":                     {[]step{refusals(40)}, jobs.Active, ""},
		"nineteen answers that match nothing": {[]step{unmatched(19)}, jobs.Active, ""},
		"twenty":                              {[]step{unmatched(20)}, jobs.Held, `set ack: ["queued"]`},
		"twenty without a word":               {[]step{{jobs.FaultUnmatched, "not_json", "", 20}}, jobs.Held, "set ack: 2xx"},
		"broken by one that is down":          {[]step{unmatched(19), downs(1), unmatched(19)}, jobs.Active, ""},
		"gone":                                {[]step{{jobs.FaultGone, "http_410", "", 1}}, jobs.Disabled, "410"},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *stage) {
				s.webhooks("acme")
				lease := s.lease()
				for _, step := range tt.steps {
					for range step.times {
						s.enter("", s.record("acme", jobs.Pending))
						d := s.claimOne(lease)
						if step.reason == "" {
							s.acknowledge(d)
						} else {
							s.fail(d, step.fault, step.reason, step.word)
						}
					}
				}
				got, reason := s.state("acme")
				if got != tt.want || !strings.Contains(reason, tt.reason) || got == jobs.Active && reason != "" {
					t.Errorf("%s (%s)", got, reason)
				}
			})
		})
	}
}

// hold fails records until the webhook is held, and leaves n that were never tried.
func (s *stage) hold(lease string, n int) {
	s.t.Helper()
	for range holdAfterDown {
		s.enter("", s.record("acme", jobs.Pending))
		s.fail(s.claimOne(lease), jobs.FaultDown, "connect", "")
	}
	for range n {
		s.enter("", s.record("acme", jobs.Pending))
	}
	if state, _ := s.state("acme"); state != jobs.Held {
		s.t.Fatalf("the webhook is %s", state)
	}
}

// TestProbes: a held webhook gives one record at each retry offset, and everything at once when one is acknowledged.
func TestProbes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active, RetryAt: []time.Duration{time.Minute, 3 * time.Minute}})
		lease := s.lease()
		s.hold(lease, 5)
		held := s.Now()
		var probed []string
		for range 9 * 60 {
			s.must(s.KeepLease(ctx, lease, time.Minute))
			due := must[time.Time](t)(s.NextDue(ctx, nil))
			claimed := s.claimAll(lease)
			if len(claimed) > 1 {
				t.Fatalf("%d records are sent to a held webhook at once", len(claimed))
			}
			for _, d := range claimed {
				if due.After(s.Now()) {
					t.Errorf("claimed before what was said to be due")
				}
				probed = append(probed, fmt.Sprint(s.Now().Sub(held)))
				if again := s.claimAll(lease); len(again) > 0 {
					t.Error("another is sent while the probe is")
				}
				s.pass(5 * time.Second)
				s.fail(d, jobs.FaultDown, "connect", "")
				s.pass(-5 * time.Second)
			}
			s.pass(time.Second)
		}
		// The first two at the offsets, the others as long after the end of the one before as the last offset.
		if diff := cmp.Diff([]string{"1m0s", "3m0s", "6m5s"}, probed); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
		s.pass(10 * time.Minute)
		s.must(s.KeepLease(ctx, lease, time.Minute))
		s.acknowledge(s.claimOne(lease))
		if state, reason := s.state("acme"); state != jobs.Active || reason != "" {
			t.Errorf("after the acknowledgement: %s (%s)", state, reason)
		}
		untried := 0
		for _, d := range s.claimAll(lease) {
			if d.Attempts == 0 {
				untried++
			}
		}
		if untried != 5 {
			t.Errorf("%d were never tried", untried)
		}
	})
}

// TestProbesOfSpentRounds: a held webhook all of whose records wait for their fire is probed all the same, with each in
// turn; when all were tried often, with what was not.
func TestProbesOfSpentRounds(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.hold(lease, 1)
		untried := s.record("acme", jobs.Pending)
		s.enter("", untried)
		attempts := map[string]int{}
		for range 3 * 60 {
			s.must(s.KeepLease(context.Background(), lease, time.Hour))
			for _, d := range s.claimAll(lease) {
				if d.Attempts == 0 && len(attempts) < holdAfterDown {
					t.Fatalf("a record that was never tried is the probe: %v", attempts)
				}
				o := s.spent(d, 24*time.Hour)
				o.Attempt.Fault = jobs.FaultDown
				attempts[d.Row] = o.Delivery.Attempts
				must[[]bool](t)(s.Settle(context.Background(), []jobs.Outcome{o}))
			}
			s.pass(time.Minute)
		}
		if len(attempts) != holdAfterDown+2 {
			t.Errorf("probes were made with %d records: %v", len(attempts), attempts)
		}
		for row, n := range attempts {
			if n > triedOften+1 {
				t.Errorf("row %s was tried %d times: %v", row, n, attempts)
			}
		}
	})
}

// TestProbeIsNotSent: a probe whose row is gone says nothing of the endpoint, and another record is tried before long.
func TestProbeIsNotSent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active, RetryAt: []time.Duration{time.Minute, 24 * time.Hour}})
		lease := s.lease()
		s.hold(lease, 2)
		s.pass(time.Minute)
		s.settle(s.died(s.claimOne(lease), jobs.Withdrawn))
		s.pass(probeLost)
		s.claimOne(lease)
	})
}

func TestProbeIsLost(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme")
		lease := s.lease()
		s.hold(lease, 2)
		s.pass(time.Minute)
		s.claimOne(lease)
		s.must(s.DropLease(ctx, lease)) // its process is gone
		lease = s.lease()
		if early := s.claimAll(lease); len(early) > 0 {
			t.Error("another probe is sent at once")
		}
		s.pass(probeLost)
		s.claimOne(lease)
	})
}

// TestEnableHeld: a webhook that is let go by hand takes ten failures to be held again; one that was changed is probed.
func TestEnableHeld(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.hold(lease, 20)
		s.put(jobs.Webhook{ID: "acme", State: jobs.Held, Description: "changed"})
		s.fail(s.claimOne(lease), jobs.FaultDown, "connect", "")
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active})
		claimed := s.claimAll(lease)
		if len(claimed) != 20 {
			t.Fatalf("%d are due", len(claimed))
		}
		for i, d := range claimed[:holdAfterDown] {
			if state, _ := s.state("acme"); state != jobs.Active {
				t.Fatalf("%s after %d failures", state, i)
			}
			s.fail(d, jobs.FaultDown, "connect", "")
		}
		if state, _ := s.state("acme"); state != jobs.Held {
			t.Errorf("%s after ten failures", state)
		}
		s.put(jobs.Webhook{ID: "acme", State: jobs.Disabled})
		s.pass(time.Hour)
		if due := s.claimAll(s.lease()); len(due) > 0 {
			t.Error("a disabled webhook is sent to")
		}
	})
}

// TestHeldTime: how long a webhook is held does not count towards giving up on its records.
func TestHeldTime(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.hold(lease, 1)
		failed := s.Now()
		s.pass(48 * time.Hour)
		lease = s.lease()
		s.acknowledge(s.claimOne(lease))
		for _, d := range s.all() {
			if d.State == jobs.Pending && d.Attempts > 0 && !d.FirstFailedAt.Equal(failed.Add(48*time.Hour)) {
				t.Errorf("counts from %v", d.FirstFailedAt)
			}
		}
	})
}

// TestRemovedAndEnteredAgain: a webhook of the same id as one that was removed while its endpoint was down begins anew.
func TestRemovedAndEnteredAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		s.hold(lease, 0)
		must[int](t)(s.RemoveWebhook(context.Background(), s.changed(), "acme"))
		s.webhooks("acme")
		s.enter("", s.record("acme", jobs.Pending))
		s.fail(s.claimOne(lease), jobs.FaultDown, "connect", "")
		if state, reason := s.state("acme"); state != jobs.Active {
			t.Errorf("%s (%s) after one failure", state, reason)
		}
	})
}
