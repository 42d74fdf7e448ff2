package sources

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// An instant is the time that the created cursor orders rows by: when a row was created or, in a stream with versions,
// when it last changed.
type instant struct {
	expr    string   // in SQL
	typ     string   // of expr, as PostgreSQL names it
	columns []string // that it is made of
	wall    bool     // one of them has no zone: PostgreSQL
	day     bool     // one of them is a date: PostgreSQL
}

func createdInstant(sh *shape, cfg *Config) instant {
	typ, _ := sh.columnType(cfg.Created)
	return instant{pq.QuoteIdentifier(cfg.Created), typ, []string{cfg.Created}, typ != "timestamptz", typ == "date"}
}

// isTime reports whether PostgreSQL names a type of times so.
func isTime(typ string) bool { return typ == "timestamptz" || typ == "timestamp" || typ == "date" }

// errNoInstant says that nothing tells when a row was deleted.
func errNoInstant(cfg *Config, typ string) error {
	return fmt.Errorf("column %q (deleted) is %s, which does not say when: name the column that changes with it in updated", cfg.Deleted, typ)
}

// changed is the latest of the columns that say when something became of a row; NULL is nothing. Where one of them
// says it all, it stands alone, so that an ordinary index serves. Times with a zone and without one compare by the
// session's zone, and no index can be made of that, so those without get theirs here.
func (p *postgres) changed(sh *shape, cfg *Config) (instant, error) {
	var columns []string
	deleted, _ := sh.columnType(cfg.Deleted)
	switch {
	case cfg.Updated != "" && sh.notNull[cfg.Updated] && !isTime(deleted):
		columns = []string{cfg.Updated}
	case cfg.Updated == "" && !isTime(deleted):
		return instant{}, errNoInstant(cfg, deleted)
	default:
		for _, name := range []string{cfg.Updated, cfg.Created} {
			if name != "" {
				columns = append(columns, name)
			}
		}
		if isTime(deleted) {
			columns = append(columns, cfg.Deleted)
		}
	}
	at := instant{columns: columns}
	zoned := false
	for _, name := range columns {
		typ, _ := sh.columnType(name)
		if !isTime(typ) {
			return instant{}, fmt.Errorf("when a row changed is told by times, and column %q is %s: cast it in a query", name, typ)
		}
		if typ == "date" && name == cfg.Updated {
			return instant{}, fmt.Errorf("column %q (updated) is a date, so that a day's changes would be one: it needs a time", name)
		}
		zoned = zoned || typ == "timestamptz"
		at.wall = at.wall || typ != "timestamptz"
		at.day = at.day || typ == "date"
	}
	if at.typ = "timestamp"; zoned {
		at.typ = "timestamptz"
	}
	exprs := make([]string, len(columns))
	for i, name := range columns {
		exprs[i] = pq.QuoteIdentifier(name)
		if typ, _ := sh.columnType(name); typ != at.typ {
			exprs[i] += "::timestamp"
			if at.typ == "timestamptz" {
				exprs[i] = "(" + exprs[i] + " at time zone " + pq.QuoteLiteral(cfg.zone().String()) + ")"
			}
		}
	}
	if at.expr = exprs[0]; len(exprs) > 1 {
		at.expr = "greatest(" + strings.Join(exprs, ", ") + ")"
	}
	return at, nil
}

// changed on SQLite is the first of the times of deletion, change and creation that is there: they come after each
// other, and values of several forms cannot be compared. Any column may hold whatever it likes, so one that is not
// declared as a truth value says when a row was deleted in the rows where it holds a time.
func (s *sqlite) changed(sh *shape, cfg *Config) (instant, error) {
	at := instant{}
	var exprs []string
	deleted, _ := sh.columnType(cfg.Deleted)
	tells := cfg.Deleted != "" && !strings.Contains(deleted, "bool")
	if tells {
		at.columns = append(at.columns, cfg.Deleted)
		exprs = append(exprs, fmt.Sprintf("case when typeof(%[1]s) in ('integer', 'real') and %[1]s >= 1e8 or typeof(%[1]s) = 'text' and %[1]s >= '0002-01-01' and %[1]s glob '%[2]s' then %[1]s end", pq.QuoteIdentifier(cfg.Deleted), dateGlob))
	}
	for _, name := range []string{cfg.Updated, cfg.Created} {
		if name != "" {
			at.columns = append(at.columns, name)
			exprs = append(exprs, pq.QuoteIdentifier(name))
		}
		if name != "" && sh.notNull[strings.ToLower(name)] {
			break
		}
	}
	if cfg.Updated == "" && !tells {
		return at, errNoInstant(cfg, deleted)
	}
	if at.expr = exprs[0]; len(exprs) > 1 {
		at.expr = "coalesce(" + strings.Join(exprs, ", ") + ")"
	}
	return at, nil
}

// quotedNames lists names for people.
func quotedNames(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return strings.Join(quoted, ", ")
}

// versionLayout is how a time says which version of a row a record is.
const versionLayout = "2006-01-02T15:04:05.000000Z"

// version says in rec when its row last changed. The zero time is none, and then there is one version.
func version(rec *jobs.Record, changed time.Time) {
	rec.Updated = changed
	if changed.IsZero() {
		return
	}
	rec.Version = changed.Format(versionLayout)
	switch ns := changed.Nanosecond(); {
	case ns == 0:
		rec.Hold = time.Second
	case ns%int(time.Millisecond) == 0:
		rec.Hold = time.Millisecond
	}
}

// isDeleted reports whether the value of a column that marks rows as deleted does so: all but NULL, false, 0, the empty
// text and times that stand for none.
func isDeleted(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case []byte:
		return isDeleted(string(v))
	case string:
		if isDate(v) {
			return v >= "0002-01-01"
		}
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return f != 0
		}
		return v != "" && !strings.EqualFold(v, "false") && !strings.EqualFold(v, "f")
	case time.Time:
		return v.Year() > 1
	}
	return true
}
