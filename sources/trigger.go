package sources

import (
	"context"
	"fmt"
)

// A stream that reads a query has triggers on tables that only its author knows: any will do.
const pgTriggerSQL = `select exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
	where ($1::oid = 0 or t.tgrelid = $1) and not t.tgisinternal and t.tgenabled <> 'D'
	and (t.tgname = 'leadrelay_notify' or p.prosrc like '%' || $2 || '%'))`

// Hears reports whether the database can tell of new rows at all: not through a pooler that gives each transaction another
// session, since what listens is a session. There they are found by polling.
func (d *Database) Hears(ctx context.Context) (bool, error) {
	p, ok := d.eng.(*postgres)
	if !ok {
		return true, nil
	}
	shared, err := p.pool.Shared(ctx)
	if err != nil {
		return false, fmt.Errorf("look for a pooler: %w", masked(err))
	}
	return !shared, nil
}

// Wakes reports whether the database tells of new rows as they are committed: on PostgreSQL a trigger does, as TriggerSQL
// makes it or as the operator wrote it. Without one they are found by polling.
func (s *Stream) Wakes(ctx context.Context) (told bool, err error) {
	if s.db.eng.name() == "sqlite" {
		return true, nil
	}
	err = s.db.eng.read(ctx, func(q querier) error {
		return q.QueryRowContext(ctx, pgTriggerSQL, s.shape.oid, Channel).Scan(&told)
	})
	if err != nil {
		return false, s.wrap("look for its trigger", fmt.Errorf("pg_trigger: %w", err))
	}
	return told, nil
}
