package jobs

import "time"

// Wall times are what a clock on the wall shows, held as a time.Time in UTC whose own instant means nothing.

// wall is what the clock in t's zone shows at t, cut to the second.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return time.Unix(t.Unix()+int64(offset), 0).UTC()
}

// instant is when a clock set as it is at t shows this wall time, in UTC.
func instant(shown, t time.Time) time.Time {
	_, offset := t.Zone()
	return shown.Add(-time.Duration(offset) * time.Second)
}

// nextChange is when the clock in t's zone may change next, in that zone; until then its offset stays what it is at t.
// It is false where it never does.
func nextChange(t time.Time) (time.Time, bool) {
	_, end := t.ZoneBounds()
	if end.IsZero() {
		return end, false
	}
	if !end.After(t) {
		// On 31 December of a leap year, in a zone that changes by rule, Go 1.26 gives the day's own beginning.
		end = t.Add(time.Hour)
	}
	return end, true
}

// farthest is more than any zone's offset from UTC ever was.
const farthest = 26 * time.Hour

// firstShown is the first instant at which the clocks of zone show this wall time or a later one, in UTC. time.Date
// does not say which of two instants it picks, nor what it does with a time that is skipped.
func firstShown(shown time.Time, zone *time.Location) time.Time {
	t := shown.Add(-farthest).In(zone)
	for {
		at := instant(shown, t)
		if at.Before(t) { // the clocks were put forward past it at t
			return t.UTC()
		}
		change, ever := nextChange(t)
		if !ever || at.Before(change) {
			return at
		}
		t = change
	}
}

// dayExists reports whether the clocks of zone show any time of this day: Samoa had no 30 December in 2011.
func dayExists(shown time.Time, zone *time.Location) bool {
	midnight := shown.Truncate(24 * time.Hour)
	return wall(firstShown(midnight, zone).In(zone)).Before(midnight.AddDate(0, 0, 1))
}
