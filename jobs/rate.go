package jobs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Rate is how many requests a webhook's endpoint takes in a time; they are sent evenly spaced. The zero Rate is none.
type Rate struct {
	Requests int
	Per      time.Duration // a second, a minute, an hour or a day
}

var rateUnits = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}}

// MostRequests is the greatest number in a rate, whose spacing is kept in microseconds.
const MostRequests = 10_000

// ParseRate reads 5/s, 100/m, 1000/h or 20/d; "" is none.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 31)
	for _, u := range rateUnits {
		if err == nil && n > 0 && n <= MostRequests && unit == u.name {
			return Rate{int(n), u.per}, nil
		}
	}
	return Rate{}, fmt.Errorf("%q is no rate", s)
}

// String writes the rate as ParseRate reads it.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if r.Requests > 0 && r.Per == u.per {
			return strconv.Itoa(r.Requests) + "/" + u.name
		}
	}
	return ""
}

// Spacing is the time between two requests, to the microsecond above; 0 where there is no rate.
func (r Rate) Spacing() time.Duration {
	if r.Requests == 0 {
		return 0
	}
	return (r.Per + time.Duration(r.Requests)*time.Microsecond - time.Nanosecond) / time.Duration(r.Requests) / time.Microsecond * time.Microsecond
}
