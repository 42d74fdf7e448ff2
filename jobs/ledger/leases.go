package ledger

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A lease's row is there for as long as nobody took back what is sending under it, whether or not it has expired:
// Reclaim and DropLease remove the row and put the deliveries back in one transaction. So whoever finds the row may
// keep the lease, and whoever leases deliveries locks it, so that it is not removed meanwhile.
var (
	sqlTakeLease = sqlText(`insert into leases (token, owner, taken_at, expires_at) values ($1, $2, $3, $4)`)
	sqlKeepLease = sqlText(`update leases set expires_at = $2 where token = $1`)
	sqlHold      = sqlText(`select token from leases where token = $1 for key share`)
	sqlDropLease = sqlText(`delete from leases where token = $1`)
	sqlExpired   = sqlText(`
		delete from leases where expires_at <= $1
			and not exists (select 1 from leases as own where own.token = any($2::text[]) and own.expires_at <= $1)
		returning token`)

	// Whether a CRM has what was sending is not known, so a row of these may have to be told as gone.
	sqlLockMaybeTried = sqlText(`
		select webhook from row_versions where not tried and ` + underLeases + `
		order by webhook, type, row_key for update`)
	sqlMaybeTried = sqlText(`update row_versions set tried = $2 where not tried and ` + underLeases)

	sqlPutBackOf = sqlText(`
		update deliveries set state = 'pending', next_at = $1, lease = ''
		where state = 'sending' and lease = any($2::text[])
		returning webhook`)
	sqlPutBackLost = sqlText(`
		update deliveries set state = 'pending', next_at = $1, lease = ''
		where state = 'sending' and not exists (select 1 from leases where leases.token = deliveries.lease)
		returning webhook`)
)

const underLeases = `(webhook, type, row_key) in (
	select webhook, type, row_key from deliveries where state = 'sending' and lease = any($1::text[]) and version <> '')`

// TakeLease begins a lease.
func (l *Ledger) TakeLease(ctx context.Context, owner string, ttl time.Duration) (string, error) {
	token := newID()
	err := l.change(ctx, "take a lease", func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, sqlTakeLease, token, owner, t.now, t.now.Add(ttl))
		return err
	})
	return token, err
}

// KeepLease puts the lease's end ttl ahead. A lease that has expired is kept as long as nobody reclaimed it: nothing
// of it was given to others then, and sending it twice would have no cause.
func (l *Ledger) KeepLease(ctx context.Context, lease string, ttl time.Duration) error {
	return l.change(ctx, "keep the lease", func(ctx context.Context, t *tx) error {
		n, err := t.exec(ctx, sqlKeepLease, lease, t.now.Add(ttl))
		if err == nil && n == 0 {
			return jobs.ErrLeaseLost
		}
		return err
	})
}

// DropLease ends a lease and puts back what is sending under it. One that is gone is no error.
func (l *Ledger) DropLease(ctx context.Context, lease string) error {
	return l.change(ctx, "drop the lease", func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, sqlDropLease, lease); err != nil {
			return err
		}
		_, err := t.endLeases(ctx, []string{lease})
		return err
	})
}

// sweep is how often Reclaim looks for what is sending under no lease at all. Only a ledger that was tampered with has
// such deliveries, and looking for them costs as much as all that was sent since the last vacuum.
const sweep = 10 * time.Minute

// Reclaim removes the leases that ran out, unless the caller's own is among them, and puts back what is sending under them
// or, at times, under none.
func (l *Ledger) Reclaim(ctx context.Context, own ...string) (int, error) {
	var n int
	err := l.change(ctx, "reclaim expired leases", func(ctx context.Context, t *tx) error {
		n = 0
		// The delete looks at the row anew where a heartbeat has just moved it, so a lease that was kept stays.
		var expired []string
		err := t.each(ctx, sqlExpired, []any{t.now, own}, func(rows *sql.Rows) error {
			var token string
			err := rows.Scan(&token)
			expired = append(expired, token)
			return err
		})
		if err != nil {
			return err
		}
		if len(expired) > 0 {
			if n, err = t.endLeases(ctx, expired); err != nil {
				return err
			}
		}
		if last := l.swept.Load(); last == nil || t.now.Sub(*last) >= sweep {
			var lost int
			lost, err = t.putBack(ctx, sqlPutBackLost, t.now)
			n += lost
			l.swept.Store(&t.now)
		}
		return err
	})
	return n, err
}

// endLeases puts back what is sending under leases whose rows are removed.
func (t *tx) endLeases(ctx context.Context, leases []string) (int, error) {
	if !t.l.lite {
		if err := t.each(ctx, sqlLockMaybeTried, []any{leases}, func(*sql.Rows) error { return nil }); err != nil {
			return 0, err
		}
	}
	if _, err := t.exec(ctx, sqlMaybeTried, leases, true); err != nil {
		return 0, err
	}
	return t.putBack(ctx, sqlPutBackOf, t.now, leases)
}

// hold locks the lease against being removed until the transaction ends, or says ErrLeaseLost. As for KeepLease, one
// that has expired holds while nobody reclaimed it; a process must know for itself that its lease is good when it
// begins to send.
func (t *tx) hold(ctx context.Context, lease string) error {
	err := t.one(ctx, sqlHold, []any{lease}, &lease)
	if errors.Is(err, sql.ErrNoRows) {
		return jobs.ErrLeaseLost
	}
	return err
}
