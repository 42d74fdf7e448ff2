package jobs

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a host without zone files must fire at the same times as the others

	"github.com/robfig/cron/v3"
)

// star is the bit that robfig/cron sets in a field that was written as * or ?.
const star = 1 << 63

// allHours are the bits of the hours 0 to 23.
const allHours = 1<<24 - 1

// cronFields are the five fields of a cron text, as they are called in messages.
var cronFields = [...]struct{ name, values string }{
	{"minute", "0-59"},
	{"hour", "0-23"},
	{"day of month", "1-31"},
	{"month", "1-12 or jan-dec"},
	{"weekday", "0-6, where 0 is Sunday, or sun-sat"},
}

const scheduleExamples = `"0 6 * * *", @daily, @hourly or @every 1h`

// ParseSchedule reads a schedule: five cron fields, @yearly, @monthly, @weekly, @daily, @hourly or @every and a
// duration. timezone is the IANA name of the zone whose clocks it follows, "" for UTC. Errors name what to write.
func ParseSchedule(spec, timezone string) (*Schedule, error) {
	zone, err := ParseZone(timezone)
	if err != nil {
		return nil, err
	}
	spec = strings.Join(strings.Fields(spec), " ")
	if spec == "" {
		return nil, errors.New("the schedule is empty; write " + scheduleExamples)
	}
	// robfig/cron takes a zone in the text, and panics where nothing follows it.
	if name, rest, found := strings.Cut(spec, "="); found && (strings.EqualFold(name, "TZ") || strings.EqualFold(name, "CRON_TZ")) {
		place, _, _ := strings.Cut(rest, " ")
		if place == "" {
			place = "Europe/Prague"
		}
		return nil, fmt.Errorf("schedule %q: the zone is a key of its own; write timezone: %s and leave %s= out here", spec, place, name)
	}
	if strings.HasPrefix(spec, "@") {
		return parseDescriptor(spec, zone)
	}
	return parseFields(spec, zone)
}

// ParseZone finds a time zone by its IANA name; "" is UTC. The host's own zone is refused: daemons on several hosts
// must agree on when a schedule fires.
func ParseZone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || strings.HasPrefix(strings.ToLower(name), "local") {
		return nil, fmt.Errorf("time zone %q is not known; write an IANA name such as Europe/Prague, or UTC", name)
	}
	return zone, nil
}

func parseDescriptor(spec string, zone *time.Location) (*Schedule, error) {
	word, arg, _ := strings.Cut(spec, " ")
	word = strings.ToLower(word)
	switch {
	case word == "@every":
		return parseEvery(spec, arg)
	case word == "@reboot":
		return nil, errors.New("@reboot is no time, and what was missed while the daemon was down is caught up on without it; write " + scheduleExamples)
	}
	parsed, err := cron.ParseStandard(strings.TrimSpace(word + " " + arg))
	fields, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return nil, fmt.Errorf("schedule %q is not known; write @yearly, @monthly, @weekly, @daily, @hourly, @every 1h or five cron fields", spec)
	}
	return newSchedule(fields, zone), nil
}

func parseEvery(spec, arg string) (*Schedule, error) {
	d, err := time.ParseDuration(arg)
	switch {
	case err != nil:
		return nil, fmt.Errorf("schedule %q: %q is no duration; write @every 90s, @every 15m, @every 1h30m or @every 24h", spec, arg)
	case d < time.Second:
		return nil, fmt.Errorf("schedule %q: the shortest is @every 1s", spec)
	case d%time.Second != 0:
		return nil, fmt.Errorf("schedule %q: fractions of a second are not kept; write @every %s", spec, d.Truncate(time.Second))
	}
	return &Schedule{every: d, key: "@every " + d.String()}, nil
}

func parseFields(spec string, zone *time.Location) (*Schedule, error) {
	fields := strings.Fields(spec)
	if len(fields) != len(cronFields) {
		hint := "write minute, hour, day of month, month and weekday"
		if len(fields) == len(cronFields)+1 {
			hint += "; seconds are not supported, @every 30s is"
		}
		return nil, fmt.Errorf("schedule %q has %d fields instead of 5; %s, such as %s", spec, len(fields), hint, scheduleExamples)
	}
	for i, text := range fields {
		if !fieldValid(i, text) {
			return nil, fmt.Errorf("schedule %q: %q is no %s; write %s, a list 1,2, an ascending range 1-5, a step */2 or *",
				spec, text, cronFields[i].name, cronFields[i].values)
		}
	}
	parsed, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", spec, err)
	}
	s := newSchedule(parsed.(*cron.SpecSchedule), zone)
	if !s.possible() {
		return nil, fmt.Errorf("schedule %q never fires: month %q has no day %q", spec, fields[3], fields[2])
	}
	return s, nil
}

// fieldValid judges one field by itself, so that a mistake can be named by its field. It refuses what robfig/cron
// takes and then reads as something else: "," as never, "*-5" as *.
func fieldValid(i int, text string) bool {
	for _, part := range strings.Split(text, ",") {
		if part == "" || strings.ContainsAny(part[:1], "*?") && len(part) > 1 && part[1] != '/' {
			return false
		}
	}
	alone := [...]string{"*", "*", "*", "*", "*"}
	alone[i] = text
	_, err := cron.ParseStandard(strings.Join(alone[:], " "))
	return err == nil
}

// newSchedule names the schedule by what its fields allow, not by how they were written.
func newSchedule(c *cron.SpecSchedule, zone *time.Location) *Schedule {
	// Whether a * was written matters in the two day fields alone.
	key := strings.Join([]string{
		fieldText(c.Minute, 0, 59, true),
		fieldText(c.Hour, 0, 23, true),
		fieldText(c.Dom, 1, 31, false),
		fieldText(c.Month, 1, 12, true),
		fieldText(c.Dow, 0, 6, false),
		zone.String(),
	}, " ")
	return &Schedule{cron: c, zone: zone, key: key}
}

// fieldText writes a field's bits as cron does: *, or values and ranges in ascending order.
func fieldText(set uint64, low, high int, fullIsStar bool) string {
	if set&star != 0 || fullIsStar && bits.OnesCount64(set) == high-low+1 {
		return "*"
	}
	var parts []string
	for v := low; v <= high; v++ {
		if !has(set, v) {
			continue
		}
		first := v
		for v < high && has(set, v+1) {
			v++
		}
		part := strconv.Itoa(first)
		if v > first {
			part += "-" + strconv.Itoa(v)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// possible reports whether the fields allow any date: 30 February is none. A weekday that is restricted makes every
// month possible, since either day field will do then.
func (s *Schedule) possible() bool {
	if s.cron.Dow&star == 0 {
		return true
	}
	for month := 1; month <= 12; month++ {
		longest := time.Date(2000, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day() // a leap year
		if has(s.cron.Month, month) && s.cron.Dom&(1<<(longest+1)-2) != 0 {
			return true
		}
	}
	return false
}

func has(set uint64, v int) bool { return set&(1<<v) != 0 }
