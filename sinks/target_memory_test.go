package sinks

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestTargetMemory: what is kept of webhooks is bounded in bytes, however often a customer changes one and has it tested,
// with as much as a request to the API may hold.
func TestTargetMemory(t *testing.T) {
	const document = 60 << 10
	long := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", document)) }
	few := func(i int, each func(string)) { // texts as short as they may be
		for j := range document / 6 {
			each(fmt.Sprintf("%x", i+j))
		}
	}
	for _, test := range []struct {
		name   string
		times  int
		change func(i int, w *jobs.Webhook)
	}{
		{"a long URL", 1800, func(i int, w *jobs.Webhook) { w.URL += jobs.Secret("?" + long(i)) }},
		{"a long value", 1800, func(i int, w *jobs.Webhook) { w.Headers = map[string]jobs.Secret{"X-A": jobs.Secret(long(i))} }},
		{"many headers", 120, func(i int, w *jobs.Webhook) {
			w.Headers = map[string]jobs.Secret{}
			few(i, func(s string) { w.Headers["x"+s] = "" })
		}},
		{"a long word", 1800, func(i int, w *jobs.Webhook) { w.Ack = []string{long(i)} }},
		{"many words", 600, func(i int, w *jobs.Webhook) { few(i, func(s string) { w.Ack = append(w.Ack, s) }) }},
		{"a long rule", 1800, func(i int, w *jobs.Webhook) { w.Ack = jobs.AckRule{Path: "a", Equals: []string{long(i)}}.Ack() }},
		{"a wordy rule", 600, func(i int, w *jobs.Webhook) {
			r := jobs.AckRule{Path: "a"}
			few(i, func(s string) { r.Prefix = append(r.Prefix, s) })
			w.Ack = r.Ack()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newSink(t, local())
			url := answering(t, ok(`{"status":"success"}`))
			held := func() int {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return int(m.HeapAlloc)
			}
			before, most := held(), 0
			for i := range test.times {
				w := webhook(url)
				test.change(i, w)
				_ = push(t, h, w) // whatever the endpoint makes of it
				if (i+1)%(test.times/6) == 0 {
					most = max(most, held()-before)
				}
			}
			t.Logf("%d MiB", most>>20)
			if most > maxTargets*5/4 {
				t.Errorf("%d MiB are held, of %d MiB at most", most>>20, maxTargets>>20)
			}
		})
	}
}
