package jobs_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{"1KiB": 1024, "5MiB": 5 << 20, "1GiB": 1 << 30, "1536KiB": 1536 << 10} {
		got, ok := jobs.ParseSize(text)
		if !ok || got != want {
			t.Errorf("ParseSize(%q) is %d, %v, want %d", text, got, ok, want)
		}
		if back := jobs.SpellSize(got); back != text {
			t.Errorf("SpellSize(%d) is %q, want %q", got, back, text)
		}
	}
	for _, text := range []string{"", "5", "5 MiB", "5MB", "5mib", "-5MiB", "+5MiB", "1.5MiB", "MiB", "99999999999GiB"} {
		if got, ok := jobs.ParseSize(text); ok {
			t.Errorf("ParseSize(%q) is %d", text, got)
		}
	}
	if got := jobs.SpellSize(60_000_000); got != "60000000 bytes" {
		t.Errorf("no whole KiB is spelt %q", got)
	}
}

// A record that is too large is one that cannot be encoded, and its reason names the size, the bound and the key.
func TestTooLarge(t *testing.T) {
	err := error(&jobs.TooLargeError{What: "its fields take", Bytes: 60_000_000, Most: 5 << 20})
	if !errors.Is(err, jobs.ErrEncode) {
		t.Error("it is no encoding error")
	}
	if got, want := err.Error(), "record cannot be encoded: its fields take 60000000 bytes, more than push.max_body, 5MiB"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestLargeRecordsStopNoStream: the size of a stream's first records says nothing of its fields, as other mistakes do.
func TestLargeRecordsStopNoStream(t *testing.T) {
	large := &jobs.TooLargeError{What: "its fields take", Bytes: 6 << 20, Most: 5 << 20}
	for _, tt := range []struct {
		name  string
		errs  []error // of the first rows
		stops bool
	}{
		{"too large", []error{large, large}, false},
		{"not to be encoded", []error{jobs.ErrEncode, jobs.ErrEncode}, true},
		{"one too large, one not to be encoded", []error{large, jobs.ErrEncode}, true},
		{"one that is well", []error{jobs.ErrEncode, large, nil}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.From = jobs.FromBeginning }))
				defer b.close()
				b.leads.add("bot", len(tt.errs))
				for i, err := range tt.errs {
					b.leads.rows[i].Err = err
				}
				_, err := b.runner().RunNow(t.Context(), jobs.Scope{}, false, nil)
				if _, stopped := errors.AsType[*jobs.StoppedError](err); stopped != tt.stops {
					t.Errorf("the run ends with %v", err)
				}
				dead := len(tt.errs) - len(slices.DeleteFunc(slices.Clone(tt.errs), func(err error) bool { return err != nil }))
				if n := b.states()["dead rejected"]; !tt.stops && n != dead {
					t.Errorf("%d records are dead, want %d", n, dead)
				}
			})
		})
	}
}
