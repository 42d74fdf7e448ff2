package jobs_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// fires are the fires of a schedule in local time over the days from and to, both included.
func fires(t *testing.T, spec, zone, from, to string) []string {
	t.Helper()
	s, err := jobs.ParseSchedule(spec, zone)
	if err != nil {
		t.Fatal(err)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation(time.DateOnly, from, loc)
	if err != nil {
		t.Fatal(err)
	}
	var local []string
	for at = s.Next(at.Add(-time.Second)); at.In(loc).Format(time.DateOnly) <= to; at = s.Next(at) {
		if at.Location() != time.UTC {
			t.Fatalf("Next returned %v, which is not in UTC", at)
		}
		local = append(local, at.In(loc).Format("2006-01-02 15:04 -0700"))
	}
	return local
}

func TestNextWhereClocksChange(t *testing.T) {
	for _, c := range []struct {
		name, spec, zone, from, to string
		want                       []string
	}{
		{"skipped time of day", "30 2 * * *", "Europe/Prague", "2026-03-28", "2026-03-30", []string{
			"2026-03-28 02:30 +0100", "2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200",
		}},
		{"repeated time of day", "30 2 * * *", "Europe/Prague", "2026-10-24", "2026-10-26", []string{
			"2026-10-24 02:30 +0200", "2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100",
		}},
		{"several skipped times fire once", "0,15,30 2 * * *", "Europe/Prague", "2026-03-29", "2026-03-29", []string{
			"2026-03-29 03:00 +0200",
		}},
		{"every minute of a repeated hour fires once", "*/30 2 * * *", "Europe/Prague", "2026-10-25", "2026-10-25", []string{
			"2026-10-25 02:00 +0200", "2026-10-25 02:30 +0200",
		}},
		{"a skipped time meets a fire", "0 2,3 * * *", "Europe/Prague", "2026-03-29", "2026-03-29", []string{
			"2026-03-29 03:00 +0200",
		}},
		{"every second hour names its hours", "0 */2 * * *", "Europe/Prague", "2026-03-29", "2026-03-29", []string{
			"2026-03-29 00:00 +0100", "2026-03-29 03:00 +0200", "2026-03-29 04:00 +0200", "2026-03-29 06:00 +0200",
			"2026-03-29 08:00 +0200", "2026-03-29 10:00 +0200", "2026-03-29 12:00 +0200", "2026-03-29 14:00 +0200",
			"2026-03-29 16:00 +0200", "2026-03-29 18:00 +0200", "2026-03-29 20:00 +0200", "2026-03-29 22:00 +0200",
		}},
		{"half an hour skipped", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03", "2026-10-05", []string{
			"2026-10-03 02:15 +1030", "2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100",
		}},
		{"half an hour repeated", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04", "2026-04-06", []string{
			"2026-04-04 01:45 +1100", "2026-04-05 01:45 +1100", "2026-04-06 01:45 +1030",
		}},
		{"midnight skipped in Cairo", "@daily", "Africa/Cairo", "2026-04-23", "2026-04-25", []string{
			"2026-04-23 00:00 +0200", "2026-04-24 01:00 +0300", "2026-04-25 00:00 +0300",
		}},
		{"the last hour repeated in Cairo", "30 23 * * *", "Africa/Cairo", "2026-10-28", "2026-10-30", []string{
			"2026-10-28 23:30 +0300", "2026-10-29 23:30 +0300", "2026-10-30 23:30 +0200",
		}},
		{"midnight skipped in São Paulo", "@daily", "America/Sao_Paulo", "2018-11-03", "2018-11-05", []string{
			"2018-11-03 00:00 -0300", "2018-11-04 01:00 -0200", "2018-11-05 00:00 -0200",
		}},
		{"the midnight before a skipped one is another day", "0 0 4 11 *", "America/Sao_Paulo", "2018-11-01", "2018-11-30", []string{
			"2018-11-04 01:00 -0200",
		}},
		{"midnight repeated in Havana", "@daily", "America/Havana", "2026-10-31", "2026-11-02", []string{
			"2026-10-31 00:00 -0400", "2026-11-01 00:00 -0400", "2026-11-02 00:00 -0500",
		}},
		{"a day that Samoa did not have", "30 2 * * *", "Pacific/Apia", "2011-12-28", "2012-01-01", []string{
			"2011-12-28 02:30 -1000", "2011-12-29 02:30 -1000", "2011-12-31 02:30 +1400", "2012-01-01 02:30 +1400",
		}},
		{"the last day of a leap year, which Go's zone bounds get wrong", "30 2 * * *", "Europe/Prague", "2040-12-30", "2041-01-01", []string{
			"2040-12-30 02:30 +0100", "2040-12-31 02:30 +0100", "2041-01-01 02:30 +0100",
		}},
		{"minutes past each hour, half an hour skipped", "10 * * * *", "Australia/Lord_Howe", "2026-10-04", "2026-10-04", []string{
			"2026-10-04 00:10 +1030", "2026-10-04 01:10 +1030", "2026-10-04 03:10 +1100", "2026-10-04 04:10 +1100",
			"2026-10-04 05:10 +1100", "2026-10-04 06:10 +1100", "2026-10-04 07:10 +1100", "2026-10-04 08:10 +1100",
			"2026-10-04 09:10 +1100", "2026-10-04 10:10 +1100", "2026-10-04 11:10 +1100", "2026-10-04 12:10 +1100",
			"2026-10-04 13:10 +1100", "2026-10-04 14:10 +1100", "2026-10-04 15:10 +1100", "2026-10-04 16:10 +1100",
			"2026-10-04 17:10 +1100", "2026-10-04 18:10 +1100", "2026-10-04 19:10 +1100", "2026-10-04 20:10 +1100",
			"2026-10-04 21:10 +1100", "2026-10-04 22:10 +1100", "2026-10-04 23:10 +1100",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, fires(t, c.spec, c.zone, c.from, c.to)); d != "" {
				t.Errorf("fires of %s (-want +got):\n%s", c.spec, d)
			}
		})
	}
}

func TestHourlyFollowsElapsedTime(t *testing.T) {
	for _, c := range []struct {
		spec, zone, day string
		want            int
	}{
		{"@hourly", "Europe/Prague", "2026-03-28", 24},
		{"@hourly", "Europe/Prague", "2026-03-29", 23},
		{"@hourly", "Europe/Prague", "2026-10-25", 25},
		{"30 0-23 * * *", "Europe/Prague", "2026-03-29", 23},
		{"30 */1 * * *", "Europe/Prague", "2026-10-25", 25},
		{"*/15 * * * *", "Europe/Prague", "2026-10-25", 100},
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-10-04", 94}, // 23½ hours
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-04-05", 98}, // 24½ hours
		{"@every 1h", "Europe/Prague", "2026-03-29", 23},
		{"@every 1h", "Europe/Prague", "2026-10-25", 25},
	} {
		t.Run(c.spec+" "+c.zone+" "+c.day, func(t *testing.T) {
			if got := fires(t, c.spec, c.zone, c.day, c.day); len(got) != c.want {
				t.Errorf("%d fires, want %d: %v", len(got), c.want, got)
			}
		})
	}
}

func TestNextOfRareDates(t *testing.T) {
	for _, c := range []struct {
		name, spec, after string
		want              []string
	}{
		{"leap day, across a year that is none", "0 0 29 2 *", "2096-03-01 00:00", []string{"2104-02-29 00:00"}},
		{"long months only", "0 12 31 * *", "2026-01-31 12:00", []string{"2026-03-31 12:00", "2026-05-31 12:00"}},
		{"both day fields: either will do", "0 0 13 * 5", "2026-02-01 00:00", []string{
			"2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00", "2026-02-27 00:00", "2026-03-06 00:00",
		}},
		{"one day field: only that", "0 0 13 * *", "2026-02-01 00:00", []string{"2026-02-13 00:00", "2026-03-13 00:00"}},
		{"a day that no month has, or Mondays", "0 0 31 2 1", "2026-02-01 00:00", []string{"2026-02-02 00:00", "2026-02-09 00:00"}},
		{"names", "5 4 * JAN,Jul sun", "2026-06-30 00:00", []string{"2026-07-05 04:05", "2026-07-12 04:05"}},
		{"multiples of the epoch, not of the start", "@every 7h", "1970-01-01 00:00", []string{"1970-01-01 07:00", "1970-01-01 14:00"}},
		{"before the epoch", "@every 7h", "1969-12-31 00:00", []string{"1969-12-31 03:00", "1969-12-31 10:00", "1969-12-31 17:00", "1970-01-01 00:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := jobs.ParseSchedule(c.spec, "")
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse("2006-01-02 15:04", c.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range c.want {
				at = s.Next(at)
				got = append(got, at.Format("2006-01-02 15:04"))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("fires of %s (-want +got):\n%s", c.spec, d)
			}
		})
	}
}

func TestLast(t *testing.T) {
	day := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct {
		name, spec, after, now, want string // want "": none
	}{
		{"none due", "@daily", "2026-05-01T00:00:00Z", "2026-05-01T23:59:59Z", ""},
		{"due now", "@daily", "2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", "2026-05-02T00:00:00Z"},
		{"missed days are one", "@daily", "2026-05-01T00:00:00Z", "2026-05-09T07:00:00Z", "2026-05-09T00:00:00Z"},
		{"years of seconds", "@every 1s", "1970-01-01T00:00:00Z", "2026-05-09T07:00:00.5Z", "2026-05-09T07:00:00Z"},
		{"years of minutes", "* * * * *", "1970-01-01T00:00:00Z", "2026-05-09T07:00:59Z", "2026-05-09T07:00:00Z"},
		{"since a time that was never set", "@every 1s", "0001-01-01T00:00:00Z", "2026-05-09T07:00:00Z", "2026-05-09T07:00:00Z"},
		{"a crowded day, long ago", "* * 1 1 *", "2020-01-01T00:00:00Z", "2026-05-09T07:00:00Z", "2026-01-01T23:59:00Z"},
		{"a clock that went back", "@hourly", "2026-05-09T07:00:00Z", "2026-05-09T06:00:00Z", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := jobs.ParseSchedule(c.spec, "UTC")
			if err != nil {
				t.Fatal(err)
			}
			got, ok := s.Last(day(c.after), day(c.now))
			if ok != (c.want != "") || ok && !got.Equal(day(c.want)) {
				t.Errorf("Last = %v, %t; want %s", got, ok, c.want)
			}
		})
	}
}

func TestNextAgreesWithCronInUTC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.Custom(drawSpec).Draw(t, "spec")
		ours, err := jobs.ParseSchedule(spec, "UTC")
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := cron.ParseStandard(spec)
		if err != nil {
			t.Fatal(err)
		}
		at := drawTime(t)
		for range 20 {
			got, want := ours.Next(at), theirs.Next(at)
			if !got.Equal(want) && !want.IsZero() { // theirs gives up after five years
				t.Fatalf("%q after %v: ours %v, theirs %v", spec, at, got, want)
			}
			at = got
		}
	})
}

func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.OneOf(rapid.Custom(drawSpec), rapid.Custom(drawEvery)).Draw(t, "spec")
		zone := drawZone(t)
		s, err := jobs.ParseSchedule(spec, zone)
		if err != nil {
			t.Fatal(err)
		}
		after := drawTime(t)
		next := s.Next(after)
		if !next.After(after) {
			t.Fatalf("Next(%v) = %v is not after it", after, next)
		}
		if next.Nanosecond() != 0 {
			t.Fatalf("Next(%v) = %v has a fraction of a second", after, next)
		}
		between := after.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(after))-1).Draw(t, "between")))
		if got := s.Next(between); !got.Equal(next) {
			t.Fatalf("Next(%v) = %v, and Next(%v), which lies before that, = %v", after, next, between, got)
		}

		fire := after
		now := after.Add(time.Duration(rapid.Int64Range(0, int64(30*24*time.Hour)).Draw(t, "now")))
		for steps := 0; ; steps++ {
			later := s.Next(fire)
			if later.After(now) {
				break
			}
			if fire = later; steps > 2000 {
				now = fire // the rest says no more
			}
		}
		got, ok := s.Last(after, now)
		if ok != fire.After(after) || ok && !got.Equal(fire) {
			t.Fatalf("Last(%v, %v) = %v, %t; the fires up to then end at %v", after, now, got, ok, fire)
		}
	})
}

// A schedule that names one time of day fires exactly once for every day that a zone has.
func TestOnceEveryLocalDay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := drawZone(t)
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		hour, minute := rapid.IntRange(0, 22).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute")
		s, err := jobs.ParseSchedule(time.Date(0, 1, 1, hour, minute, 0, 0, time.UTC).Format("4 15 * * *"), zone)
		if err != nil {
			t.Fatal(err)
		}
		// After 1970 no clock was put forward over a midnight from before 23:00.
		year := rapid.IntRange(1971, 2100).Draw(t, "year")
		want := map[string]int{}
		start, end := time.Date(year, 1, 1, 0, 0, 0, 0, loc), time.Date(year+1, 1, 1, 0, 0, 0, 0, loc)
		for at := start; at.Before(end); at = at.Add(3 * time.Hour) {
			want[at.Format(time.DateOnly)] = 1
		}
		got := map[string]int{}
		for at := s.Next(start.Add(-time.Second)); at.Before(end); at = s.Next(at) {
			got[at.In(loc).Format(time.DateOnly)]++
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("fires a day at %02d:%02d (-want +got):\n%s", hour, minute, d)
		}
	})
}

func drawZone(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		"UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Sao_Paulo",
		"America/Havana", "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca", "Antarctica/Troll", "Asia/Gaza",
		"America/St_Johns", "Europe/Dublin", "Pacific/Kwajalein", "America/Scoresbysund",
	}).Draw(t, "zone")
}

func drawTime(t *rapid.T) time.Time {
	first, last := time.Date(1972, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	return time.Unix(rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "second"),
		rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).UTC()
}

func drawEvery(t *rapid.T) string {
	return "@every " + (time.Duration(rapid.Int64Range(1, 1_000_000).Draw(t, "seconds")) * time.Second).String()
}
