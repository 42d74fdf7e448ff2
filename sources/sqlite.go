package sources

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqlite reads a database file that an application owns and writes. It is opened as its owner, for writing too, since
// a reader of a database in WAL mode has to keep the -shm file with the others; `query_only` then forbids every change.
// Opened read-only by another user it would leave files that the application cannot open, and its writes would fail.
// Never immutable: that reads a changing file as if it did not change.
type sqlite struct {
	path string
	now  func() time.Time

	mu   sync.Mutex
	db   *sqlx.DB
	file os.FileInfo // the file that db has open
}

func openSQLite(ctx context.Context, path string, now func() time.Time) (*sqlite, error) {
	if path == "" {
		return nil, errors.New("a source is sqlite:PATH")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s := &sqlite{path: path, now: now}
	if _, err := s.current(); err != nil {
		return nil, err
	}
	if err := s.ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.close())
	}
	return s, nil
}

// current is the open database. When another file was put in its place, as restoring a backup does, that one is opened:
// the old file would never change again.
func (s *sqlite) current() (*sqlx.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if s.db != nil && os.SameFile(info, s.file) {
		return s.db, nil
	}
	if info.IsDir() {
		return nil, fmt.Errorf("source: %s is a folder", s.path)
	}
	if err := owned(info, s.path); err != nil {
		return nil, err
	}
	db, err := sqlx.Open("sqlite", "file:"+(&url.URL{Path: s.path}).EscapedPath()+"?mode=rw&_busy_timeout=5000&_query_only=1&_dqs=0")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	if s.db != nil {
		_ = s.db.Close() // what still reads from it ends by itself
	}
	s.db, s.file = db, info
	return db, nil
}

// owned refuses another user's file.
func owned(info os.FileInfo, path string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	owner := "#" + strconv.Itoa(int(stat.Uid)) // as sudo -u takes it
	if u, err := user.LookupId(strconv.Itoa(int(stat.Uid))); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("source: %s belongs to %s; SQLite would leave files beside it that the application cannot write: run as its owner, `sudo -u %s leadrelay …`", path, owner, owner)
}

func (s *sqlite) name() string { return "sqlite" }

func (s *sqlite) read(ctx context.Context, fn func(q querier) error) error {
	db, err := s.current()
	if err != nil {
		return err
	}
	err = readTx(ctx, db, sql.LevelDefault, fn)
	if err != nil && ctx.Err() == nil {
		if other, openErr := s.current(); openErr == nil && other != db { // the pool was closed under it
			return readTx(ctx, other, sql.LevelDefault, fn)
		}
	}
	return err
}

func (s *sqlite) ping(ctx context.Context) error {
	return s.read(ctx, func(q querier) error {
		var n int
		return q.QueryRowContext(ctx, "select count(*) from sqlite_master").Scan(&n)
	})
}

// working takes a query that has not ended for one that works: SQLite does so in this process, and cannot be asked.
func (s *sqlite) working(context.Context) (string, error) {
	return "a query has not ended", nil
}

func (s *sqlite) drop(time.Time) int { return 0 }

func (s *sqlite) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}

func (s *sqlite) param(n int) string { return "?" + strconv.Itoa(n) }

// output makes an expression of a column: the driver would read columns declared as times by its own rules, and take
// those without a zone for UTC.
func (s *sqlite) output(expr string) string { return "+" + expr }
func (s *sqlite) text(expr string) string   { return expr }

// json reads a blob as SQLite's own JSONB where it is that.
func (s *sqlite) json(column, _ string) string {
	return fmt.Sprintf("case when typeof(%[1]s) <> 'blob' then %[1]s when json_valid(%[1]s, 8) then json(%[1]s) else cast(%[1]s as text) end", column)
}

func (s *sqlite) oneOf(expr string, n int, list []string) (string, []any) {
	return "cast(" + expr + " as text) in (select value from json_each(" + s.param(n) + "))", []any{jsonText(list)}
}

// byKey compares with each key as the text and, where it is one, as the number or the blob that it may stand for.
func (s *sqlite) byKey(sh *shape, _ *Config, keys []string) (string, []any) {
	var values []any
	var blobs []string
	for _, k := range keys {
		values = append(values, k)
		if n, err := strconv.ParseInt(k, 10, 64); err == nil {
			values = append(values, n)
		} else if f, err := strconv.ParseFloat(k, 64); err == nil && f-f == 0 {
			values = append(values, f)
		}
		if blobKey.MatchString(k) {
			blobs = append(blobs, "x'"+k+"'")
		}
	}
	condition := sh.key + " in (select value from json_each(?1))"
	if len(blobs) > 0 && !sh.integerKey {
		condition = "(" + condition + " or " + sh.key + " in (" + strings.Join(blobs, ", ") + "))"
	}
	return condition, []any{jsonText(values)}
}

var blobKey = regexp.MustCompile(`^(?:[0-9a-f]{2})+$`)

func jsonText(v any) string {
	b, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // texts and numbers
	}
	return string(b)
}

var autoincrement = regexp.MustCompile(`(?i)\bautoincrement\b`)

func (s *sqlite) inspect(ctx context.Context, q querier, cfg *Config) (*shape, error) {
	sh := &shape{types: map[string]string{}, notNull: map[string]bool{}, folds: true, key: pq.QuoteIdentifier(cfg.ID)}
	if cfg.Query != "" {
		sh.from = "(" + cfg.Query + "\n) as leadrelay_stream"
		if err := columnsOf(ctx, q, s, sh); err != nil {
			return nil, fmt.Errorf("its query fails: %w", err)
		}
		return sh, nil
	}
	schema, table := "main", cfg.Table
	if parts := splitName(cfg.Table); len(parts) == 2 {
		schema, table = parts[0], parts[1]
	}
	sh.from = quoteName(cfg.Table)
	var kind string
	var create sql.NullString
	err := q.QueryRowContext(ctx, "select type, sql from "+pq.QuoteIdentifier(schema)+".sqlite_master where type in ('table', 'view') and name = ?1 collate nocase", table).
		Scan(&kind, &create)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &missingError{table: cfg.Table}
	}
	if err != nil {
		return nil, err
	}
	sh.isTable = kind == "table"
	rows, err := q.QueryContext(ctx, "select lower(name), lower(type), [notnull], pk from pragma_table_xinfo(?1, ?2)", table, schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	keys := 0
	for rows.Next() {
		var name, typ string
		var notNull bool
		var pk int
		if err := rows.Scan(&name, &typ, &notNull, &pk); err != nil {
			return nil, err
		}
		sh.types[name], sh.notNull[name] = typ, notNull
		if pk > 0 {
			keys++
			sh.integerKey = name == strings.ToLower(cfg.ID) && typ == "integer"
		}
	}
	sh.integerKey = sh.integerKey && keys == 1
	if sh.integerKey && autoincrement.MatchString(create.String) {
		sh.autoincrement = true
		sh.sequence = &sequence{name: table, increment: 1, cache: 1, start: 1, readable: true}
	}
	return sh, rows.Err()
}

func (s *sqlite) issued(ctx context.Context, q querier, sh *shape) (issued, bool, error) {
	if !sh.autoincrement {
		return issued{}, false, nil
	}
	seq := issued{increment: 1}
	err := q.QueryRowContext(ctx, "select seq from sqlite_sequence where name = ?1 collate nocase", sh.sequence.name).Scan(&seq.last)
	if errors.Is(err, sql.ErrNoRows) { // nothing was ever inserted, or the table was made anew
		return seq, true, nil
	}
	return seq, err == nil, err
}
