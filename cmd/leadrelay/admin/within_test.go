package admin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin: what does not end when it should is answered for, counts until it ends and is logged then; what does end is
// left alone. A panic is an error, and logged with its place, whoever waits for it.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		e := &errands{log: slog.New(slog.NewTextHandler(&logged, nil))}
		says := func(texts ...string) {
			t.Helper()
			synctest.Wait()
			for _, text := range texts {
				if !strings.Contains(logged.String(), text) {
					t.Errorf("it does not log %q:\n%s", text, &logged)
				}
			}
			if len(texts) == 0 && logged.Len() > 0 {
				t.Errorf("it logs\n%s", &logged)
			}
			logged.Reset()
		}
		ended := func() time.Duration {
			began := time.Now()
			e.end(longestErrand)
			return time.Since(began)
		}
		hangs := func(end func() (int, error)) (hang chan struct{}) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			began, hang := time.Now(), make(chan struct{})
			if _, err := within(ctx, e, "put", func() (int, error) { <-hang; return end() }); !errors.Is(err, errSilent) || time.Since(began) != 17*time.Second {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			says()
			return hang
		}

		hang := hangs(func() (int, error) { return 0, errors.New("cut off") })
		if took := ended(); took != longestErrand {
			t.Errorf("what goes on is waited for for %v", took)
		}
		says("still wait for a database")
		close(hang)
		says("after it was answered", "request=put", "took=22s", `error="cut off"`)
		if took := ended(); took != 0 {
			t.Errorf("what has ended is waited for for %v", took)
		}
		close(hangs(func() (int, error) { panic("a bug") }))
		says("request=put", `panic="a bug"`, "within_test.go", "after it was answered")

		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if _, err := within(ctx, e, "put", func() (int, error) { time.Sleep(16 * time.Second); return 0, ctx.Err() }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("soon after: %v", err)
		}
		if n, err := within(t.Context(), e, "put", func() (int, error) { time.Sleep(time.Hour); return 7, nil }); n != 7 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		says()
		if _, err := within(t.Context(), e, "put", func() (int, error) { panic("a bug") }); !errors.Is(err, errPanicked) {
			t.Errorf("a panic is %v", err)
		}
		says("request=put", `panic="a bug"`, "within_test.go")
	})
}
