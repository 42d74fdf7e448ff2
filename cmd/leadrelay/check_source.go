package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sources"
)

// checkRows is how many of a stream's latest rows are tried.
const checkRows = 100

// source looks at the source database, its streams and, where there is a sink to try them with, their latest rows.
func (c *checkup) source(ctx context.Context, sink *sinks.HTTP) {
	db, err := sources.Open(ctx, c.config.Source.Reveal(), sources.Options{})
	if err != nil {
		c.say(sources.LevelError, "source: %v", err)
		return
	}
	defer db.Close()
	c.webhookSource(ctx, db)
	missing, unheard := 0, c.unheard(ctx, db)
	for _, s := range c.config.Streams {
		stream, err := db.Stream(ctx, streamConfig(s, c.config.Push))
		if s.Optional && sources.IsMissing(err) && missing < len(c.config.Streams)-1 {
			missing++
			c.say(sources.LevelWarn, "%v; left out, as one of the two default streams may be", err)
			continue
		}
		found, checkErr := db.Check(ctx, streamConfig(s, c.config.Push))
		unfit := checkErr != nil
		for _, f := range found {
			c.say(f.Level, "%s", f.Text)
			unfit = unfit || f.Level == sources.LevelError
		}
		if checkErr != nil {
			c.say(sources.LevelError, "stream %s: %s", s.Type, strings.TrimPrefix(checkErr.Error(), "stream "+s.Type+": "))
		}
		if err == nil && !unfit && sink != nil { // else the rows fail for the same reason once more
			c.rows(ctx, stream, sink)
		}
		if err == nil && !unheard {
			c.wakes(ctx, stream)
		}
		if s.Deleted != "" && sink != nil {
			c.deletions(s.Type, sink)
		}
	}
}

// webhookSource asks for the platform's own webhooks and says what is wrong with each.
func (c *checkup) webhookSource(ctx context.Context, db *sources.Database) {
	if c.config.Rows == nil {
		return
	}
	rows, err := (&parts{config: c.config, tables: db}).queryRows(ctx, newRowReader(c.config))
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			c.say(sources.LevelError, "webhook_source: %s", strings.TrimPrefix(line, "webhook_source: "))
		}
		return
	}
	right, wrong := c.rightRows(rows)
	for i, line := range wrong {
		if i == 100 {
			c.say(sources.LevelError, "webhook_source: and %d more rows are wrong", len(wrong)-i)
			break
		}
		c.say(sources.LevelError, "webhook_source: %s", line)
	}
	c.webhooks = append(slices.Clone(c.webhooks), right...)
	switch {
	case len(rows) == 0:
		c.say(sources.LevelWarn, "webhook_source: the query gives no rows")
	case len(right) < len(rows):
		c.say(sources.LevelError, "webhook_source: %d of %s give no webhook", len(rows)-len(right), countOf(len(rows), "row"))
	default:
		c.say("ok", "webhook_source: %s", countOf(len(rows), "row"))
	}
}

// rightRows are the webhooks of rows that a look would enter, and what is wrong with the others, a line each.
func (c *checkup) rightRows(rows []webhookRow) (right []jobs.Webhook, wrong []string) {
	provisioning := jobs.Provisioning{Origin: jobs.RowsOf(c.config.Path), Rows: true, NewKey: c.config.Dialects.NewKey, Signs: c.config.Dialects.NeedsKey, Fits: c.config.Dialects.Fits}
	lines := map[string]error{}
	for i := range rows {
		if rows[i].err == nil {
			provisioning.Desired = append(provisioning.Desired, rows[i].webhook)
		} else if rows[i].id == "" {
			wrong = append(wrong, "a row: "+oneLine(rows[i].err))
		} else {
			lines[rows[i].id] = rows[i].err
		}
	}
	// The configuration's own webhooks come into the ledger first.
	refused := provisioning.Refusals(append(slices.Clone(c.known), c.config.Webhooks...))
	for id, err := range refused {
		lines[id] = err
	}
	for _, w := range provisioning.Desired {
		if refused[w.ID] == nil {
			right = append(right, w)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		wrong = append(wrong, "row "+id+": "+oneLine(lines[id]))
	}
	return right, wrong
}

// rows tries to encode a stream's latest rows for each webhook that wants them.
func (c *checkup) rows(ctx context.Context, stream *sources.Stream, sink *sinks.HTTP) {
	latest, err := stream.Latest(ctx, checkRows)
	rows, wanted, bad := 0, 0, 0
	for left := latest; err == nil && len(left) > 0; {
		var records []jobs.Record
		records, left, err = stream.Read(ctx, left) // not all at once: they may be large
		slices.SortFunc(records, func(a, b jobs.Record) int {
			return cmp.Compare(slices.Index(latest, a.Row), slices.Index(latest, b.Row))
		})
		for i := range records {
			n := c.row(&records[i], sink, &bad)
			if wanted += n; n > 0 {
				rows++
			}
		}
	}
	if err != nil {
		c.say(sources.LevelError, "stream %s: latest rows: %v", stream.Type(), err)
		return
	}
	switch {
	case bad > 0:
		c.say(sources.LevelError, "stream %s: %d of the latest %d records cannot be sent", stream.Type(), bad, wanted)
	case wanted == 0 && len(latest) > 0:
		c.say(sources.LevelWarn, "stream %s: none of its latest %d rows is of a chatbot that a webhook names", stream.Type(), len(latest))
	default:
		c.say("ok", "stream %s: cursor %s; %d of the latest %d rows are wanted and can be sent", stream.Type(), stream.Cursor(), rows, len(latest))
	}
}

// row tries to encode a row for each webhook that wants it, and says how many do. It counts in bad where it cannot.
func (c *checkup) row(rec *jobs.Record, sink *sinks.HTTP, bad *int) (wanted int) {
	for i := range c.webhooks {
		w := &c.webhooks[i]
		if !w.Wants(rec.Chatbot, rec.Type) {
			continue
		}
		wanted++
		err := rec.Err
		if err == nil {
			_, err = sink.Encode(w, rec, time.Now())
		}
		if err == nil {
			continue
		}
		if *bad++; *bad <= 5 { // the rest are likely the same
			c.say(sources.LevelError, "stream %s: row %s for webhook %s: %v", rec.Type, rec.Row, w.ID, err)
		}
	}
	return wanted
}

// deletions looks whether the webhooks of a stream that knows of deletions are told of them.
func (c *checkup) deletions(typ string, sink *sinks.HTTP) {
	untold := map[string]bool{}
	for i := range c.webhooks {
		w := &c.webhooks[i]
		if _, told := sink.Event(w.Dialect, typ, jobs.ActionRemove); !told && w.WantsType(typ) {
			untold[w.Dialect] = true
		}
	}
	for _, dialect := range slices.Sorted(maps.Keys(untold)) {
		c.say(sources.LevelWarn, "stream %s: deleted: dialect %s has no word for a row that is gone, so its webhooks are not told", typ, dialect)
	}
}

// unheard reports whether immediate mode, where a webhook asks for it, has to poll whatever triggers there are.
func (c *checkup) unheard(ctx context.Context, db *sources.Database) bool {
	if !slices.ContainsFunc(c.webhooks, func(w jobs.Webhook) bool { return w.Immediate }) {
		return false
	}
	hears, err := db.Hears(ctx)
	if hears || err != nil { // what keeps it from being asked is said of each stream
		return false
	}
	c.say(sources.LevelWarn, "source: immediate: true, and a pooler in transaction mode is between, which lets nobody be woken: new rows are found by polling, within about 10 s; name the server itself, or a pooler in session mode")
	return true
}

// wakes looks whether immediate mode, where a webhook asks for it, is told of the stream's new rows.
func (c *checkup) wakes(ctx context.Context, stream *sources.Stream) {
	if !slices.ContainsFunc(c.webhooks, func(w jobs.Webhook) bool { return w.Immediate && w.WantsType(stream.Type()) }) {
		return
	}
	told, err := stream.Wakes(ctx)
	switch {
	case err != nil:
		c.say(sources.LevelError, "%v", err)
	case !told:
		c.say(sources.LevelWarn, "stream %s: immediate: true, and no trigger wakes leadrelay when rows are committed: they are found by polling, within about 10 s; leadrelay sql trigger prints one", stream.Type())
	}
}
