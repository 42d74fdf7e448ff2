package ledger

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// FuzzBatch: whatever a foreign row's key holds, what goes into a statement is an array of that text, and of no other
// shape: PostgreSQL's literal, and SQLite's JSON.
func FuzzBatch(f *testing.F) {
	for _, text := range []string{"4711", `"\{},NULL`, "a\x00b", "\xff\xfe", "\u2028'", `\`, `"`, "", "NULL", "😀"} {
		f.Add(text, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		want := [][]string{{clean(a), clean(b)}, {clean(b), clean(a)}}
		for _, text := range want[0] {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				t.Fatalf("%q cannot be stored", text)
			}
		}
		var got [][]string
		for _, l := range []*Ledger{{}, {lite: true}} {
			rows := l.batch(2)
			for _, row := range [][2]string{{a, b}, {b, a}} {
				rows.text(row[0])
				rows.text(row[1])
				rows.number(-7)
				rows.flag(true)
				rows.end()
			}
			args := rows.args()
			got = nil
			if l.lite {
				var all [][]any
				if err := json.Unmarshal([]byte(args[0].(string)), &all); err != nil {
					t.Fatal(err)
				}
				for _, row := range all {
					got = append(got, []string{row[0].(string), row[1].(string)})
				}
			} else {
				var first, second pq.StringArray
				if err := first.Scan(args[0]); err != nil {
					t.Fatal(err)
				}
				if err := second.Scan(args[1]); err != nil {
					t.Fatal(err)
				}
				for i := range first {
					got = append(got, []string{first[i], second[i]})
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("SQLite: %v (-want +got):\n%s", l.lite, diff)
			}
		}
	})
}

// FuzzList: a list of texts is read as it was written.
func FuzzList(f *testing.F) {
	f.Add(`["a","b"]`)
	f.Add(`null`)
	f.Add(`["\ud800","\u2028"]`)
	f.Add(`{"a":1}`)
	f.Add(`[1]`)
	f.Fuzz(func(t *testing.T, text string) {
		var texts, again []string
		if err := (list{&texts}).Scan(text); err != nil {
			return
		}
		if err := (list{&again}).Scan([]byte(list{&texts}.String())); err != nil || !slices.Equal(texts, again) || (texts == nil) != (again == nil) {
			t.Fatalf("%q reads as %q, and that as %q (%v)", text, texts, again, err)
		}
	})
}

// FuzzSpan: the bounds of what was entered are read as they were written.
func FuzzSpan(f *testing.F) {
	for _, text := range []string{"/", "2026-03-01T12:00:00Z/", "/2026-03-01T12:00:00.000001Z", "x/y", "0001-01-01T00:00:00Z/", "2026-03-01T12:00:00+01:00/2026-03-01T12:00:00Z", "", "//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		span, err := parseSpan(text)
		if err != nil {
			return
		}
		written := boundText(span.Since) + "/" + boundText(span.Before)
		if again, err := parseSpan(written); err != nil || !again.Since.Equal(span.Since) || !again.Before.Equal(span.Before) {
			t.Fatalf("%q reads as %v, is written %q, and reads as %v (%v)", text, span, written, again, err)
		}
	})
}

// FuzzSecretsKeys: a file of keys that is taken seals what it opens again, in one place alone; one that is not is not
// shown.
func FuzzSecretsKeys(f *testing.F) {
	key := strings.Repeat("0123456789abcdef", 4)
	for _, text := range []string{key, key + "\n\n" + strings.ToUpper(key) + "\r\n", "\n", "", key[:62], "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", key + " x", "\ufeff" + key} {
		f.Add(text, []byte("https://crm.example.com/x"))
	}
	f.Fuzz(func(t *testing.T, text string, secret []byte) {
		keys, err := ParseSecretsKeys(text)
		if err != nil {
			for line := range strings.Lines(text) {
				if line = strings.TrimSpace(line); len(line) > 20 && strings.Contains(err.Error(), line) {
					t.Fatalf("the key is shown: %v", err)
				}
			}
			return
		}
		if bytes.HasPrefix(secret, sealedMark) {
			return // no URL or key begins so
		}
		stored := keys.seal(secret, "here")
		if again, err := keys.open(stored, "here"); err != nil || !bytes.Equal(again, secret) {
			t.Fatalf("%q is opened as %q (%v)", secret, again, err)
		}
		if !keys.current(stored) {
			t.Fatal("it is not sealed as it would be now")
		}
		if len(secret) == 0 {
			return
		}
		if _, err := keys.open(stored, "there"); err == nil || len(secret) > 8 && bytes.Contains(stored, secret) {
			t.Fatalf("it opens elsewhere, or stands in clear: %v", err)
		}
	})
}

// FuzzSealed: what stands in the ledger and was not sealed by us is opened as nothing.
func FuzzSealed(f *testing.F) {
	keys, err := ParseSecretsKeys(strings.Repeat("0123456789abcdef", 4))
	if err != nil {
		f.Fatal(err)
	}
	good := keys.seal([]byte("https://crm.example.com/x"), "here")
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(good[:len(sealedMark)+8])
	f.Add(sealedMark)
	f.Add([]byte("https://crm.example.com/x"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stored []byte) {
		var w jobs.Webhook
		text, err := keys.open(stored, "here")
		if marked := bytes.HasPrefix(stored, sealedMark); err == nil && marked && !bytes.Equal(stored, good) || err != nil && !marked || !marked && !bytes.Equal(text, stored) {
			t.Fatalf("%q is opened as %q (%v)", stored, text, err)
		}
		if err := keys.openWebhook(sealed{headers: stored}, &w); err == nil {
			for name := range w.Headers {
				if !utf8.ValidString(name) {
					t.Fatalf("a header is called %q", name)
				}
			}
		}
	})
}
