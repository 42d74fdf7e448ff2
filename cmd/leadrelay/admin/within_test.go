package admin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin: what does not end when it should is answered for; what does is left alone, and so is a panic.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began, hang := time.Now(), make(chan struct{})
		if _, err := within(ctx, func() (int, error) { <-hang; return 0, nil }); !errors.Is(err, errSilent) || time.Since(began) != 17*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		close(hang)
		began = time.Now()
		if _, err := within(ctx, func() (int, error) { time.Sleep(time.Second); return 0, ctx.Err() }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if n, err := within(t.Context(), func() (int, error) { time.Sleep(time.Hour); return 7, nil }); n != 7 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		defer func() {
			if p := recover(); p != "a bug" {
				t.Errorf("panicked with %v", p)
			}
		}()
		_, _ = within(t.Context(), func() (int, error) { panic("a bug") })
	})
}
