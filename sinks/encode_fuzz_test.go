package sinks

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// FuzzEncode: whatever a row holds, in every dialect its body is JSON that JSON.stringify(JSON.parse(body)) gives again,
// and that verifies; or it is refused by a field's name, and the value is not shown.
func FuzzEncode(f *testing.F) {
	f.Add("David \"x\" \u2028\xff", int64(31305), 1.5, `{"b":1,"10":2,"a":[1e21,"\ud800"]}`, "Lead", "", int64(1700000000))
	f.Add("", int64(1<<53), math.Copysign(0, -1), `nul`, "note.commented", "update", int64(-62135596800))
	f.Add("2023-11-23 18:36:21.512302", int64(-1), 1e21, `"x"`, "a.b.c", "remove", int64(253402300800))
	f.Add("0", int64(0), 5e-324, `[[[[{}]]]]`, "", "create", int64(0))
	h, err := New(Options{Dialects: every})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, number int64, float float64, column, typ, action string, created int64) {
		at := time.Unix(created, 512302000).UTC()
		rec := &jobs.Record{Type: typ, Chatbot: text, Row: "1", Created: at, Version: text, Action: action, Fields: fieldsOf(
			"FirstName", text, "SessionID", number, "Content", jobs.JSON(column), "score", float, "author.name", text, "time", text, "b", number, "count", text, "URI", nil, "ok", true,
		)}
		for _, dialect := range every.Names() {
			body, err := h.Encode(&jobs.Webhook{Dialect: dialect}, rec, at)
			if err != nil {
				for _, value := range []string{text, column} {
					if len(value) > 8 && strings.Contains(err.Error(), value) || !errors.Is(err, jobs.ErrEncode) {
						t.Fatalf("%s: %v", dialect, err)
					}
				}
				continue
			}
			again, err := appendRewritten(nil, jobs.JSON(body))
			if errors.Is(err, errJSONInteger) && (number > maxSafe || number < -maxSafe || float > maxSafe || float < -maxSafe || strings.ContainsAny(column, "eE")) {
				continue // a double that is printed in full, or in a text
			}
			if err != nil || string(again) != string(body) || !json.Valid(body) {
				t.Fatalf("%s: JavaScript makes %q of %q (%v)", dialect, again, body, err)
			}
			if d := dialects[dialect]; d.Signed {
				headers, err := every.SignHeaders(dialect, keysOf(dialect), uuid.Nil, at, body, 1)
				if err == nil {
					err = every.Verify(dialect, headers, body, keysOf(dialect)[1:], at, time.Second)
				}
				if err != nil && created >= 0 && created < 1e12 {
					t.Fatalf("%s: %v", dialect, err)
				}
			}
		}
	})
}

// FuzzInteger: what is taken for an integer is the number that the text says.
func FuzzInteger(f *testing.F) {
	for _, text := range []string{"31305", " 12.00 ", "-0", "+5", "1e3", "9007199254740992", "0x10", ".", "1.", "12.5", "١٢", "1_000", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := integer(text)
		if err != nil {
			if n, plain := strconv.ParseInt(text, 10, 64); plain == nil && n <= maxSafe && n >= -maxSafe {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if trimmed := strings.TrimSpace(text); trimmed != "" {
			if want, err := strconv.ParseFloat(trimmed, 64); err != nil || float64(n) != want || strings.ContainsAny(trimmed, "xX_eEpP") {
				t.Fatalf("%q is read as %d, and is %v (%v)", text, n, want, err)
			}
		} else if n != 0 {
			t.Fatalf("%q is read as %d", text, n)
		}
	})
}
