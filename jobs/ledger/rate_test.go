package ledger

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// rated enters a webhook with a rate, and n records that are due.
func (s *stage) rated(rate string, n int) {
	s.t.Helper()
	s.webhooks("acme")
	s.put(jobs.Webhook{ID: "acme", State: jobs.Active, Rate: must[jobs.Rate](s.t)(jobs.ParseRate(rate))})
	page := make([]jobs.Delivery, n)
	for i := range page {
		page[i] = s.record("acme", jobs.Pending)
	}
	s.enter("", page...)
}

// TestRate: whatever the number of processes and their claims, a webhook's requests get times that are a spacing apart,
// and all are claimed in no more time than they take.
func TestRate(t *testing.T) {
	for name, tt := range map[string]struct {
		rate string
		n    int
	}{"many a second": {"20/s", 60}, "a few a minute": {"6/m", 5}, "one a day": {"1/d", 2}} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *stage) {
				s.rated(tt.rate, tt.n)
				spacing := must[jobs.Rate](t)(jobs.ParseRate(tt.rate)).Spacing()
				leases := []string{s.lease(), s.lease(), s.lease()}
				began := s.Now()
				var at []time.Time
				for step := 0; len(at) < tt.n; step++ {
					if s.Now().Sub(began) > time.Duration(tt.n)*spacing {
						t.Fatalf("only %d of %d were claimed in %v", len(at), tt.n, s.Now().Sub(began))
					}
					lease := leases[step%len(leases)]
					s.must(s.KeepLease(context.Background(), lease, time.Minute))
					for _, d := range s.claimAll(lease) {
						if early := d.SendAt.Sub(s.Now()); early > rateAhead {
							t.Errorf("claimed %v before it may be sent", early)
						}
						at = append(at, d.SendAt)
						s.acknowledge(d)
					}
					next := must[time.Time](t)(s.NextDue(context.Background(), nil))
					if len(at) < tt.n && !next.After(s.Now()) {
						t.Fatalf("more is due at %v, and it is %v", next, s.Now())
					}
					if !next.IsZero() {
						s.pass(next.Sub(s.Now()))
					}
				}
				if !slices.IsSortedFunc(at, time.Time.Compare) {
					t.Error("the times are out of order")
				}
				for i := range at[1:] {
					if gap := at[i+1].Sub(at[i]); gap < spacing {
						t.Errorf("requests %d and %d are %v apart", i, i+1, gap)
					}
				}
				if last := at[len(at)-1].Sub(began); last > time.Duration(len(at))*spacing {
					t.Errorf("the last of %d is sent after %v", len(at), last)
				}
			})
		})
	}
}

// TestRateChanges: a rate that is raised or taken away holds at once; a held webhook's probes keep to it; what comes
// meanwhile does not make the webhook due.
func TestRateChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.rated("1/d", 3)
		lease := s.lease()
		s.acknowledge(s.claimOne(lease))
		s.enter("", s.record("acme", jobs.Pending))
		if early := s.claimAll(lease); len(early) > 0 {
			t.Fatal("a second is claimed on the same day")
		}
		s.put(jobs.Webhook{ID: "acme", State: jobs.Held, Rate: jobs.Rate{Requests: 1, Per: 24 * time.Hour}})
		if early := s.claimAll(lease); len(early) > 0 {
			t.Fatal("a probe is claimed on the same day")
		}
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active, Rate: jobs.Rate{Requests: 1, Per: time.Hour}})
		s.acknowledge(s.claimOne(lease))
		if early := s.claimAll(lease); len(early) > 0 {
			t.Fatal("a third is claimed within the hour")
		}
		s.put(jobs.Webhook{ID: "acme", State: jobs.Active})
		if rest := s.claimAll(lease); len(rest) != 2 {
			t.Fatalf("without a rate %d are claimed", len(rest))
		}
	})
}
