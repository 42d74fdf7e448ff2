package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// drawField writes a cron field in any of the ways that cron has.
func drawField(t *rapid.T, name string, low, high int) string {
	value := rapid.IntRange(low, high)
	parts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		a, b := value.Draw(t, "a"), value.Draw(t, "b")
		step := rapid.IntRange(1, high).Draw(t, "step")
		return rapid.SampledFrom([]string{
			"*", "?", fmt.Sprintf("*/%d", step), fmt.Sprint(a), fmt.Sprintf("%d/%d", a, step),
			fmt.Sprintf("%d-%d", min(a, b), max(a, b)), fmt.Sprintf("%d-%d/%d", min(a, b), max(a, b), step),
		}).Draw(t, "form")
	}), 1, 3).Draw(t, name)
	return strings.Join(parts, ",")
}

// drawSpec writes five cron fields that allow a date: the leap day, or months with January, which has all days.
func drawSpec(t *rapid.T) string {
	if rapid.IntRange(0, 9).Draw(t, "rare") == 9 {
		return drawField(t, "minute", 0, 59) + " " + drawField(t, "hour", 0, 23) + " 29 2 " +
			rapid.SampledFrom([]string{"*", "1", "*/2"}).Draw(t, "weekday")
	}
	return drawField(t, "minute", 0, 59) + " " + drawField(t, "hour", 0, 23) + " " +
		drawField(t, "day of month", 1, 31) + " 1," +
		drawField(t, "month", 1, 12) + " " + drawField(t, "weekday", 0, 6)
}

func TestScheduleKey(t *testing.T) {
	for _, c := range []struct{ name, spec, zone, want string }{
		{"as written", "0 6 * * *", "Europe/Prague", "0 6 * * * Europe/Prague"},
		{"no zone is UTC", "0 6 * * *", "", "0 6 * * * UTC"},
		{"white space", " 0  6\t* * * ", "", "0 6 * * * UTC"},
		{"descriptor", "@daily", "", "0 0 * * * UTC"},
		{"another word for it", "@Midnight", "", "0 0 * * * UTC"},
		{"hourly", "@hourly", "Asia/Tokyo", "0 * * * * Asia/Tokyo"},
		{"weekly", "@weekly", "", "0 0 * * 0 UTC"},
		{"monthly", "@monthly", "", "0 0 1 * * UTC"},
		{"yearly", "@yearly", "", "0 0 1 1 * UTC"},
		{"names, lists and ranges", "0 6 * JAN-mar,3 mon,TUE,3", "", "0 6 * 1-3 1-3 UTC"},
		{"steps", "*/20 8-18/5 ? * ?", "", "0,20,40 8,13,18 * * * UTC"},
		{"all hours", "0 0-23 * * *", "", "0 * * * * UTC"},
		{"a full day field is restricted all the same", "0 0 1-31 * 1", "", "0 0 1-31 * 1 UTC"},
		{"a duration has no zone", "@every  90m", "Asia/Tokyo", "@every 1h30m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := jobs.ParseSchedule(c.spec, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Key(); got != c.want {
				t.Errorf("Key() = %q, want %q", got, c.want)
			}
		})
	}
}

func TestScheduleMistakes(t *testing.T) {
	for _, c := range []struct{ name, spec, zone, want string }{
		{"nothing", "  ", "", "write \"0 6 * * *\""},
		{"a zone alone, on which cron panics", "TZ=UTC", "", "write timezone: UTC"},
		{"a zone before the fields", "CRON_TZ=Asia/Tokyo 0 6 * * *", "", "write timezone: Asia/Tokyo"},
		{"a zone in small letters", "tz=UTC 0 6 * * *", "", "write timezone: UTC"},
		{"a zone without a name", "TZ= 0 6 * * *", "", "write timezone: Europe/Prague"},
		{"four fields", "0 6 * *", "", "has 4 fields instead of 5"},
		{"seconds", "0 0 6 * * *", "", "seconds are not supported, @every 30s is"},
		{"no hour", "0 25 * * *", "", `"25" is no hour; write 0-23`},
		{"no minute", "x 6 * * *", "", `"x" is no minute; write 0-59`},
		{"no day", "0 6 0 * *", "", `"0" is no day of month; write 1-31`},
		{"no month", "0 6 * juno *", "", `"juno" is no month; write 1-12 or jan-dec`},
		{"Sunday as 7", "0 6 * * 7", "", `"7" is no weekday; write 0-6, where 0 is Sunday`},
		{"a range that goes down", "0 22-4 * * *", "", `"22-4" is no hour`},
		{"a comma alone, which cron never fires", ", 6 * * *", "", `"," is no minute`},
		{"a comma too many", "0,,5 6 * * *", "", `"0,,5" is no minute`},
		{"a star with a range, which cron takes for a star", "0 *-5 * * *", "", `"*-5" is no hour`},
		{"step 0", "*/0 * * * *", "", `"*/0" is no minute`},
		{"30 February", "0 6 30 2 *", "", `never fires: month "2" has no day "30"`},
		{"31st of short months", "0 6 31 4,6,9,11 *", "", "never fires"},
		{"reboot", "@reboot", "", "@reboot is no time"},
		{"unknown word", "@dayly", "", "write @yearly, @monthly"},
		{"a word and more", "@daily 5", "", "write @yearly, @monthly"},
		{"no duration", "@every", "", "write @every 90s"},
		{"a duration in days", "@every 7d", "", `"7d" is no duration`},
		{"below a second", "@every 500ms", "", "the shortest is @every 1s"},
		{"a negative duration", "@every -1h", "", "the shortest is @every 1s"},
		{"a fraction of a second", "@every 1500ms", "", "write @every 1s"},
		{"no zone", "@daily", "Europe/Pargue", "Europe/Pargue"},
		{"the host's zone", "@daily", "Local", "write an IANA name"},
		{"an offset", "@daily", "+02:00", "write an IANA name"},
		{"a file", "@daily", "../../etc/passwd", "write an IANA name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := jobs.ParseSchedule(c.spec, c.zone)
			if err == nil {
				t.Fatalf("ParseSchedule(%q, %q) took it", c.spec, c.zone)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("ParseSchedule(%q, %q): %v; want one line with %q", c.spec, c.zone, err, c.want)
			}
		})
	}
}

// The key is a schedule's name in the ledger, so it must say all that decides when it fires, and read as itself.
func TestScheduleKeySaysAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := drawZone(t)
		s, err := jobs.ParseSchedule(rapid.OneOf(rapid.Custom(drawSpec), rapid.Custom(drawEvery)).Draw(t, "spec"), zone)
		if err != nil {
			t.Fatal(err)
		}
		again, err := jobs.ParseSchedule(strings.TrimSuffix(s.Key(), " "+zone), zone)
		if err != nil {
			t.Fatalf("the key %q is no schedule: %v", s.Key(), err)
		}
		if again.Key() != s.Key() {
			t.Fatalf("the key %q reads as %q", s.Key(), again.Key())
		}
		for at, i := drawTime(t), 0; i < 20; i++ {
			next := s.Next(at)
			if other := again.Next(at); !other.Equal(next) {
				t.Fatalf("after %v the schedule %q fires at %v, and the one that its key says at %v", at, s.Key(), next, other)
			}
			at = next
		}
	})
}

// FuzzParseSchedule: what is taken fires after any time, at times that its fields allow, and as robfig/cron does where no
// clock changes; what is not is said in one line.
func FuzzParseSchedule(f *testing.F) {
	for _, spec := range []string{
		"0 6 * * *", "@daily", "@every 1h", "TZ=UTC", "CRON_TZ=UTC * * * * *", "*/15 8-18 ? JAN-mar mon,5", "0 0 29 2 *",
		"@every 2540400h", "@every -1s", "1-2-3 * * * *", "*/18446744073709551615 * * * *", ",,,, , , , ,", "@", "=",
		"30 2 * * 0", "0 0 31 12 *", "59 23 28-31 * 6", "*/7 */5 */3 */2 *",
	} {
		f.Add(spec, "Europe/Prague", int64(1774746000))
	}
	f.Add("@daily", "Local", int64(0))
	f.Add("0 0 * * *", "America/Sao_Paulo", int64(1541214000))
	f.Add("0 12 30 12 *", "Pacific/Apia", int64(1325239200))
	f.Fuzz(func(t *testing.T, spec, zone string, unix int64) {
		s, err := jobs.ParseSchedule(spec, zone)
		if err != nil {
			if s != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, with %v", err, s)
			}
			return
		}
		if s.Key() == "" || strings.ContainsAny(s.Key(), "\n\x00") {
			t.Fatalf("key %q", s.Key())
		}
		at := time.Unix(unix%(200*365*86400), 999).UTC()
		next := s.Next(at)
		if !next.After(at) || next.Location() != time.UTC || !s.Next(next.Add(-time.Nanosecond)).Equal(next) {
			t.Fatalf("%s: Next(%v) = %v", s.Key(), at, next)
		}
		if last, ok := s.Last(at, next); !ok || !last.Equal(next) {
			t.Fatalf("%s: the last fire until %v is %v", s.Key(), next, last)
		}
		if _, ok := s.Last(at, next.Add(-time.Nanosecond)); ok {
			t.Fatalf("%s: it fires before %v", s.Key(), next)
		}
		utc, err := jobs.ParseSchedule(spec, "")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(utc.Key(), "@every") {
			return
		}
		theirs, err := cron.ParseStandard(strings.Join(strings.Fields(spec), " "))
		if err != nil {
			t.Fatal(err)
		}
		// They look no farther than five years.
		if want := theirs.Next(at); !want.IsZero() && !utc.Next(at).Equal(want) {
			t.Fatalf("%s: after %v it fires at %v, and cron's at %v", utc.Key(), at, utc.Next(at), want)
		}
	})
}
