package sources

import (
	"fmt"
	"time"
)

// A dating is how one engine finds and orders rows by a time of theirs. Times go to the database, and stand in
// bookmarks, as the database's own values ("raw"), so that order is always the database's.
type dating struct {
	at      string // the time, in SQL
	cast    string // behind a parameter that holds a raw time
	undated string // condition of rows that no range of times finds: NULL, and what is no time
	// regions are the ranges of raw values that together hold every time at or after from, in order; zero: every time.
	regions func(from time.Time) []region
	// raw is a scanned value as it goes into a bookmark and back as a parameter.
	raw func(v any) any
	// span is how much time a value may stand for: a date is a day.
	span func(t time.Time) time.Duration
}

// A region is the raw values from low on of which a condition holds.
type region struct {
	low       any
	condition string
}

const (
	pgLayout = "2006-01-02 15:04:05.000000"
	// The zero time of Go programs is no time, and years past 9999 cannot be said on the wire.
	pgFirst, pgLast = "0001-01-02 00:00:00", "10000-01-01 00:00:00"
)

func (p *postgres) dating(cfg *Config, at instant) dating {
	typ, zone := at.typ, time.UTC
	suffix := "+00"
	if typ != "timestamptz" {
		zone, suffix = cfg.zone(), ""
	}
	span := time.Microsecond
	if at.day {
		span = 25 * time.Hour // the longest day
	}
	text := func(t time.Time) string { return t.In(zone).Format(pgLayout) + suffix }
	return dating{
		at: at.expr, cast: "::" + typ,
		undated: fmt.Sprintf("(%[1]s is null or %[1]s < '%[2]s' or %[1]s >= '%[3]s')", at.expr, pgFirst+suffix, pgLast+suffix),
		regions: func(from time.Time) []region {
			r := region{pgFirst + suffix, fmt.Sprintf("%s < '%s%s'", at.expr, pgLast, suffix)}
			if from.Year() > 1 {
				r.low = text(from.Add(time.Microsecond - span))
			}
			return []region{r}
		},
		raw: func(v any) any {
			t, ok := v.(time.Time)
			if !ok {
				return v
			}
			if typ == "timestamptz" {
				t = t.UTC()
			}
			return t.Format(pgLayout) + suffix
		},
		span: func(time.Time) time.Duration { return span },
	}
}

// dateGlob is what text begins as that is a time: see isDate.
const dateGlob = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"

// dating on SQLite has to do with whatever the application stores: text in several forms, with offsets or without,
// seconds, milliseconds. Text orders as time does to within two days; numbers below and above millisFrom are seconds
// and milliseconds. So a scan reads a little too much, and what is older than was asked for is dropped after. Text
// that does not begin as a date is no time here, since no range would find it.
func (s *sqlite) dating(cfg *Config, at instant) dating {
	const day = 24 * time.Hour
	// The last comparison lets a range end where text ends.
	number, text := fmt.Sprintf("typeof(%s) in ('integer', 'real')", at.expr), fmt.Sprintf("typeof(%s) = 'text' and %[1]s < x''", at.expr)
	// The plus keeps an index out of it: of two bounds SQLite begins at this one, and reads from the first row on.
	isDate := fmt.Sprintf("(+%s >= '0001-01-02' and %[1]s glob '%s')", at.expr, dateGlob)
	return dating{
		at:      at.expr,
		undated: fmt.Sprintf("(%s is null or typeof(%[1]s) = 'blob' or typeof(%[1]s) = 'text' and not %s)", at.expr, isDate),
		regions: func(from time.Time) []region {
			r := []region{
				{-1e300, number + " and " + at.expr + " < 1e11"},
				{millisFrom, number + " and " + at.expr + " < ''"},
				{"", text + " and " + isDate},
			}
			if from.Year() > 1 {
				micros := float64(from.Add(-day - 2*time.Hour).UnixMicro())
				r[0].low = micros / 1e6
				r[1].low = max(millisFrom, micros/1e3)
				r[2].low = from.UTC().Add(-2 * day).Format("2006-01-02")
			}
			return r
		},
		raw: func(v any) any { return v },
		span: func(t time.Time) time.Duration { // dates, and times without seconds, say less
			switch t := t.In(cfg.zone()); {
			case t.Nanosecond()%1000000 != 0:
				return time.Microsecond
			case t.Nanosecond() != 0:
				return time.Millisecond
			case t.Second() != 0:
				return time.Second
			case t.Minute() != 0 || t.Hour() != 0:
				return time.Minute
			}
			return day + time.Hour
		},
	}
}
