package sources

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// parseTime reads a time as applications write it to text columns: RFC 3339, and the same with a space for the T,
// without seconds, with any number of fraction digits, without a zone (then it is zone's), with an offset of hours
// alone, a date alone, what Go's Time.String prints, and Unix seconds or milliseconds in digits. The result is UTC in
// the years 1 to 9999, cut to microseconds.
func parseTime(s string, zone *time.Location) (time.Time, bool) {
	if !isDate(s) {
		return parseUnix(s)
	}
	year, month, day := digits(s[0:4]), digits(s[5:7]), digits(s[8:10])
	if year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return time.Time{}, false
	}
	var hour, minute, second, nano int
	if rest := s[10:]; rest != "" {
		if c := rest[0]; c != 'T' && c != 't' && c != ' ' {
			return time.Time{}, false
		}
		rest = rest[1:]
		if len(rest) < 5 || !isDigits(rest[:2]) || rest[2] != ':' || !isDigits(rest[3:5]) {
			return time.Time{}, false
		}
		hour, minute, rest = digits(rest[:2]), digits(rest[3:5]), rest[5:]
		if len(rest) >= 3 && rest[0] == ':' && isDigits(rest[1:3]) {
			second, rest = digits(rest[1:3]), rest[3:]
			nano, rest = fraction(rest)
		}
		if hour > 23 || minute > 59 || second > 59 {
			return time.Time{}, false
		}
		if rest != "" {
			offset, ok := parseOffset(rest)
			if !ok {
				return time.Time{}, false
			}
			t := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
			return inYears(t.Add(-offset))
		}
	}
	return inYears(time.Date(year, time.Month(month), day, hour, minute, second, nano, zone))
}

// isDate reports whether s begins as YYYY-MM-DD does. The created cursor on SQLite asks the database the same.
func isDate(s string) bool {
	return len(s) >= 10 && isDigits(s[0:4]) && s[4] == '-' && isDigits(s[5:7]) && s[7] == '-' && isDigits(s[8:10])
}

// fraction reads digits behind a point or comma; those past nanoseconds are dropped.
func fraction(s string) (nano int, rest string) {
	if len(s) < 2 || s[0] != '.' && s[0] != ',' || !isDigits(s[1:2]) {
		return 0, s
	}
	unit := int(time.Second)
	for s = s[1:]; s != "" && isDigits(s[:1]); s = s[1:] {
		unit /= 10
		nano += int(s[0]-'0') * unit
	}
	return nano, s
}

// parseOffset reads Z, UTC, ±hh, ±hhmm or ±hh:mm, after a space or not, and passes over the zone's name and the
// monotonic clock that Go's Time.String adds.
func parseOffset(s string) (time.Duration, bool) {
	s = strings.TrimPrefix(s, " ")
	switch s {
	case "Z", "z", "UTC", "GMT":
		return 0, true
	}
	if len(s) < 3 || s[0] != '+' && s[0] != '-' || !isDigits(s[1:3]) {
		return 0, false
	}
	sign := time.Duration(1)
	if s[0] == '-' {
		sign = -1
	}
	hours, minutes := digits(s[1:3]), 0
	s = s[3:]
	switch {
	case len(s) >= 3 && s[0] == ':' && isDigits(s[1:3]):
		minutes, s = digits(s[1:3]), s[3:]
	case len(s) >= 2 && isDigits(s[:2]):
		minutes, s = digits(s[:2]), s[2:]
	}
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	if s != "" {
		name, clock, _ := strings.Cut(strings.TrimPrefix(s, " "), " ")
		if s[0] != ' ' || !isZoneName(name) || clock != "" && !strings.HasPrefix(clock, "m=") {
			return 0, false
		}
	}
	return sign * (time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute), true
}

func isZoneName(s string) bool {
	if s == "" || len(s) > 6 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '+' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parseUnix reads digits as a Unix time. Fewer than nine are no time: 20231123 is somebody's date.
func parseUnix(s string) (time.Time, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if len(whole) < 9 || len(s) > 30 || !isDigits(whole) || !isDigits(frac) {
		return time.Time{}, false
	}
	if frac == "" {
		n, err := strconv.ParseInt(whole, 10, 64)
		if err != nil {
			return time.Time{}, false
		}
		return unixTime(n)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return time.Time{}, false
	}
	return unixFloat(f)
}

// millisFrom is where numbers stop being seconds: as seconds it is the year 5138, as milliseconds March 1973.
const millisFrom = 1e11

func unixTime(n int64) (time.Time, bool) {
	if n > millisFrom || n < -millisFrom {
		return inYears(time.UnixMilli(n))
	}
	return inYears(time.Unix(n, 0))
}

func unixFloat(f float64) (time.Time, bool) {
	micros := 1e6
	if math.Abs(f) > millisFrom {
		micros = 1e3
	}
	f = math.Round(f * micros) // a float is near a microsecond, on either side of it
	if !(math.Abs(f) < 1e18) { // NaN, too
		return time.Time{}, false
	}
	return inYears(time.UnixMicro(int64(f)))
}

// inYears cuts t to UTC microseconds and holds it to the years that the wire can say. The zero Time, which Go programs
// store for no time at all, passes: a record's Created means the same by it.
func inYears(t time.Time) (time.Time, bool) {
	t = t.UTC().Truncate(time.Microsecond)
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}, false
	}
	return t, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func digits(s string) int {
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
