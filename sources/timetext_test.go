package sources

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"2023-11-23T18:36:21.512302Z":                            "2023-11-23T18:36:21.512302Z",
		"2023-11-23T18:36:21.512302999Z":                         "2023-11-23T18:36:21.512302Z",
		"2023-11-23T18:36:21.5123029999999Z":                     "2023-11-23T18:36:21.512302Z",
		"2023-11-23t18:36:21,5z":                                 "2023-11-23T18:36:21.5Z",
		"2023-11-23T18:36:21+02:00":                              "2023-11-23T16:36:21Z",
		"2023-11-23 18:36:21.1-0730":                             "2023-11-24T02:06:21.1Z",
		"2023-11-23 18:36:21+02":                                 "2023-11-23T16:36:21Z",
		"2023-11-23 18:36:21":                                    "2023-11-23T17:36:21Z",
		"2023-07-23T18:36:21":                                    "2023-07-23T16:36:21Z",
		"2023-07-23 18:36":                                       "2023-07-23T16:36:00Z",
		"2023-07-23 18:36Z":                                      "2023-07-23T18:36:00Z",
		"2023-07-23":                                             "2023-07-22T22:00:00Z",
		"2024-02-29":                                             "2024-02-28T23:00:00Z",
		"2023-11-23 18:36:21 UTC":                                "2023-11-23T18:36:21Z",
		"2023-11-23 18:36:21.512302 +0000 UTC":                   "2023-11-23T18:36:21.512302Z",
		"2023-11-23 18:36:21.512302123 +0100 CET m=+0.000012345": "2023-11-23T17:36:21.512302Z",
		"2023-11-23 18:36:21 -0330 -0330":                        "2023-11-23T22:06:21Z",
		"1700764581":                                             "2023-11-23T18:36:21Z",
		"1700764581.512302":                                      "2023-11-23T18:36:21.512302Z",
		"1700764581512":                                          "2023-11-23T18:36:21.512Z",
		"0001-01-01T00:00:00Z":                                   "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z":                         "9999-12-31T23:59:59.999999Z",
		"":                                                       "",
		"yesterday":                                              "",
		"20231123":                                               "",
		"2023-02-29":                                             "",
		"2023-13-01":                                             "",
		"2023-00-10":                                             "",
		"2023-01-00":                                             "",
		"0000-00-00 00:00:00":                                    "",
		"2023-11-23T24:00:00Z":                                   "",
		"2023-11-23T23:60:00Z":                                   "",
		"2023-11-23T23:59:60Z":                                   "",
		"2023-11-23T23:59:59.Z":                                  "",
		"2023-11-23T23:59:59+24:00":                              "",
		"2023-11-23T23:59:59+2":                                  "",
		"2023-11-23T23:59:59 PST":                                "",
		"2023-11-23T23:59:59 +0100 CET later":                    "",
		"2023-11-23X23:59:59":                                    "",
		"2023-11-23 23":                                          "",
		"2023-11-23 ":                                            "",
		" 2023-11-23":                                            "",
		"2023-11-23 18:36:21\x00":                                "",
		"９2023-11-23":                                            "",
		"1e300":                                                  "",
		"999999999999999999999999999999":                         "",
		"-62135596800":                                           "",
		"0001-01-01T00:00:00+14:00":                              "",
		"99999999999999999":                                      "",
		"2023-11-23 18:36:21.512302 +0000 UTC " + strings.Repeat("x", 99): "",
	} {
		got, ok := parseTime(in, prague)
		text := ""
		if ok {
			text = got.Format(time.RFC3339Nano)
		}
		if text != want {
			t.Errorf("parseTime(%q) = %q, want %q", in, text, want)
		}
	}
}

func TestUnixNumbers(t *testing.T) {
	for in, want := range map[any]string{
		int64(0):                "1970-01-01T00:00:00Z",
		int64(-1):               "1969-12-31T23:59:59Z",
		int64(1700764581):       "2023-11-23T18:36:21Z",
		int64(100000000000):     "5138-11-16T09:46:40Z",
		int64(100000000001):     "1973-03-03T09:46:40.001Z",
		int64(1700764581512):    "2023-11-23T18:36:21.512Z",
		1700764581.512302:       "2023-11-23T18:36:21.512302Z",
		1700764581512.25:        "2023-11-23T18:36:21.51225Z",
		int64(9007199254740993): "",
		1e300:                   "",
	} {
		var got time.Time
		var ok bool
		switch v := in.(type) {
		case int64:
			got, ok = unixTime(v)
		case float64:
			got, ok = unixFloat(v)
		}
		text := ""
		if ok {
			text = got.Format(time.RFC3339Nano)
		}
		if text != want {
			t.Errorf("%v is %q, want %q", in, text, want)
		}
	}
}

// Whatever Go can write in RFC 3339 is read as Go reads it.
func TestParseTimeAsGoDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62135596800+86400, 253402300799-86400).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))
		at = at.In(time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "offset")))
		for _, layout := range []string{time.RFC3339Nano, time.RFC3339, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700", "2006-01-02 15:04-0700"} {
			text := at.Format(layout)
			want, err := time.Parse(layout, text)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := parseTime(text, time.UTC)
			if !ok || !got.Equal(want.Truncate(time.Microsecond)) {
				t.Fatalf("parseTime(%q) = %s, %v; want %s", text, got, ok, want)
			}
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2023-11-23T18:36:21.512302Z", "2023-11-23 18:36:21.512302 +0000 UTC m=+0.1", "1700764581.5", "2023-11-23", "0000-00-00"} {
		f.Add(s)
	}
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime(s, prague)
		if !ok {
			if _, err := time.Parse(time.RFC3339Nano, s); err == nil && !strings.Contains(s, "24:") && s[:4] != "0000" && got.Year() > 1 {
				t.Errorf("Go reads %q, and we do not", s)
			}
			return
		}
		if got.Location() != time.UTC || got.Nanosecond()%1000 != 0 || got.Year() < 1 || got.Year() > 9999 {
			t.Errorf("parseTime(%q) = %v", s, got)
		}
		again, ok := parseTime(got.Format(time.RFC3339Nano), prague)
		if !ok || !again.Equal(got) {
			t.Errorf("%q is %v, and that read again is %v", s, got, again)
		}
		if want, err := time.Parse(time.RFC3339Nano, s); err == nil && !want.Truncate(time.Microsecond).Equal(got) {
			t.Errorf("parseTime(%q) = %v, and Go says %v", s, got, want)
		}
	})
}
