package ledger

import (
	"context"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestTakeOver: a run sees what others send in its scope, and takes on what leases that ran out gave back, once.
func TestTakeOver(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		dead := s.lease()
		lost, elsewhere := s.record("acme", jobs.Sending), s.record("other", jobs.Sending)
		s.enter(dead, lost, elsewhere)
		s.pass(2 * time.Minute)
		lease := s.lease()
		mine := s.record("acme", jobs.Sending)
		s.enter(lease, mine)

		start := jobs.RunStart{Kind: jobs.Manual, Lease: lease, Webhooks: []string{"acme"}}
		for name, tt := range map[string]struct {
			start jobs.RunStart
			want  int
		}{
			"its webhooks":     {start, 1},
			"all webhooks":     {jobs.RunStart{Lease: lease}, 2},
			"no webhook":       {jobs.RunStart{Lease: lease, Webhooks: []string{}}, 0},
			"its type":         {jobs.RunStart{Lease: lease, Types: []string{"Lead"}}, 2},
			"another type":     {jobs.RunStart{Lease: lease, Types: []string{"Appointment"}}, 0},
			"its chatbot":      {jobs.RunStart{Lease: lease, Chatbots: []string{lost.Chatbot}}, 2},
			"another chatbot":  {jobs.RunStart{Lease: lease, Chatbots: []string{"nobody"}}, 0},
			"for another once": {jobs.RunStart{Lease: dead}, 1},
		} {
			got := must[[]jobs.Flight](t)(s.Elsewhere(ctx, tt.start))
			if len(got) != tt.want {
				t.Errorf("%s: %v, want %d", name, got, tt.want)
			}
			for _, f := range got {
				if f.RanOut != (f.ID != mine.ID) {
					t.Errorf("%s: the lease of %v ran out: %v", name, f.ID, f.RanOut)
				}
			}
		}
		run := s.begin(start)
		s.wantRun("begun", run.ID, jobs.Run{})
		must[int](t)(s.Reclaim(ctx, lease))
		for range 2 {
			s.must(s.TakeOver(ctx, run.ID, start))
			s.wantRun("taken over", run.ID, jobs.Run{Gathered: 1})
		}
		if got := must[[]jobs.Flight](t)(s.Elsewhere(ctx, start)); len(got) != 0 {
			t.Errorf("still elsewhere: %v", got)
		}
		if got := s.get(elsewhere.ID); got.State != jobs.Pending || got.Run == run.ID {
			t.Errorf("another webhook's: %+v", got)
		}
		if got := s.get(lost.ID); got.State != jobs.Pending || got.Run != run.ID || !s.isDue(lost.ID) {
			t.Errorf("taken over: %+v", got)
		}
	})
}
