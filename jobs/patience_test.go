package jobs

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience: with a limit to its patience, a runner gives up what a database that answers nobody has not answered for
// as long, and whoever waited for that looks at the time.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}
		for _, patience := range []time.Duration{0, 2 * time.Minute} {
			began, dropped := time.Now(), time.Duration(0)
			v := newVigil(slog.New(slog.DiscardHandler), silent, func(_ string, then time.Time) int {
				dropped = began.Sub(then)
				return 0
			}, patience)
			v.question(t.Context(), TheLedger, &inquiry{})
			if dropped != patience {
				t.Errorf("with %v, it gave up what was asked %v before", patience, dropped)
			}
			dropped = 0
			v.ask = func(context.Context, string) (string, error) { return "a statement is at work", nil }
			v.question(t.Context(), TheLedger, &inquiry{})
			if dropped != 0 {
				t.Errorf("with %v, it gave up a database that is at work", patience)
			}
		}
	})
}
