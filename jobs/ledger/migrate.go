package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/sethvargo/go-retry"
)

//go:embed migrations
var migrations embed.FS

const versions = "goose_db_version" // goose's table: which migrations were done

// migrate brings the tables up to date. On PostgreSQL the caller holds a lock; on SQLite two processes may try the
// same migration, one of them fails, and looking again shows that it was done: each is one transaction.
func (l *Ledger) migrate(ctx context.Context) error {
	dialect, folder := goose.DialectPostgres, "migrations/postgres"
	if l.lite {
		dialect, folder = goose.DialectSQLite3, "migrations/sqlite"
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	up := func(ctx context.Context) error {
		p, err := goose.NewProvider(dialect, l.write, files, goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		current, target, err := p.GetVersions(ctx)
		if err != nil {
			return err
		}
		if current > target {
			return ErrNewer
		}
		_, err = p.Up(ctx)
		l.created = err == nil && current == 0
		return err
	}
	if !l.lite {
		return up(ctx)
	}
	return retry.Do(ctx, retry.WithMaxRetries(10, retry.NewConstant(50*time.Millisecond)), func(ctx context.Context) error {
		err := up(ctx)
		if err != nil && !errors.Is(err, ErrNewer) {
			return retry.RetryableError(err)
		}
		return err
	})
}

// made reports whether the ledger's tables, and whether any others, are where write looks for tables.
func (l *Ledger) made(ctx context.Context) (ours, others bool, err error) {
	query := `select count(*) filter (where tablename = '` + versions + `'), count(*) from pg_tables where schemaname = current_schema()`
	if l.lite {
		query = `select count(*) filter (where name = '` + versions + `'), count(*) from sqlite_master where type = 'table' and name not like 'sqlite_%'`
	}
	var mine, all sql.NullInt64
	if err := l.write.QueryRowContext(ctx, query).Scan(&mine, &all); err != nil {
		return false, false, fmt.Errorf("look for the ledger's tables: %w", err)
	}
	return mine.Int64 > 0, all.Int64 > mine.Int64, nil
}
