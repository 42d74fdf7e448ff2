package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzTimes: a time on the command line is the one that it says, or a usage error in one line.
func FuzzTimes(f *testing.F) {
	for _, text := range []string{"2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31 12:00", "2026-01-31T12:00:00.5+01:00", "1700000000", "-1", "2026-02-30", "99999-01-01T00:00:00Z", "now", "", "1e9", "0001-01-01"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseTime(text); err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q is no line", err.Error())
			}
		} else {
			again, err := parseTime(at.Format(time.RFC3339Nano))
			if err != nil || !again.Equal(at) || at.Location() != time.UTC {
				t.Fatalf("%q is %v, and that read again is %v (%v)", text, at, again, err)
			}
		}
		if text == "" {
			return // now
		}
		at, err := signTime(text)
		var usage *exitError
		switch seconds, plain := strconv.ParseInt(text, 10, 64); {
		case err != nil && (!errors.As(err, &usage) || usage.code != exitUsage):
			t.Fatalf("%q: %v is no usage error", text, err)
		case err == nil && at.Unix() < 0, err == nil && plain == nil && at.Unix() != seconds:
			t.Fatalf("%q signs at %v", text, at)
		}
	})
}
