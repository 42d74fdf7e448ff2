package sources

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Nodes of a plan that read or sort a whole table.
var (
	pgWhole   = regexp.MustCompile(`(?m)^\s*(?:->\s+)?(?:(?:Parallel )?Seq Scan on .*|Sort)\s*$`)
	liteWhole = regexp.MustCompile(`(?m)^(?:SCAN (?:\S+)|USE TEMP B-TREE FOR ORDER BY)$`)
)

// index warns where no index serves the scans, whatever the planner thinks of so few rows.
func (c *checkup) index(ctx context.Context, q querier, s *Stream) error {
	query, args := s.cursor.scanSQL()
	plan, err := s.plan(ctx, q, query, args, true)
	if err != nil || !s.readsWhole(plan) {
		return err
	}
	if c.cfg.Query != "" {
		together := ""
		if len(s.at.columns) > 1 {
			together = ", together as " + s.at.expr
		}
		c.say(LevelWarn, "no index serves its scans: each reads the whole query; index the columns behind %s%s", quotedNames(append(slices.Clone(s.at.columns), c.cfg.ID)), together)
		return nil
	}
	c.say(LevelWarn, "no index serves its scans: each reads the whole table; %s", indexSQL(c.d.eng.name(), c.cfg, s.at))
	return nil
}

// windowIndex warns where no index finds the rows of the last days in a large table, which a reconciliation reads. A
// small one it reads whole in less than a second, and the created cursor's scans need the same index.
func (c *checkup) windowIndex(ctx context.Context, q querier, s *Stream) error {
	d, ok := s.windowDating()
	if !ok || s.kind == CursorCreated {
		return nil
	}
	var rows int
	err := q.QueryRowContext(ctx, fmt.Sprintf("select count(*) from (select 1 from %s limit %d) as counted", s.shape.from, sampleRows+1)).Scan(&rows)
	if err != nil || rows <= sampleRows {
		return err
	}
	st := s.windowStatement(&createdCursor{s: s, d: d}, s.db.now())
	plan, err := s.plan(ctx, q, st.sql(), st.args, true)
	if err != nil || !s.readsWhole(plan) {
		return err
	}
	if c.cfg.Query != "" {
		c.say(LevelWarn, "no index finds rows by their creation time, so that leadrelay reconcile reads the whole query; index the column behind %q", c.cfg.Created)
		return nil
	}
	c.say(LevelWarn, "no index finds rows by their creation time, so that leadrelay reconcile reads the whole table; %s", indexSQL(c.d.eng.name(), c.cfg, createdInstant(s.shape, c.cfg)))
	return nil
}

// readsWhole reports whether a plan reads or sorts a whole table.
func (s *Stream) readsWhole(plan string) bool {
	if s.db.eng.name() == "sqlite" {
		return liteWhole.MatchString(plan)
	}
	return pgWhole.MatchString(plan)
}

// plan explains a statement; forced: with every index that could serve, for the rest of the transaction.
func (s *Stream) plan(ctx context.Context, q querier, query string, args []any, forced bool) (string, error) {
	explain := "explain (costs off) "
	if s.db.eng.name() == "sqlite" {
		explain = "explain query plan "
	} else if forced {
		for _, method := range []string{"seqscan", "sort", "bitmapscan"} {
			rows, err := q.QueryContext(ctx, "select set_config('enable_"+method+"', 'off', true)")
			if err != nil {
				return "", err
			}
			if err := rows.Close(); err != nil {
				return "", err
			}
		}
	}
	rows, err := q.QueryContext(ctx, explain+query, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	var plan strings.Builder
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		fmt.Fprintln(&plan, *into[len(into)-1].(*any)) // the last column is the text
	}
	return plan.String(), rows.Err()
}
