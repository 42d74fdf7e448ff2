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
	sink, err := newSink(resolved)
	if err != nil {
		c.say(sources.LevelError, "%v", err)
	} else {
		defer sink.Close()
	}
	c.source(ctx, sink)
	if sink != nil {
		c.urls(ctx, sink)
	}
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
			fmt.Fprintf(a.stdout, "%-5s  %s\n", f.Level, shown(f.Text))
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
	l, err := c.app.ledgerWith(ctx, c.config, ledger.Options{}) // a database that is away is one of the problems
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
			c.taken()
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

// taken looks whether the ledger has other webhooks of the configuration's ids.
func (c *checkup) taken() {
	err := jobs.Provisioning{Origin: c.config.Path, Desired: c.config.Webhooks}.Taken(c.known)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			c.say(sources.LevelError, "%s", line)
		}
	}
}

// urls looks whether each webhook's host has an address that may be reached. Nothing is sent.
func (c *checkup) urls(ctx context.Context, sink *sinks.HTTP) {
	reached, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := sink.CheckProxy(reached); err != nil {
		c.say(sources.LevelError, "%s: http.%v", c.config.Path, err)
	}
	known := map[string]error{}
	for _, w := range c.webhooks {
		u, err := sinks.ParseURL(w.URL, c.config.HTTP.AllowHTTP)
		if err != nil {
			c.say(sources.LevelError, "webhook %s: %v", w.ID, err)
			continue
		}
		err, seen := known[u.Hostname()]
		if !seen {
			err = reachable(ctx, sink, u)
			known[u.Hostname()] = err
		}
		if err != nil {
			c.say(sources.LevelError, "webhook %s: %s: %v", w.ID, jobs.MaskedURL(w.URL), err)
			continue
		}
		c.say("ok", "webhook %s: %s", w.ID, jobs.MaskedURL(w.URL))
	}
}

func reachable(ctx context.Context, sink *sinks.HTTP, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return sink.Reachable(ctx, u)
}
