package jobs_test

import (
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "1d0s": 24 * time.Hour, "1.5h": 90 * time.Minute,
		"2h45m": 165 * time.Minute, "250ms": 250 * time.Millisecond,
	} {
		if got, ok := jobs.ParseDuration(text); !ok || got != want {
			t.Errorf("%s is %v, %v; want %v", text, got, ok, want)
		}
		if again, ok := jobs.ParseDuration(jobs.SpellDuration(want)); !ok || again != want {
			t.Errorf("%v is written %s", want, jobs.SpellDuration(want))
		}
	}
	for _, text := range []string{"", "d", "1", "soon", "-1s", "+1s", "1d-1h", "1d+1h", "1h1d", "1.5d", "d1h", "106752d", "106751d24h", "9999999999999d", "1dd", "7 d", "1w"} {
		if got, ok := jobs.ParseDuration(text); ok {
			t.Errorf("%q is %v, want none", text, got)
		}
	}
}
