package jobs

import (
	"time"

	"github.com/robfig/cron/v3"
)

// A Schedule says when a webhook's runs fire. The grammar is that of robfig/cron; the days on which clocks change
// are ours, since that package skips 02:30 in spring and runs it twice in autumn:
//
//   - @every D fires at the multiples of D since the Unix epoch, so that daemons and restarts agree.
//   - A schedule that names its hours fires once for each local day and time: where the clocks jump over it, at the
//     first instant after the jump; where they go back over it, the first time only.
//   - A schedule of every hour follows elapsed time: an hourly one fires 23 and 25 times on those days.
//
// A Schedule is safe for concurrent use.
type Schedule struct {
	every time.Duration      // of @every, whole seconds; 0 where cron fields rule
	cron  *cron.SpecSchedule // its bit sets only: Location and Next are not used
	zone  *time.Location
	key   string
}

// Key is the schedule's identity: the name under which the ledger keeps its fires. Schedules that fire at the same
// times for the same reason have one key however they are written ("@daily" and "0 0 * * *"), and it stays the same
// over daemons, restarts and releases. It reads as cron does: "0 6 * * 1-5 Europe/Prague", "@every 1h0m0s".
func (s *Schedule) Key() string { return s.key }

// Next is the first fire after t, and not at t, in UTC.
func (s *Schedule) Next(t time.Time) time.Time {
	switch {
	case s.every > 0:
		return s.nextMultiple(t)
	case s.cron.Hour&allHours == allHours:
		return s.nextElapsed(t)
	default:
		return s.nextLocal(t)
	}
}

// Last is the latest fire f with after < f ≤ now, in UTC: what a scheduler that last fired at after has to catch up
// on, since missed fires coalesce into one. It is false where there is none. Its cost grows with the logarithm of
// the time between the two and not with the fires.
func (s *Schedule) Last(after, now time.Time) (time.Time, bool) {
	fire := s.Next(after)
	if fire.After(now) {
		return time.Time{}, false
	}
	// No fire lies in (quiet, now]; fire is one at or before quiet. Each step halves what lies between them.
	for quiet := now; ; {
		next := s.Next(fire)
		if next.After(now) {
			return fire, true
		}
		middle := fire.Add(quiet.Sub(fire) / 2)
		if later := s.Next(middle); later.After(now) {
			fire, quiet = next, middle
		} else {
			fire = later
		}
	}
}

// nextMultiple is Next of @every.
func (s *Schedule) nextMultiple(t time.Time) time.Time {
	d, sec := int64(s.every/time.Second), t.Unix()
	n := sec / d
	if sec%d < 0 { // before 1970: round down, not towards zero
		n--
	}
	return time.Unix((n+1)*d, 0).UTC()
}

// nextElapsed is Next of a schedule of every hour: each instant at which the wall clock shows a matching time counts,
// those that it shows twice and those it never shows included. Between two changes of the clock wall time and elapsed
// time are the same, so it goes from change to change.
func (s *Schedule) nextElapsed(t time.Time) time.Time {
	t = t.In(s.zone)
	shown := s.match(wall(t).Add(time.Second))
	for {
		at := instant(shown, t)
		change, ever := nextChange(t)
		if !ever || at.Before(change) {
			return at
		}
		t, shown = change, s.match(wall(change))
	}
}

// nextLocal is Next of a schedule that names its hours.
func (s *Schedule) nextLocal(t time.Time) time.Time {
	shown := wall(t.In(s.zone)).Add(time.Second)
	for {
		shown = s.match(shown)
		if at := firstShown(shown, s.zone); at.After(t) && dayExists(shown, s.zone) {
			return at
		}
		shown = shown.Add(time.Minute) // shown before t already, the first time that clocks showed it
	}
}

// match is the first wall time, not before shown, that the five fields allow. ParseSchedule sees to it that there is
// one.
func (s *Schedule) match(shown time.Time) time.Time {
	if cut := shown.Truncate(time.Minute); cut.Before(shown) {
		shown = cut.Add(time.Minute)
	}
	for {
		year, month, day := shown.Date()
		switch {
		case !has(s.cron.Month, int(month)):
			shown = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.allowsDay(shown):
			shown = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case !has(s.cron.Hour, shown.Hour()):
			shown = shown.Truncate(time.Hour).Add(time.Hour)
		case !has(s.cron.Minute, shown.Minute()):
			shown = shown.Add(time.Minute)
		default:
			return shown
		}
	}
}

// allowsDay is cron's rule of the two day fields: where both are restricted, either will do.
func (s *Schedule) allowsDay(shown time.Time) bool {
	dom, dow := has(s.cron.Dom, shown.Day()), has(s.cron.Dow, int(shown.Weekday()))
	if s.cron.Dom&star != 0 || s.cron.Dow&star != 0 {
		return dom && dow
	}
	return dom || dow
}
