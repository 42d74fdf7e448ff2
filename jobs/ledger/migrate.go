package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/sethvargo/go-retry"
)

//go:embed migrations
var migrations embed.FS

const versions = "goose_db_version" // goose's table: which migrations were done

// errMigrated says that another process has done the same migration meanwhile.
var errMigrated = errors.New("another process has brought the ledger's tables up to date")

// migrate brings the tables up to date. Of processes that try the same migration at once one does it and the others fail,
// and looking again shows that it was done: each is one transaction.
func (l *Ledger) migrate(ctx context.Context) error {
	return retry.Do(ctx, retry.WithMaxRetries(10, retry.NewConstant(50*time.Millisecond)), func(ctx context.Context) error {
		err := l.up(ctx)
		if l.raced(err) {
			return retry.RetryableError(err)
		}
		return err
	})
}

// raced reports whether a migration may have failed because another process did it.
func (l *Ledger) raced(err error) bool {
	if l.lite {
		return err != nil && !errors.Is(err, ErrNewer)
	}
	e, ok := errors.AsType[*pq.Error](err)
	return errors.Is(err, errMigrated) ||
		ok && (e.Code == "23505" || e.Code == "42P06" || e.Code == "42P07") // a name that is there by now: of a row of the catalogue, a schema, a table
}

func (l *Ledger) up(ctx context.Context) error {
	if !l.lite {
		if err := l.makeSchema(ctx); err != nil {
			return err
		}
	}
	p, err := l.migrator()
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

func (l *Ledger) migrator() (*goose.Provider, error) {
	ours := goose.WithDisableGlobalRegistry(true)
	if l.lite {
		files, err := fs.Sub(migrations, "migrations/sqlite")
		if err != nil {
			return nil, err
		}
		return goose.NewProvider(goose.DialectSQLite3, l.write, files, ours)
	}
	store, err := database.NewStore(database.DialectPostgres, l.schema+"."+versions)
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(migrations, "migrations/postgres/*.sql")
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			return l.migration(ctx, tx, version, file)
		}}, nil))
	}
	return goose.NewProvider(goose.DialectCustom, l.write, nil, ours, goose.WithStore(versionTable{store}), goose.WithGoMigrations(all...))
}

// migration runs one of PostgreSQL's files, whose tables are those of the ledger's schema, under a lock that ends with the
// transaction.
func (l *Ledger) migration(ctx context.Context, tx *sql.Tx, version int64, file string) error {
	text, err := migrations.ReadFile(file)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "select pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	var done bool
	if err := tx.QueryRowContext(ctx, l.text("select exists (select from "+versions+" where version_id = $1)"), version).Scan(&done); err != nil {
		return err
	}
	if done {
		return errMigrated
	}
	_, err = tx.ExecContext(ctx, "set local search_path to "+l.schema+";\n"+string(text))
	return err
}

// A versionTable is goose's, which looks for it under its name as it is quoted.
type versionTable struct{ database.Store }

// TableExists implements database.StoreExtender.
func (v versionTable) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, "select to_regclass($1) is not null", v.Tablename()).Scan(&exists)
	return exists, err
}

var _ database.StoreExtender = versionTable{}

// made reports whether the ledger's tables are there and, on SQLite, whether any others are.
func (l *Ledger) made(ctx context.Context) (ours, others bool, err error) {
	if !l.lite {
		err = l.write.QueryRowContext(ctx, "select to_regclass($1) is not null", l.schema+"."+versions).Scan(&ours)
	} else {
		err = l.write.QueryRowContext(ctx, `select coalesce(max(name = $1), false), coalesce(max(name <> $1), false)
			from sqlite_master where type = 'table' and name not like 'sqlite_%'`, versions).Scan(&ours, &others)
	}
	if err != nil {
		return false, false, fmt.Errorf("look for the ledger's tables: %w", err)
	}
	return ours, others, nil
}
