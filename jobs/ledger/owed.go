package ledger

import (
	"context"
	"database/sql"

	"github.com/leadrelay/leadrelay/jobs"
)

// Each state has its partial index.
var (
	sqlOwedPending = sqlText(`select webhook, count(*) from deliveries where state = 'pending' and ` + owedInScope + ` group by webhook`)
	sqlOwedSending = sqlText(`select webhook, count(*) from deliveries where state = 'sending' and ` + owedInScope + ` group by webhook`)
)

const owedInScope = `($1::boolean or webhook = any($2::text[]))
	and ($3::boolean or chatbot = any($4::text[])) and ($5::boolean or type = any($6::text[]))`

// Owed counts what is pending or sending of a scope, by webhook.
func (l *Ledger) Owed(ctx context.Context, s jobs.Scope) (map[string]int, error) {
	var owed map[string]int
	args := []any{s.Webhooks == nil, s.Webhooks, s.Chatbots == nil, s.Chatbots, s.Types == nil, s.Types}
	err := l.view("count what is owed", func(t *tx) error {
		owed = map[string]int{}
		for _, statement := range []*statement{sqlOwedPending, sqlOwedSending} {
			err := t.each(ctx, statement, args, func(rows *sql.Rows) error {
				var webhook string
				var n int
				err := rows.Scan(&webhook, &n)
				owed[webhook] += n
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return owed, err
}
