package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// What waits for its client (wait_event_type) is at work no more. Quick statements of others, who cannot all be told
// from this process, do not count.
const sqlWorking = `
	select format('a statement has been at work for %s s', extract(epoch from clock_timestamp() - query_start)::int)
		|| case when wait_event_type = 'Lock'
			then format(', waiting for a lock of session %s', array_to_string(pg_blocking_pids(pid), ', ')) else '' end
	from pg_stat_activity
	where usename = session_user and datname = current_database() and application_name = current_setting('application_name')
		and client_addr is not distinct from inet_client_addr() and pid <> pg_backend_pid()
		and state = 'active' and wait_event_type is distinct from 'Client'
		and query_start < clock_timestamp() - interval '5 seconds'
	order by query_start limit 1`

// Working asks the ledger over a connection of its own what it is at work at for this process for longer than is usual;
// "" is nothing. An error says that the ledger does not answer.
func (l *Ledger) Working(ctx context.Context) (work string, err error) {
	var db *sql.DB
	if l.lite {
		if db, err = sql.Open("sqlite", l.at); err != nil {
			return "", err
		}
	} else {
		db = l.pool.Apart(ctx)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if !l.lite {
		err = db.QueryRowContext(ctx, sqlWorking).Scan(&work)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return work, err
	}
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
