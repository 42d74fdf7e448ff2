package jobs

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, with days before it: 7d, 1d12h. A day has 24 hours.
func ParseDuration(s string) (time.Duration, bool) {
	var days time.Duration
	if number, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, false
		}
		if days = time.Duration(n) * day; rest == "" {
			return days, true
		}
		s = rest
	}
	if s == "" || strings.ContainsAny(s[:1], "+-") {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || days+d < 0 {
		return 0, false
	}
	return days + d, true
}

// SpellDuration writes a duration as a person would in the configuration: 90s, 1d12h.
func SpellDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	if n := d / day; n > 0 {
		b.WriteString(strconv.FormatInt(int64(n), 10) + "d")
		d %= day
	}
	if d == 0 {
		return b.String()
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return b.String() + s
}
