package pgpool

import (
	"context"
	"database/sql"
	"errors"
)

// What waits for its client (wait_event_type) is at work no more. Quick statements do not
// count, since they may be of others, who cannot be told from this process: before a server there may be what gives each
// connection another address.
const workingSQL = `
	select format('a statement has been at work for %s s', extract(epoch from clock_timestamp() - query_start)::int)
		|| case when wait_event_type = 'Lock'
			then format(', waiting for a lock of session %s', array_to_string(pg_blocking_pids(pid), ', ')) else '' end
	from pg_stat_activity
	where usename = session_user and datname = current_database() and application_name = current_setting('application_name')
		and pid <> pg_backend_pid()
		and state = 'active' and wait_event_type is distinct from 'Client'
		and query_start < clock_timestamp() - interval '5 seconds'
	order by query_start limit 1`

// Working asks the server over a connection of its own what it is at work at for this process for longer than is usual; ""
// is nothing. An error says that the server does not answer.
func (p *Pool) Working(ctx context.Context) (work string, err error) {
	db := p.Apart(ctx)
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, workingSQL).Scan(&work)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return work, err
}
