package ledger

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var sqlElsewhere = sqlText(`
	select id from deliveries
	where state = 'sending' and lease <> $1 and ($2::boolean or webhook = any($3::text[]))
		and ($4::boolean or type = any($5::text[])) and ($6::boolean or chatbot = any($7::text[]))`)

// Elsewhere returns what of a scope is sending under other leases.
func (l *Ledger) Elsewhere(ctx context.Context, s jobs.RunStart) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := l.view("what other processes are sending", func(t *tx) error {
		ids = nil
		args := []any{s.Lease, s.Webhooks == nil, s.Webhooks, s.Types == nil, s.Types, s.Chatbots == nil, s.Chatbots}
		return t.each(ctx, sqlElsewhere, args, func(rows *sql.Rows) error {
			var id uuid.UUID
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	return ids, err
}

// TakeOver reclaims leases that ran out, and lets a run by hand take on what it would if it began now.
func (l *Ledger) TakeOver(ctx context.Context, run string, s jobs.RunStart) error {
	if _, err := l.Reclaim(ctx, s.Lease); err != nil {
		return err
	}
	return l.change(ctx, "take more on into run "+run, func(ctx context.Context, t *tx) error {
		return t.adopt(ctx, s, &jobs.Run{ID: run})
	})
}
