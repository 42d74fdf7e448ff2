package ledger

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestCalledOff: whose context ends while the ledger is at work, or between two statements, hears that it ended, in
// whatever words the database says so.
func TestCalledOff(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		long := "select pg_sleep(60)"
		if s.lite {
			long = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
		}
		for name, test := range map[string]struct {
			after time.Duration // ctx ends; 0: before the statement
			text  string
		}{
			"in a statement":         {200 * time.Millisecond, long},
			"between two statements": {0, "select 1"},
		} {
			ctx, stop := context.WithCancel(t.Context())
			err := s.change(ctx, "work", func(ctx context.Context, x *tx) error {
				defer time.AfterFunc(test.after, stop).Stop()
				if test.after == 0 {
					stop()
					time.Sleep(50 * time.Millisecond) // database/sql rolls back
				}
				_, err := x.sql.ExecContext(context.WithoutCancel(ctx), "select 1")
				if test.after > 0 {
					_, err = x.sql.ExecContext(ctx, test.text)
				}
				return err
			})
			stop()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
