package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// write lets writers commit leads of chatbot a side by side until enough says so, several a transaction. A fifth of the
// transactions is held open for 0.8 s with its ids taken, and some of these are rolled back in the end. It returns the
// ids of the rows that were committed.
func (a *application) write(ctx context.Context, writers int, enough func() bool) []int64 {
	a.t.Helper()
	var mu sync.Mutex
	var committed []int64
	var work sync.WaitGroup
	seed := uint64(time.Now().UnixNano())
	for i := range writers {
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for !enough() {
				ids, err := a.transaction(ctx, r)
				if err != nil {
					a.t.Errorf("a writer: %v", err)
					return
				}
				mu.Lock()
				committed = append(committed, ids...)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	slices.Sort(committed)
	return committed
}

// transaction is one of a writer's; it returns the ids that it committed.
func (a *application) transaction(ctx context.Context, r *rand.Rand) ([]int64, error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	var ids []int64
	for range 1 + r.IntN(4) {
		var id int64
		if err := tx.QueryRow(insertLead, "a").Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if r.IntN(5) == 0 {
		time.Sleep(800 * time.Millisecond)
		if r.IntN(3) == 0 {
			return nil, tx.Rollback()
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
	return ids, nil
}

// TestWriters: whatever 12 concurrent writers commit, and however late, comes to the CRM once.
func TestWriters(t *testing.T) {
	t.Parallel()
	const writers, during, fewestRuns = 12, 7 * time.Second, 8
	config := func(app *application, url string, immediate bool) string {
		return fmt.Sprintf(`source: %q
ledger: %q
immediate: %v
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q}]
`, app.source, newLedger(t, "postgres"), immediate, local, url, signKey)
	}
	t.Run("runs in a loop", func(t *testing.T) {
		t.Parallel()
		crm, url := startCRM(t, nil)
		app := newApplication(t, "postgres")
		s := newSite(t, 2*time.Minute, config(app, url, false))
		s.runNow(0)
		written := make(chan []int64, 1)
		var runs atomic.Int64
		end := time.Now().Add(during)
		go func() {
			written <- app.write(s.ctx, writers, func() bool { return time.Now().After(end) && runs.Load() >= fewestRuns })
		}()
		var rows []int64
		gathered := 0
		for rows == nil {
			select {
			case rows = <-written:
			default:
			}
			gathered += s.runNow(0).Gathered
			runs.Add(1)
		}
		if gathered != len(rows) {
			t.Errorf("%d rows were committed, and the runs gathered %d", len(rows), gathered)
		}
		exactlyOnce(t, crm, "w", "Lead", rows)
		t.Logf("%d rows in %d runs", len(rows), runs.Load())
	})
	t.Run("served at once", func(t *testing.T) {
		t.Parallel()
		crm, url := startCRM(t, nil)
		app := newApplication(t, "postgres")
		s := newSite(t, 2*time.Minute, config(app, url, true))
		app.installTrigger(s)
		p := s.serve()
		end := time.Now().Add(during)
		rows := app.write(s.ctx, writers, func() bool { return time.Now().After(end) })
		began := time.Now()
		s.soon(func() bool { return crm.Counts().Unique >= len(rows) }, "all %d rows are at the CRM", len(rows))
		took := time.Since(began)
		time.Sleep(300 * time.Millisecond) // what came twice would come now
		p.stop()
		exactlyOnce(t, crm, "w", "Lead", rows)
		t.Logf("%d rows, the last %v after the last commit", len(rows), took)
	})
}
