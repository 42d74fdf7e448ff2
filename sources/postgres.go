package sources

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs/pgpool"
)

type postgres struct {
	dsn  string
	pool *pgpool.Pool
	db   *sqlx.DB // of the pool
}

func openPostgres(dsn string) (*postgres, error) {
	u, err := url.Parse(dsn)
	if err != nil { // the error's text would hold the whole URL
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err
		}
		return nil, fmt.Errorf("the source's URL cannot be parsed: %s", withoutUserinfo(err.Error(), dsn))
	}
	q := u.Query()
	setDefault := func(key, value string) {
		if !q.Has(key) {
			q.Set(key, value)
		}
	}
	setDefault("connect_timeout", "10")
	setDefault("fallback_application_name", "leadrelay")
	u.RawQuery = q.Encode()
	cfg, err := pq.NewConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("the source's URL: %w", err)
	}
	pool, err := pgpool.New(cfg, 8, 4, nil)
	if err != nil {
		return nil, fmt.Errorf("the source's URL: %w", err)
	}
	return &postgres{dsn: u.String(), pool: pool, db: sqlx.NewDb(pool.DB, "postgres")}, nil
}

// withoutUserinfo drops an error that quotes a part of the URL which may be the password.
func withoutUserinfo(text, dsn string) string {
	_, rest, _ := strings.Cut(dsn, "://")
	if at := strings.LastIndexByte(rest, '@'); at > 0 {
		for _, quoted := range strings.FieldsFunc(text, func(r rune) bool { return r == '"' || r == ' ' || r == '\'' }) {
			if len(quoted) > 1 && strings.Contains(rest[:at], strings.Trim(quoted, ":")) {
				return "its user or password needs percent-encoding"
			}
		}
	}
	return text
}

func (p *postgres) name() string { return "postgres" }

// read names the isolation level, since the server's default may be one where the first statement's snapshot is all:
// then the created cursor would ask for open transactions after the snapshot, and miss those that ended in between.
func (p *postgres) read(ctx context.Context, fn func(q querier) error) error {
	err := readTx(ctx, p.db, sql.LevelReadCommitted, fn)
	for n := 0; n < 16 && p.pool.Again(err); n++ {
		err = readTx(ctx, p.db, sql.LevelReadCommitted, fn)
	}
	p.pool.Renew(err)
	return err
}

func (p *postgres) ping(ctx context.Context) error { return p.db.PingContext(ctx) }

func (p *postgres) working(ctx context.Context) (string, error) { return p.pool.Working(ctx) }

func (p *postgres) drop(then time.Time) int { return p.pool.Drop(then) }

func (p *postgres) close() error { return p.db.Close() }

func (p *postgres) param(n int) string        { return "$" + strconv.Itoa(n) }
func (p *postgres) output(expr string) string { return expr }
func (p *postgres) text(expr string) string   { return expr + "::text" }

func (p *postgres) json(column, typ string) string {
	switch typ {
	case "json", "jsonb", "text", "varchar", "bpchar", "name", "unknown":
		return column
	}
	return "to_json(" + column + ")" // an array, a number, a time
}

func (p *postgres) oneOf(expr string, n int, list []string) (string, []any) {
	return expr + "::text = any(" + p.param(n) + "::text[])", []any{pq.StringArray(list)}
}

func (p *postgres) byKey(sh *shape, _ *Config, keys []string) (string, []any) {
	valid := make(pq.StringArray, 0, len(keys))
	for _, k := range keys { // one key of another type would fail all
		switch sh.keyType {
		case "int8":
			if _, err := strconv.ParseInt(k, 10, 64); err != nil {
				continue
			}
		case "uuid":
			if _, err := uuid.Parse(k); err != nil {
				continue
			}
		case "numeric":
			if _, err := strconv.ParseFloat(k, 64); err != nil {
				continue
			}
		}
		valid = append(valid, k)
	}
	return sh.key + " = any($1::" + sh.keyType + "[])", []any{valid}
}

const (
	pgTableSQL = `select c.oid, c.relkind::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = to_regclass($1) and c.relkind in ('r', 'p', 'v', 'm', 'f')`

	pgColumnsSQL = `select a.attname, coalesce(b.typname, t.typname), a.attnotnull
from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_type b on t.typtype = 'd' and b.oid = t.typbasetype
where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped`

	// The sequence of the column's default, or else of its identity or serial.
	pgSequenceSQL = `select s.oid, quote_ident(n.nspname) || '.' || quote_ident(s.relname),
	q.seqincrement, q.seqcache, q.seqstart, q.seqcycle, has_sequence_privilege(s.oid, 'select')
from pg_catalog.pg_attribute a
left join pg_catalog.pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
join pg_catalog.pg_depend d
	on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
	or d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
		and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
join pg_catalog.pg_class s
	on s.relkind = 'S' and s.oid = case when d.classid = 'pg_attrdef'::regclass then d.refobjid else d.objid end
join pg_catalog.pg_sequence q on q.seqrelid = s.oid
join pg_catalog.pg_namespace n on n.oid = s.relnamespace
where a.attrelid = $1::oid and a.attname = $2
order by d.classid = 'pg_attrdef'::regclass desc limit 1`
)

func (p *postgres) inspect(ctx context.Context, q querier, cfg *Config) (*shape, error) {
	sh := &shape{types: map[string]string{}, notNull: map[string]bool{}}
	if cfg.Query != "" {
		sh.from = "(" + cfg.Query + "\n) as leadrelay_stream"
		if err := columnsOf(ctx, q, p, sh); err != nil {
			return nil, fmt.Errorf("its query fails: %w", masked(err))
		}
	} else if err := p.inspectTable(ctx, q, cfg, sh); err != nil {
		return nil, err
	}
	idType, ok := sh.columnType(cfg.ID)
	if !ok {
		return sh, nil
	}
	sh.key = pq.QuoteIdentifier(cfg.ID)
	switch idType {
	case "int2", "int4", "int8":
		sh.keyType = "int8"
	case "uuid", "text", "bpchar", "numeric":
		sh.keyType = idType
	case "varchar", "name":
		sh.keyType = "text"
	default:
		sh.key, sh.keyType = sh.key+"::text", "text"
	}
	if !sh.isTable {
		return sh, nil
	}
	rows, err := q.QueryContext(ctx, pgSequenceSQL, sh.oid, cfg.ID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if rows.Next() {
		s := &sequence{}
		if err := rows.Scan(&s.oid, &s.name, &s.increment, &s.cache, &s.start, &s.cycles, &s.readable); err != nil {
			return nil, err
		}
		sh.sequence = s
		sh.integerKey = sh.keyType == "int8" && s.increment > 0
	}
	return sh, rows.Err()
}

func (p *postgres) inspectTable(ctx context.Context, q querier, cfg *Config, sh *shape) error {
	rows, err := q.QueryContext(ctx, pgTableSQL, quoteName(cfg.Table))
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return &missingError{table: cfg.Table}
	}
	var kind string
	if err := rows.Scan(&sh.oid, &kind, &sh.from); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	sh.isTable = kind == "r" || kind == "p"
	columns, err := q.QueryContext(ctx, pgColumnsSQL, sh.oid)
	if err != nil {
		return err
	}
	defer columns.Close()
	for columns.Next() {
		var name, typ string
		var notNull bool
		if err := columns.Scan(&name, &typ, &notNull); err != nil {
			return err
		}
		sh.types[name], sh.notNull[name] = typ, notNull
	}
	return columns.Err()
}

// columnsOf asks the database for the columns of a query.
func columnsOf(ctx context.Context, q querier, eng engine, sh *shape) error {
	names, types, err := outputs(ctx, q, eng, sh.from)
	if err != nil {
		return err
	}
	for i, name := range names {
		if sh.folds {
			name = strings.ToLower(name)
		}
		sh.types[name] = types[i]
	}
	return nil
}

// issued reads the sequence as it stands: sequences know no snapshots.
func (p *postgres) issued(ctx context.Context, q querier, sh *shape) (issued, bool, error) {
	s := sh.sequence
	if s == nil || !s.readable {
		return issued{}, false, nil
	}
	var seq issued
	var called bool
	err := q.QueryRowContext(ctx, `select s.last_value, s.is_called, q.seqincrement from `+s.name+
		` s, pg_catalog.pg_sequence q where q.seqrelid = `+strconv.FormatInt(s.oid, 10)).Scan(&seq.last, &called, &seq.increment)
	if err != nil {
		return issued{}, false, fmt.Errorf("read sequence %s: %w", s.name, err)
	}
	if !called {
		seq.last -= seq.increment
	}
	return seq, true, nil
}
