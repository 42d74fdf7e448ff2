package sources

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestCalledOff: whose context ends while rows are read, or between two statements, hears that it ended, in whatever words
// the database says so.
func TestCalledOff(t *testing.T) {
	for engine, on := range map[string]struct {
		open func(t testing.TB, schema ...string) *bench
		long string
	}{
		"postgres": {newPostgres, "select pg_sleep(60)"},
		"sqlite":   {newSQLite, "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"},
	} {
		t.Run(engine, func(t *testing.T) {
			b := on.open(t, "create table t (id integer primary key)").open()
			for name, after := range map[string]time.Duration{"in a statement": 200 * time.Millisecond, "between two statements": 0} {
				ctx, stop := context.WithCancel(t.Context())
				err := b.db.eng.read(ctx, func(q querier) error {
					var n any
					if after == 0 {
						stop()
						time.Sleep(50 * time.Millisecond) // database/sql rolls back
						return q.QueryRowContext(context.WithoutCancel(ctx), "select 1").Scan(&n)
					}
					defer time.AfterFunc(after, stop).Stop()
					return q.QueryRowContext(ctx, on.long).Scan(&n)
				})
				stop()
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}
