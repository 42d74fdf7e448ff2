package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// A writing is an application's sessions, which commit rows of chatbots a and b until they are told to stop: several a
// transaction, some of them held open and committed late, some rolled back.
type writing struct {
	app  *application
	stop context.CancelFunc
	work sync.WaitGroup
}

// startWriting lets this many sessions write, each with so long a pause between its transactions at most.
func startWriting(t *testing.T, app *application, r *rand.Rand, sessions int, pause time.Duration) *writing {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writing{app: app, stop: stop}
	for range sessions {
		own := rand.New(rand.NewPCG(r.Uint64(), 1))
		w.work.Go(func() {
			for ctx.Err() == nil {
				if err := w.transaction(own); err != nil {
					t.Errorf("a writer: %v", err)
					return
				}
				time.Sleep(time.Duration(own.Int64N(int64(pause))))
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

// end lets the transactions that are open end, and returns when they have.
func (w *writing) end() {
	w.stop()
	w.work.Wait()
}

func (w *writing) transaction(r *rand.Rand) error {
	tx, err := w.app.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 1 + r.IntN(6) {
		into := insertLead
		if r.IntN(4) == 0 {
			into = strings.Replace(insertLead, "leads", "appointments", 1)
		}
		if _, err := tx.Exec(into, string("ab"[r.IntN(2)])); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	}
	switch roll := r.IntN(20); {
	case roll < 3: // it is committed when others that began later are
		time.Sleep(w.held(r))
	case roll == 3:
		time.Sleep(w.held(r) / 2)
		return tx.Rollback()
	case roll == 4:
		return tx.Rollback()
	}
	return tx.Commit()
}

// held is how long a transaction is held open. On SQLite nobody else can write meanwhile.
func (w *writing) held(r *rand.Rand) time.Duration {
	if w.app.engine == "sqlite" {
		return time.Duration(r.IntN(300)) * time.Millisecond
	}
	return time.Duration(r.IntN(5000)) * time.Millisecond
}
