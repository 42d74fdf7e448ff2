package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestRecoveryReadsNoBacklog: a webhook that recovers has what was tried of it released, and what waits for it untried is
// not read for that, be it all that a daemon has.
func TestRecoveryReadsNoBacklog(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		var tried []jobs.Delivery
		for range 50 {
			tried = append(tried, s.record("acme", jobs.Sending))
			tried[len(tried)-1].Lease = lease
		}
		s.enter(lease, tried...)
		for _, d := range tried {
			s.settle(s.spent(d, fire))
		}
		for range 20 {
			var page []jobs.Delivery
			for range 1000 {
				d := s.record("acme", jobs.Pending)
				d.NextAt = start.Add(fire)
				page = append(page, d)
			}
			s.enter("", page...)
		}
		if !s.lite { // as autovacuum does; on SQLite nobody does
			if _, err := s.write.Exec("analyze"); err != nil {
				t.Fatal(err)
			}
		}
		now := s.Now()
		for _, c := range []struct {
			name string
			s    *statement
			args []any
		}{
			{"released runs", sqlReleasedRuns, []any{"acme", time.Time{}, false, now}},
			{"release", sqlRelease, []any{"acme", time.Time{}, false, now, true, false}},
			{"shift", sqlShift, []any{"acme", now, now.Add(-time.Hour)}},
		} {
			if plan := s.explain(c.s.text, c.args); !strings.Contains(plan, "deliveries_tried") {
				t.Errorf("%s reads the backlog:\n%s", c.name, plan)
			}
		}
	})
}
