package ledger

import (
	"context"
	"time"
)

const pruneBatch = 5000 // a long transaction would keep others waiting on SQLite

var (
	sqlPruneAttempts = sqlText(`
		delete from attempts where (delivery, number) in (
			select delivery, number from attempts where began_at < $1 limit $2)`)
	sqlPruneRuns = sqlText(`
		delete from runs where id in (select id from runs where ended_at < $1 limit $2)`)
)

// Prune forgets attempts and ended runs older than before, some thousands in a transaction.
func (l *Ledger) Prune(ctx context.Context, before time.Time) error {
	for _, s := range []*statement{sqlPruneAttempts, sqlPruneRuns} {
		for more := true; more; {
			err := l.change(ctx, "prune", func(ctx context.Context, t *tx) error {
				n, err := t.exec(ctx, s, before, pruneBatch)
				more = n == pruneBatch
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
