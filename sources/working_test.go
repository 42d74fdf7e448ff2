package sources

import (
	"context"
	"regexp"
	"testing"
	"time"
)

// TestWorking: a query that takes its time is work; while there is none, there is none.
func TestWorking(t *testing.T) {
	t.Parallel()
	b := newPostgres(t)
	ctx, stop := context.WithCancel(b.ctx)
	if work, err := b.db.Working(ctx); work != "" || err != nil {
		t.Errorf("at rest it is at work: %q, %v", work, err)
	}
	read := make(chan error, 1)
	go func() {
		read <- b.db.eng.read(ctx, func(q querier) error {
			_, err := q.QueryContext(ctx, "select pg_sleep(600)")
			return err
		})
	}()
	for {
		time.Sleep(time.Second)
		work, err := b.db.Working(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`^a statement has been at work for \d+ s$`).MatchString(work) {
			break
		}
	}
	stop()
	if err := <-read; err == nil {
		t.Error("a query that was called off succeeded")
	}
}
