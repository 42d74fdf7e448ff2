package sources

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// pgMargin is how far clocks may differ, and how long a transaction may take to show itself.
	pgMargin = 10 * time.Second
	// sqliteMargin is how long an application may hold a write transaction open: SQLite does not tell.
	sqliteMargin = time.Minute
	// preparedBefore is how long before it was prepared a transaction may have begun, where no earlier scan knows better.
	preparedBefore = time.Hour
)

// ErrBlind says that the created cursor cannot see the transactions that are open, so that rows could be missed.
var ErrBlind = errors.New("cursor created cannot see open transactions")

const pgSightSQL = `select statement_timestamp(), pg_is_in_recovery(),
	coalesce(least(pg_last_xact_replay_timestamp(), statement_timestamp()), statement_timestamp()),
	pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
	exists (select from pg_catalog.pg_subscription_rel where srrelid = $1::oid)`

// A sight is what a session can know of open transactions.
type sight struct {
	now        time.Time
	standby    bool
	replayed   time.Time // on a standby: commits up to here are visible
	readsStats bool
	subscribed bool // the table is fed by logical replication
}

func (p *postgres) sight(ctx context.Context, q querier, oid int64) (sight, error) {
	var s sight
	err := q.QueryRowContext(ctx, pgSightSQL, oid).Scan(&s.now, &s.standby, &s.replayed, &s.readsStats, &s.subscribed)
	return s, err
}

// blind says why open transactions cannot be seen, and what to do about it; nil where they can.
func (s *sight) blind() error {
	switch {
	case s.standby:
		return fmt.Errorf("%w: this is a standby, and they are the primary's: set lookback to more than the longest transaction takes, or read from the primary", ErrBlind)
	case s.subscribed:
		return fmt.Errorf("%w: the table is filled by logical replication, from another server: set lookback to more than replication may lag", ErrBlind)
	case !s.readsStats:
		return fmt.Errorf("%w of other users: `grant pg_read_all_stats to` this user (see `leadrelay sql grants`), or set lookback", ErrBlind)
	}
	return nil
}

// Appends run their parts in order, and the order matters: a transaction that is being prepared shows among the
// prepared before it stops showing among the running. Maintenance and replication senders insert nothing.
const pgOpenSQL = `select 'running', '', least(min(xact_start), statement_timestamp()),
	count(*) filter (where state = 'disabled')
from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
	and backend_type is distinct from 'autovacuum worker' and backend_type is distinct from 'walsender'
union all
select 'prepared', transaction::text, prepared, 0
from pg_catalog.pg_prepared_xacts where database = current_database()`

// A prepareds remembers how early prepared transactions can have begun. PostgreSQL tells only when one was prepared;
// but before that it was among the running ones of an earlier scan, or had not begun.
type prepareds struct {
	mu      sync.Mutex
	at      time.Time            // of the last scan
	running time.Time            // start of the oldest running transaction then
	began   map[string]time.Time // of prepared ones: not before
}

// oldest is the start, at the latest, of the oldest transaction that is running or prepared. floor is a time at which,
// or before which, every transaction unknown to p had begun or was counted; zero where there is none.
func (p *prepareds) oldest(now, running, floor time.Time, prepared map[string]time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := running
	began := make(map[string]time.Time, len(prepared))
	for xid, at := range prepared {
		bound, known := p.began[xid]
		switch {
		case known:
		case !p.at.IsZero() && at.After(p.at):
			bound = p.running
		case !floor.IsZero():
			bound = floor
		default:
			bound = at.Add(-preparedBefore)
		}
		began[xid] = bound
		if bound.Before(oldest) {
			oldest = bound
		}
	}
	p.at, p.running, p.began = now, running, began
	return oldest
}

// lowWater must run, as its own statement, before the snapshot that it is for: a transaction that it does not see has
// then ended, and its rows are in the snapshot.
func (p *postgres) lowWater(ctx context.Context, q querier, s *Stream, floor time.Time) (time.Time, error) {
	see, err := p.sight(ctx, q, s.shape.oid)
	if err != nil {
		return time.Time{}, err
	}
	if err := see.blind(); err != nil {
		if s.cfg.Lookback == 0 {
			return time.Time{}, err
		}
		return see.replayed.Add(-s.cfg.Lookback), nil
	}
	rows, err := q.QueryContext(ctx, pgOpenSQL)
	if err != nil {
		return time.Time{}, err
	}
	defer rows.Close()
	running, prepared := see.now, map[string]time.Time{}
	for rows.Next() {
		var kind, xid string
		var at time.Time
		var disabled int
		if err := rows.Scan(&kind, &xid, &at, &disabled); err != nil {
			return time.Time{}, err
		}
		if disabled > 0 && s.cfg.Lookback == 0 {
			return time.Time{}, fmt.Errorf("%w of sessions that have track_activities off: set lookback", ErrBlind)
		}
		if kind == "running" {
			running = earlier(running, at)
		} else {
			prepared[xid] = at
		}
	}
	if err := rows.Err(); err != nil {
		return time.Time{}, err
	}
	low := s.prepareds.oldest(see.now, running, floor, prepared).Add(-pgMargin)
	if floor.After(low) { // it has its margin already
		low = floor
	}
	return earlier(low, see.now.Add(-s.cfg.Lookback)), nil
}

func (s *sqlite) lowWater(_ context.Context, _ querier, st *Stream, _ time.Time) (time.Time, error) {
	return s.now().Add(-max(sqliteMargin, st.cfg.Lookback)), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unambiguous is a time not after from that holds, too, for what is written without a zone: a row created at or after
// from is never read as created before it. Where clocks are set back, an hour is written twice.
func unambiguous(from time.Time, zone *time.Location) time.Time {
	wall := func(t time.Time) time.Time { // as it is read back
		t = t.In(zone)
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	}
	low := earlier(from, wall(from))
	if _, change := from.In(zone).ZoneBounds(); !change.IsZero() {
		low = earlier(low, wall(change))
	}
	return low
}
