package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
)

// Levels of a Finding.
const (
	LevelError = "error" // the stream does not work, or would miss rows
	LevelWarn  = "warn"  // it works; somebody should know
)

// A Finding is one thing that `check` has to say.
type Finding struct {
	Level string
	Text  string // one line that names the stream and what to do
}

// sampleRows is how many of the newest rows checks look at that would otherwise read a whole table.
const sampleRows = 100_000

// A checkup gathers findings on one stream.
type checkup struct {
	d        *Database
	cfg      *Config
	findings []Finding
}

func (c *checkup) say(level, format string, args ...any) {
	c.findings = append(c.findings, Finding{level, "stream " + c.cfg.Type + ": " + fmt.Sprintf(format, args...)})
}

// Check says what is wrong with one stream, whether it can be opened or not. The error is only for a database that
// cannot be asked. That the newest rows can be encoded is for the caller to try: see Latest.
func (d *Database) Check(ctx context.Context, cfg Config) ([]Finding, error) {
	c := &checkup{d: d, cfg: &cfg}
	err := c.run(ctx)
	if err != nil && (IsUnavailable(err) || ctx.Err() != nil) {
		return c.findings, err
	}
	if pqErr, ok := errors.AsType[*pq.Error](err); ok && pqErr.Code == "42501" { // insufficient_privilege
		err = fmt.Errorf("%w: see `leadrelay sql grants`", err)
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			c.findings = append(c.findings, Finding{LevelError, line})
		}
	}
	return c.findings, nil
}

func (c *checkup) run(ctx context.Context) error {
	s, err := c.d.Stream(ctx, *c.cfg)
	if err != nil {
		return err
	}
	// The statement that every scan makes: rights, `where` and the query's columns show here.
	if _, err := s.latest(ctx, &s.conv, 1); err != nil {
		return err
	}
	c.cfg = &s.cfg
	c.sequence(s)
	return c.d.eng.read(ctx, func(q querier) error {
		for _, look := range []func(context.Context, querier, *Stream) error{c.rights, c.index, c.windowIndex, c.rowsOfNobody, c.times, c.chosenIDs} {
			if err := look(ctx, q, s); err != nil {
				return s.wrap("check", err)
			}
		}
		return nil
	})
}

// sequence says what about the ids' origin could surprise.
func (c *checkup) sequence(s *Stream) {
	seq := s.shape.sequence
	switch {
	case s.kind != CursorGaps:
	case c.d.eng.name() == "sqlite":
		if s.shape.isTable && !s.shape.autoincrement {
			c.say(LevelWarn, "table %q is without AUTOINCREMENT: SQLite gives the id of a deleted newest row again, and that row counts as sent; a restored file is not noticed either", c.cfg.Table)
		}
		if !s.shape.integerKey && s.shape.isTable {
			c.say(LevelWarn, "%q is no INTEGER PRIMARY KEY, so ids may not grow, and rows with lower ones are missed: use cursor: created", c.cfg.ID)
		}
	case seq == nil:
		c.say(LevelWarn, "no sequence feeds %q: a restored database is not noticed, and ids that are given out for later are waited for only gap_keep long", c.cfg.ID)
	default:
		if !seq.readable {
			c.say(LevelWarn, "this user may not read sequence %s, so a restored database is not noticed: `grant select on sequence %s to` this user", seq.name, seq.name)
		}
		if seq.cache > 1 {
			c.say(LevelWarn, "sequence %s has CACHE %d: sessions use ids long after they were given out; they are waited for gap_keep (%s) long", seq.name, seq.cache, c.cfg.GapKeep)
		}
		if seq.cycles {
			c.say(LevelWarn, "sequence %s cycles: ids that come again count as sent", seq.name)
		}
	}
}

const pgRightsSQL = `select current_user, (select rolsuper from pg_catalog.pg_roles where rolname = current_user),
	has_table_privilege($1::oid, 'insert, update, delete, truncate')`

// rights warns where the user may do more than read.
func (c *checkup) rights(ctx context.Context, q querier, s *Stream) error {
	if s.shape.oid == 0 {
		return nil
	}
	var user string
	var super, writes bool
	if err := q.QueryRowContext(ctx, pgRightsSQL, s.shape.oid).Scan(&user, &super, &writes); err != nil {
		return err
	}
	switch {
	case super:
		c.say(LevelWarn, "user %q is a superuser; it needs to read only: see `leadrelay sql grants`", user)
	case writes:
		c.say(LevelWarn, "user %q may change table %q; it needs SELECT only: see `leadrelay sql grants`", user, c.cfg.Table)
	}
	return nil
}

// rowsOfNobody counts rows that are passed over.
func (c *checkup) rowsOfNobody(ctx context.Context, q querier, s *Stream) error {
	id, chatbot := pq.QuoteIdentifier(c.cfg.ID), pq.QuoteIdentifier(c.cfg.Chatbot)
	var chatbots, ids int
	err := q.QueryRowContext(ctx, fmt.Sprintf("select coalesce(sum(case when %s is null then 1 else 0 end), 0), coalesce(sum(case when %s is null then 1 else 0 end), 0) from (select %[1]s, %[2]s from %s %s limit %d) as newest",
		chatbot, id, s.shape.from, s.cursor.latest(), sampleRows)).Scan(&chatbots, &ids)
	if err != nil {
		return err
	}
	if chatbots > 0 {
		c.say(LevelWarn, "%d of its newest rows have no %q; they belong to nobody and are passed over", chatbots, c.cfg.Chatbot)
	}
	if ids > 0 {
		c.say(LevelWarn, "%d of its newest rows have no %q and cannot be read", ids, c.cfg.ID)
	}
	return nil
}

// chosenIDs warns where SQLite does not seem to give out the ids: those that an application makes may become visible out
// of order, and there are no gaps to find them by.
func (c *checkup) chosenIDs(ctx context.Context, q querier, s *Stream) error {
	if s.kind != CursorGaps || c.d.eng.name() != "sqlite" {
		return nil
	}
	var rows, span float64
	err := q.QueryRowContext(ctx, fmt.Sprintf("select count(*), coalesce(max(id) - min(id), 0.0) from (select %s as id from %s %s limit 1000)",
		s.shape.key, s.shape.from, s.cursor.latest())).Scan(&rows, &span)
	if err == nil && rows >= 10 && span > 1000*rows {
		c.say(LevelWarn, "the values of %q are far apart, as if the application made them: a row with a lower one than was read before is missed; cursor: created finds it", c.cfg.ID)
	}
	return err
}

// times warns of times that could be misread, and of rows that have none where that costs.
func (c *checkup) times(ctx context.Context, q querier, s *Stream) error {
	if created, ok := s.cursor.(*createdCursor); ok {
		var undated int
		err := q.QueryRowContext(ctx, fmt.Sprintf("select count(*) from (select 1 from %s where %s limit %d) as undated",
			s.shape.from, created.d.undated, sampleRows)).Scan(&undated)
		if err != nil {
			return err
		}
		if undated > 0 {
			c.say(LevelWarn, "%d rows have no time in %s: cursor created reads all of these on every scan, and keeps their keys", undated, quotedNames(s.at.columns))
		}
		switch {
		case c.d.eng.name() != "sqlite":
		case c.cfg.versioned():
			c.say(LevelWarn, "on SQLite changes are found that are committed within %s of their time in %s", max(sqliteMargin, c.cfg.Lookback), quotedNames(s.at.columns))
		default:
			c.say(LevelWarn, "cursor created on SQLite finds rows that are committed within %s of their creation time; an INTEGER PRIMARY KEY as id needs no such bound", max(sqliteMargin, c.cfg.Lookback))
		}
	}
	var rows []row // a sample
	if c.d.eng.name() == "sqlite" || c.cfg.versioned() || !isTime(s.conv.created) {
		var err error
		if rows, _, err = s.rowsAs(ctx, q, &s.bare, s.selectsAs(&s.bare, s.shape.key)+" "+s.cursor.latest()+" limit 100"); err != nil {
			return err
		}
	}
	c.zones(s, rows)
	if whole := func(r row) bool { return r.Updated.Nanosecond() != 0 }; len(rows) >= 5 && c.cfg.versioned() && !slices.ContainsFunc(rows, whole) {
		c.say(LevelWarn, "the times in %s are whole seconds: a record is held for one, and of the changes of a row within one only the last is sent", quotedNames(s.at.columns))
	}
	return nil
}

// zones warns of times that are read as UTC for want of a zone.
func (c *checkup) zones(s *Stream, rows []row) {
	if c.cfg.CreatedZone != nil {
		return
	}
	names := []string{c.cfg.Created}
	for _, name := range s.at.columns {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if c.d.eng.name() == "sqlite" {
		if slices.ContainsFunc(rows, func(r row) bool { return zoneless(r.created) || zoneless(r.at) }) {
			c.say(LevelWarn, "%s has times without a zone, which are read as UTC: set created_zone", quotedNames(names))
		}
		return
	}
	for _, name := range names {
		switch typ, known := s.shape.columnType(name); {
		case !known || typ == "timestamptz":
		case typ == "timestamp":
			c.say(LevelWarn, "%q has no zone and is read as UTC: set created_zone", name)
		case slices.ContainsFunc(rows, func(r row) bool { return zoneless(r.created) }):
			c.say(LevelWarn, "%q has times without a zone, which are read as UTC: set created_zone", name)
		}
	}
}

// zoneless reports whether a value is a time that another zone would make another.
func zoneless(v any) bool {
	switch v := v.(type) {
	case time.Time:
		return true // the caller knows those that have one
	case []byte:
		return zoneless(string(v))
	case string:
		a, ok := parseTime(v, time.UTC)
		b, _ := parseTime(v, time.FixedZone("", 3600))
		return ok && !a.Equal(b)
	}
	return false
}
