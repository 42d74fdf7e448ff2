package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sources"
)

// checkRows is how many of a stream's latest rows are tried.
const checkRows = 100

func newCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, databases, tables, columns, indexes, rights, URLs and the latest rows",
		Long: `Check everything that can be checked without sending anything: the configuration and its secrets, the databases,
each stream's table, columns, indexes, rights and sequence, whether its latest 100 rows can be encoded for the webhooks
that want them, and whether the webhooks' names resolve to addresses that may be reached. Every problem is named.

Exit codes: 0 no errors (there may be warnings); 1 errors; 2 the configuration is wrong.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context()) },
	}
}

// A finding is one line of `check`.
type finding struct {
	Level string `json:"level"` // ok, warn or error
	Text  string `json:"text"`
}

type checkup struct {
	app      *app
	config   *config.Resolved
	findings []finding
	known    []jobs.Webhook // the ledger's
	webhooks []jobs.Webhook // the configuration's, webhook_source's that are right, and the ledger's that no file provisions
}

func (c *checkup) say(level, format string, args ...any) {
	c.findings = append(c.findings, finding{level, fmt.Sprintf(format, args...)})
}

func (a *app) check(ctx context.Context) error {
	resolved, err := a.loadConfig()
	if err != nil {
		return err
	}
	c := &checkup{app: a, config: resolved, webhooks: resolved.Webhooks}
	c.say("ok", "configuration %s: %s, %s", resolved.Path, countOf(len(resolved.Streams), "stream"), countOf(len(resolved.Webhooks), "webhook"))
	c.admin()
	c.ledger(ctx)
	c.source(ctx)
	c.urls(ctx)
	failed := 0
	for _, f := range c.findings {
		if f.Level == sources.LevelError {
			failed++
		}
	}
	if a.json {
		if err := a.printJSON(map[string]any{"findings": c.findings, "errors": failed}); err != nil {
			return err
		}
	} else {
		for _, f := range c.findings {
			fmt.Fprintf(a.stdout, "%-5s  %s\n", f.Level, f.Text)
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailed, err: errors.New(countOf(failed, "error"))}
	}
	return nil
}

// admin looks at the token file.
func (c *checkup) admin() {
	if c.config.Admin.TokenFile == "" {
		host, _, _ := net.SplitHostPort(c.config.Admin.Listen) // the configuration's reader has judged it
		if addr, err := netip.ParseAddr(host); c.config.Admin.Listen != "" && host != "localhost" && (err != nil || !addr.IsLoopback()) {
			c.say(sources.LevelWarn, "admin: %s is listened on, but without token_file only this machine is answered", c.config.Admin.Listen)
		}
		return
	}
	if _, err := admin.ReadToken(c.config.Admin.TokenFile); err != nil {
		c.say(sources.LevelError, "%v", err)
		return
	}
	c.say("ok", "admin: the API takes the token in %s", c.config.Admin.TokenFile)
}

// ledger looks whether the ledger can be opened; it makes none.
func (c *checkup) ledger(ctx context.Context) {
	if info, err := os.Stat(c.config.SecretsKeyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		c.say(sources.LevelWarn, "secrets_key_file: every user of this machine may use %s (mode %#o); run: chmod o= %[1]s", c.config.SecretsKeyFile, info.Mode().Perm())
	}
	l, err := c.app.openLedger(ctx, c.config)
	switch {
	case errors.Is(err, ledger.ErrNoLedger):
		path, file := strings.CutPrefix(c.config.Ledger.Reveal(), "sqlite:")
		folder := filepath.Dir(path)
		if _, err := os.Stat(folder); file && errors.Is(err, fs.ErrNotExist) {
			c.say(sources.LevelError, "ledger: there is no folder %s to make it in; make that, or name another place in ledger:", folder)
			return
		}
		c.say("ok", "ledger: not there yet; serve or run-now makes it")
	case err != nil:
		c.say(sources.LevelError, "ledger: %v", err)
	default:
		c.say("ok", "ledger: opened")
		if set, err := l.Webhooks(ctx); err != nil {
			c.say(sources.LevelError, "ledger: %v", err)
		} else {
			c.known = set.Webhooks
			c.webhooks = slices.Clone(c.webhooks)
			for _, w := range set.Webhooks {
				if w.Origin == "" && w.State != jobs.Disabled {
					c.webhooks = append(c.webhooks, w)
				}
			}
		}
		if err := l.Close(); err != nil {
			c.say(sources.LevelError, "ledger: %v", err)
		}
	}
}

func (c *checkup) source(ctx context.Context) {
	db, err := sources.Open(ctx, c.config.Source.Reveal(), sources.Options{})
	if err != nil {
		c.say(sources.LevelError, "source: %v", err)
		return
	}
	defer db.Close()
	sink, err := newSink(c.config)
	if err != nil {
		c.say(sources.LevelError, "http: %v", err)
		return
	}
	defer sink.Close()
	c.webhookSource(ctx, db)
	missing := 0
	for _, s := range c.config.Streams {
		stream, err := db.Stream(ctx, streamConfig(s))
		if s.Optional && sources.IsMissing(err) && missing < len(c.config.Streams)-1 {
			missing++
			c.say(sources.LevelWarn, "%v; left out, as one of the two default streams may be", err)
			continue
		}
		found, checkErr := db.Check(ctx, streamConfig(s))
		unfit := checkErr != nil
		for _, f := range found {
			c.say(f.Level, "%s", f.Text)
			unfit = unfit || f.Level == sources.LevelError
		}
		if checkErr != nil {
			c.say(sources.LevelError, "stream %s: %s", s.Type, strings.TrimPrefix(checkErr.Error(), "stream "+s.Type+": "))
		}
		if err == nil && !unfit { // else the rows fail for the same reason once more
			c.rows(ctx, stream, sink)
		}
		if err == nil {
			c.wakes(ctx, stream)
		}
		if s.Deleted != "" {
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
	for _, id := range sortedKeys(lines) {
		wrong = append(wrong, "row "+id+": "+oneLine(lines[id]))
	}
	return right, wrong
}

// rows tries to encode a stream's latest rows for each webhook that wants them.
func (c *checkup) rows(ctx context.Context, stream *sources.Stream, sink *sinks.HTTP) {
	records, err := stream.Latest(ctx, checkRows)
	if err != nil {
		c.say(sources.LevelError, "stream %s: latest rows: %v", stream.Type(), err)
		return
	}
	rows, wanted, bad := 0, 0, 0
	for i := range records {
		rec := &records[i]
		before := wanted
		for j := range c.webhooks {
			w := &c.webhooks[j]
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
			if bad++; bad <= 5 { // the rest are likely the same
				c.say(sources.LevelError, "stream %s: row %s for webhook %s: %v", rec.Type, rec.Row, w.ID, err)
			}
		}
		if wanted > before {
			rows++
		}
	}
	switch {
	case bad > 0:
		c.say(sources.LevelError, "stream %s: %d of the latest %d records cannot be sent", stream.Type(), bad, wanted)
	case wanted == 0 && len(records) > 0:
		c.say(sources.LevelWarn, "stream %s: none of its latest %d rows is of a chatbot that a webhook names", stream.Type(), len(records))
	default:
		c.say("ok", "stream %s: cursor %s; %d of the latest %d rows are wanted and can be sent", stream.Type(), stream.Cursor(), rows, len(records))
	}
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
	for _, dialect := range sortedKeys(untold) {
		c.say(sources.LevelWarn, "stream %s: deleted: dialect %s has no word for a row that is gone, so its webhooks are not told", typ, dialect)
	}
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

// urls looks whether each webhook's host has an address that may be reached. Nothing is sent.
func (c *checkup) urls(ctx context.Context) {
	open := c.config.HTTP.AllowPrivate || len(c.config.HTTP.AllowCIDRs) > 0 || c.config.HTTP.Proxy != ""
	known := map[string]error{}
	for _, w := range c.webhooks {
		u, err := sinks.ParseURL(w.URL, c.config.HTTP.AllowHTTP)
		if err != nil {
			c.say(sources.LevelError, "webhook %s: %v", w.ID, err)
			continue
		}
		err, seen := known[u.Hostname()]
		if !seen {
			err = reachable(ctx, u, open)
			known[u.Hostname()] = err
		}
		if err != nil {
			c.say(sources.LevelError, "webhook %s: %s: %v", w.ID, jobs.MaskedURL(w.URL), err)
			continue
		}
		c.say("ok", "webhook %s: %s", w.ID, jobs.MaskedURL(w.URL))
	}
}

// reachable resolves a host; open: private addresses may be allowed.
func reachable(ctx context.Context, u *url.URL, open bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	var fault *net.DNSError
	if errors.As(err, &fault) {
		return fmt.Errorf("its host does not resolve: %s", fault.Err)
	}
	if err != nil {
		return errors.New("its host does not resolve")
	}
	for _, address := range addresses {
		if open || public(address.Unmap()) {
			return nil
		}
	}
	return errors.New("its host has only private addresses; http.allow_cidrs or http.allow_private opens them")
}

// public is a first look; what may be dialled is decided when it is.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}
