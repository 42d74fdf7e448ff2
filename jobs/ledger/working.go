package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	if n := l.working.Load(); n > 0 { // SQLite works in this process, and a hung disk is no fault of ours
		work = fmt.Sprintf("%d statements are at work", n)
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
	l.working.Add(1)
	return func() {
		l.working.Add(-1)
		jobs.Heartbeat(ctx)
	}
}
