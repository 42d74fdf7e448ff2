package jobs_test

import (
	"strconv"
	"strings"
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

// FuzzDuration: what is taken is what time.ParseDuration makes of it, with days before it, and is read again as it is
// written.
func FuzzDuration(f *testing.F) {
	for _, text := range []string{"90s", "7d", "1d12h", "1.5h", "-1s", "+1s", "1d-1h", "106751d", "106751d23h47m16.854775807s", "1dd", "0x1d", "١d", "1d1d", "µs", "1e3d", "0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := jobs.ParseDuration(text)
		if !ok {
			if want, err := time.ParseDuration(text); err == nil && want >= 0 && text[0] != '+' && text[0] != '-' {
				t.Fatalf("%q is %v, and is refused", text, want)
			}
			return
		}
		days, rest, cut := strings.Cut(text, "d")
		if !cut {
			days, rest = "0", text
		} else if rest == "" {
			rest = "0"
		}
		n, err := strconv.Atoi(days)
		want, rerr := time.ParseDuration(rest)
		if err != nil || rerr != nil || got != time.Duration(n)*24*time.Hour+want || got < 0 {
			t.Fatalf("%q is %v, want %s days and %v", text, got, days, want)
		}
		if again, ok := jobs.ParseDuration(jobs.SpellDuration(got)); !ok || again != got {
			t.Fatalf("%v is written %s", got, jobs.SpellDuration(got))
		}
	})
}
