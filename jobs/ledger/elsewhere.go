package ledger

import (
	"context"
	"database/sql"

	"github.com/leadrelay/leadrelay/jobs"
)

var sqlElsewhere = sqlText(`
	select id, not exists (select 1 from leases where leases.token = deliveries.lease and expires_at > $8) from deliveries
	where state = 'sending' and lease <> $1 and ($2::boolean or webhook = any($3::text[]))
		and ($4::boolean or type = any($5::text[])) and ($6::boolean or chatbot = any($7::text[]))`)

// Elsewhere returns what of a scope is sending under other leases.
func (l *Ledger) Elsewhere(ctx context.Context, s jobs.RunStart) ([]jobs.Flight, error) {
	var flights []jobs.Flight
	err := l.view("what other processes are sending", func(t *tx) error {
		flights = nil
		args := []any{s.Lease, s.Webhooks == nil, s.Webhooks, s.Types == nil, s.Types, s.Chatbots == nil, s.Chatbots, t.now}
		return t.each(ctx, sqlElsewhere, args, func(rows *sql.Rows) error {
			var f jobs.Flight
			err := rows.Scan(&f.ID, &f.RanOut)
			flights = append(flights, f)
			return err
		})
	})
	return flights, err
}

// TakeOver lets a run by hand take on what it would if it began now.
func (l *Ledger) TakeOver(ctx context.Context, run string, s jobs.RunStart) error {
	return l.change(ctx, "take more on into run "+run, func(ctx context.Context, t *tx) error {
		return t.adopt(ctx, s, &jobs.Run{ID: run})
	})
}
