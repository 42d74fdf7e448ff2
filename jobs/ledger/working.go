package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Working asks the ledger over a connection of its own what it is at work at for this process for longer than is usual;
// "" is nothing. An error says that the ledger does not answer.
func (l *Ledger) Working(ctx context.Context) (work string, err error) {
	if !l.lite {
		return l.pool.Working(ctx)
	}
	db, err := sql.Open("sqlite", l.at)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var tables int
	if err := db.QueryRowContext(ctx, "select count(*) from sqlite_master").Scan(&tables); err != nil {
		return "", err
	}
	if began := l.working.longest(); !began.IsZero() && time.Since(began) > 5*time.Second { // SQLite works in this process, and a hung disk is no fault of ours
		work = fmt.Sprintf("a statement has been at work for %.0f s", time.Since(began).Seconds())
	}
	return work, nil
}

// Drop gives up the connections to PostgreSQL that have waited for an answer since before then, and counts them.
func (l *Ledger) Drop(then time.Time) int {
	if l.lite {
		return 0
	}
	return l.pool.Drop(then)
}

// work is called when a statement begins, and what it returns when it has ended.
func (l *Ledger) work(ctx context.Context) (done func()) {
	if !l.lite {
		return func() { jobs.Heartbeat(ctx) }
	}
	ended := l.working.begin()
	return func() {
		ended()
		jobs.Heartbeat(ctx)
	}
}

// ongoing are the statements at work, by when they began.
type ongoing struct {
	mu    sync.Mutex
	began map[*time.Time]struct{}
}

func (s *ongoing) begin() (ended func()) {
	began := new(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began == nil {
		s.began = map[*time.Time]struct{}{}
	}
	s.began[began] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.began, began)
	}
}

// longest is when the one that has been at work for longest began; zero: none is.
func (s *ongoing) longest() (first time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for began := range s.began {
		if first.IsZero() || began.Before(first) {
			first = *began
		}
	}
	return first
}
