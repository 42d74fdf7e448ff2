package jobs_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestNextRetry(t *testing.T) {
	smarterbot := []time.Duration{time.Minute, 3 * time.Minute}
	short := []time.Duration{3 * time.Second, 9 * time.Second}
	const none = -1
	for _, c := range []struct {
		name    string
		offsets []time.Duration
		now     time.Duration // after the first failure
		want    time.Duration // likewise
	}{
		{"first failure", smarterbot, 0, time.Minute},
		{"first retry failed at once", smarterbot, time.Minute + 40*time.Millisecond, 3 * time.Minute},
		{"first retry timed out", smarterbot, 70 * time.Second, 3 * time.Minute},
		{"second retry failed", smarterbot, 3*time.Minute + 10*time.Second, none},
		{"first retry ended as the second was due", smarterbot, 3 * time.Minute, none},
		{"first retry ended just before the second", smarterbot, 3*time.Minute - time.Nanosecond, 3 * time.Minute},
		{"daemon was down past the first offset", smarterbot, 2 * time.Minute, 3 * time.Minute},
		{"short: first failure", short, 0, 3 * time.Second},
		{"short: slow first retry", short, 8 * time.Second, 9 * time.Second},
		{"short: a first retry that outlasts the second", short, 13 * time.Second, none},
		{"three offsets, one skipped", []time.Duration{time.Second, 2 * time.Second, time.Hour}, 5 * time.Second, time.Hour},
		{"no retries", nil, 0, none},
		{"an empty list", []time.Duration{}, time.Minute, none},
		{"a clock that went back", smarterbot, -time.Hour, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			failed := time.Date(2026, 3, 1, 6, 0, 0, 123456000, time.UTC)
			at, ok := jobs.NextRetry(c.offsets, failed, failed.Add(c.now))
			switch {
			case c.want == none && ok:
				t.Errorf("another attempt at +%v, want none", at.Sub(failed))
			case c.want != none && (!ok || !at.Equal(failed.Add(c.want))):
				t.Errorf("NextRetry = +%v, %t; want +%v", at.Sub(failed), ok, c.want)
			}
		})
	}
}

// However slow the attempts are, every retry is at an offset, no offset is used twice, and the round ends.
func TestRoundEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offsets []time.Duration
		left := map[time.Duration]bool{}
		for sum := 0; len(offsets) < 5 && rapid.Bool().Draw(t, "more"); {
			sum += rapid.IntRange(1, 100).Draw(t, "gap")
			offsets = append(offsets, time.Duration(sum)*time.Second)
			left[offsets[len(offsets)-1]] = true
		}
		failed := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
		for now := failed; ; {
			at, ok := jobs.NextRetry(offsets, failed, now)
			if !ok {
				break
			}
			if !at.After(now) || !left[at.Sub(failed)] {
				t.Fatalf("retry at +%v, asked at +%v; offsets %v, left %v", at.Sub(failed), now.Sub(failed), offsets, left)
			}
			delete(left, at.Sub(failed))
			now = at.Add(time.Duration(rapid.IntRange(0, 60_000).Draw(t, "attempt")) * time.Millisecond)
		}
	})
}
