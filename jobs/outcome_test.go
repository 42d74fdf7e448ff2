package jobs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRefused follows one delivery through its failures under a clock of our own.
func TestRefused(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fire := start.Add(24 * time.Hour)
	defaults := []time.Duration{time.Minute, 3 * time.Minute}
	for _, test := range []struct {
		name    string
		retryAt []time.Duration
		giveUp  time.Duration
		fails   []time.Duration // after start: when each attempt ended
		want    []time.Duration // after start: when it is due then; fire where the round is spent, 0 where it is dead
		rounds  int
	}{
		{"the defaults", defaults, 0, []time.Duration{0, time.Minute, 3 * time.Minute}, []time.Duration{time.Minute, 3 * time.Minute, 24 * time.Hour}, 1},
		{"offsets count from the first failure", defaults, 0, []time.Duration{5 * time.Second, 75 * time.Second}, []time.Duration{65 * time.Second, 185 * time.Second}, 0},
		{"an offset that is past is skipped", defaults, 0, []time.Duration{0, 200 * time.Second}, []time.Duration{time.Minute, 24 * time.Hour}, 1},
		{"no retries", nil, 0, []time.Duration{0}, []time.Duration{24 * time.Hour}, 1},
		{"given up in the second round", nil, time.Hour, []time.Duration{0, 2 * time.Hour}, []time.Duration{24 * time.Hour, 0}, 2},
		{"not given up in the first", nil, time.Nanosecond, []time.Duration{time.Hour}, []time.Duration{24 * time.Hour}, 1},
		{"not given up within a round", defaults, time.Second, []time.Duration{0, time.Minute, 3 * time.Minute, time.Hour}, []time.Duration{time.Minute, 3 * time.Minute, 24 * time.Hour, 61 * time.Minute}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Delivery{State: Sending}
			var got []time.Duration
			for i, after := range test.fails {
				d.Lease = "lease"
				now := start.Add(after)
				o := refused(d, &RefusedError{Reason: "timeout"}, test.retryAt, now.Add(-time.Second), now, fire, test.giveUp, false)
				if o.Lease != "lease" || o.Attempt == nil || o.Attempt.Error != "timeout" {
					t.Fatalf("outcome %d lacks its lease or attempt: %+v", i, o)
				}
				d = o.Delivery
				if d.Attempts != i+1 {
					t.Errorf("after %d failures attempts = %d", i+1, d.Attempts)
				}
				if spent := d.NextAt.Equal(fire); spent != o.Spent {
					t.Errorf("failure %d: spent = %v, due at the fire: %v", i+1, o.Spent, spent)
				}
				if d.State == Dead {
					if d.Reason != Expired {
						t.Errorf("dead because %q", d.Reason)
					}
					got = append(got, 0)
					continue
				}
				got = append(got, d.NextAt.Sub(start))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
			if d.Rounds != test.rounds {
				t.Errorf("rounds = %d, want %d", d.Rounds, test.rounds)
			}
		})
	}
}
