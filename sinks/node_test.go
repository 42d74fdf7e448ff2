package sinks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/crmtest"
)

// texts draws what databases hold: any Unicode, and what has broken JSON writers and readers before.
func texts() *rapid.Generator[string] {
	nasty := rapid.SampledFrom([]string{
		"\x00", "\x01", "\b", "\t", "\n", "\v", "\f", "\r", "\x1f", "\x7f", "\u0080", "\u009f", "\u00ad", "\u2028", "\u2029",
		"<", ">", "&", "'", `"`, `\`, "/", "</script>", "&amp;", `\u0041`, `\ud83d`, "👍", "👩‍👩‍👧", "e\u0301", "\ufeff", "\ufffd", "\uffff", "\U0010ffff",
		"\xff", "\xc0\x80", "\xed\xa0\xbd", "\xed\xb8\x80", "\xf4\x90\x80\x80", "\xe2\x80", "\u202e", "مرحبا", "日本語", "__proto__", "0", " ",
	})
	part := rapid.OneOf(nasty, rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }))
	return rapid.Map(rapid.SliceOfN(part, 0, 6), func(parts []string) string { return strings.Join(parts, "") })
}

func fieldValues() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Map(texts(), func(s string) any { return s }),
		rapid.Map(texts(), func(s string) any { return s }),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.Float64(), func(f float64) any { return f }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(jsonTexts(), func(s string) any { return jobs.JSON(s) }),
		rapid.Just(any(nil)),
	)
}

func records() *rapid.Generator[jobs.Record] {
	return rapid.Custom(func(t *rapid.T) jobs.Record {
		r := jobs.Record{
			Type:    rapid.OneOf(rapid.Just("Lead"), rapid.Just("Appointment"), texts()).Draw(t, "type"),
			Chatbot: texts().Draw(t, "chatbot"),
			Created: time.UnixMicro(rapid.Int64Range(-62135596800_000000, 253402300799_999999).Draw(t, "created")),
		}
		for _, name := range []string{"FirstName", "LastName", "Email", "PhoneNumber", "Content", "URI"} {
			r.Fields = append(r.Fields, jobs.Field{Name: name, Value: fieldValues().Draw(t, name)})
		}
		session := rapid.OneOf(
			rapid.Map(rapid.Int64Range(-maxSafe, maxSafe), func(n int64) any { return n }),
			rapid.Map(rapid.Int64Range(-maxSafe, maxSafe), func(n int64) any { return fmt.Sprint(n) }),
			rapid.Map(rapid.Int64Range(-maxSafe, maxSafe), func(n int64) any { return float64(n) }),
			rapid.Just(any(nil)),
		)
		r.Fields = append(r.Fields, jobs.Field{Name: "SessionID", Value: session.Draw(t, "SessionID")})
		return r
	})
}

// TestNodeVerifies pushes random records to a Node.js CRM, which compares every body with JSON.stringify of what it
// parsed, byte for byte, and checks the signature by the vendor's own recipe.
func TestNodeVerifies(t *testing.T) {
	const key = "ключ+/= with 'quotes'"
	h := newSink(t, local())
	w := webhook(crmtest.Start(t, crmtest.Vendor, map[string][]string{"": {key}}).URL)
	w.SignKey = key
	pushed := 0
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range rapid.SliceOfN(records(), 5, 5).Draw(t, "records") {
			body, err := h.Encode(w, &r, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			answer, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: body, Attempt: 1})
			if err != nil {
				t.Fatalf("%v %+v\n%q", err, err, body)
			}
			if answer.Word != "success" || answer.Test {
				t.Fatalf("answer: %+v", answer)
			}
			pushed++
		}
	})
	if pushed < 300 {
		t.Errorf("%d records were pushed, 300 are wanted", pushed)
	}
	w.SignKey = "another key"
	body, _ := h.Encode(w, example(), time.Now())
	if _, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: body}); reason(err) != ReasonAckMismatch {
		t.Errorf("with another key: %v", err)
	}
}
