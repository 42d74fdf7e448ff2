package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sources"
)

// environment is where references in the configuration are looked up.
func environment() config.Env {
	return config.Env{Lookup: os.LookupEnv, ReadFile: os.ReadFile, CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY")}
}

// loadConfig finds, reads and checks the configuration, and expands the references of these keys (none named: all).
func (a *app) loadConfig(keys ...string) (*config.Resolved, error) {
	path, err := config.Find(a.configPath, environment())
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	c, err := config.Load(path, configOptions())
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	resolved, err := c.Resolve(environment(), keys...)
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	if len(keys) > 0 && !slices.Contains(keys, "webhooks") {
		return resolved, nil
	}
	var mistakes []error
	wrong := checkSharedKeys(resolved.Dialects, resolved.Webhooks)
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		mistakes = append(mistakes, fmt.Errorf("%s: webhooks[%d].sign_key_of: %w", path, i, wrong[i]))
	}
	if len(mistakes) > 0 {
		return nil, &exitError{code: exitUsage, err: errors.Join(mistakes...)}
	}
	return resolved, nil
}

// configOptions are the parts of the program that know what a configuration may say.
func configOptions() config.Options {
	return config.Options{Schedule: func(spec, zone string) error { _, err := jobs.ParseSchedule(spec, zone); return err }}
}

// checkSharedKeys says, by their index, which webhooks cannot sign with the key of the other that they name. Others that
// are not among them are in the ledger, if anywhere.
func checkSharedKeys(dialects *sinks.Registry, webhooks []jobs.Webhook) map[int]error {
	byID := map[string]*jobs.Webhook{}
	for i := range webhooks {
		byID[webhooks[i].ID] = &webhooks[i]
	}
	wrong := map[int]error{}
	for i, w := range webhooks {
		owner := byID[w.SignKeyOf]
		if w.SignKeyOf == "" || owner == nil {
			continue
		}
		key := owner.SignKey
		if key == "" && dialects.NeedsKey(owner.Dialect) {
			key = dialects.NewKey(owner.Dialect) // as the one that it will be given
		}
		if key == "" {
			wrong[i] = fmt.Errorf("names %s, which has no key: its dialect, %s, needs none; give it a sign_key", owner.ID, owner.Dialect)
		} else if err := dialects.CheckKey(w.Dialect, key); err != nil {
			wrong[i] = fmt.Errorf("the key of %s: %w", owner.ID, err)
		}
	}
	return wrong
}

// parts are what a configuration is made of, opened.
type parts struct {
	config  *config.Resolved
	ledger  *ledger.Ledger
	tables  *sources.Database
	streams []jobs.Source // of tables, one a stream
	missing []error       // default streams that have no table
	sink    *sinks.HTTP
}

// open opens everything that gathering and pushing need. A database that is away is waited for, at most patience
// (0: as long as ctx lasts).
func (a *app) open(ctx context.Context, c *config.Resolved, patience time.Duration) (p *parts, err error) {
	p = &parts{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.sink, err = newSink(c); err != nil {
		return p, err
	}
	if err = a.awaitSource(ctx, p, patience); err != nil {
		return p, err
	}
	for _, err := range p.missing {
		a.log.Warn("a default stream is left out", "error", err)
	}
	p.ledger, err = a.createLedger(ctx, c, patience)
	return p, err
}

// awaitSource opens the source and its streams, waiting for it where it is away.
func (a *app) awaitSource(ctx context.Context, p *parts, patience time.Duration) error {
	err := a.await(ctx, jobs.TheSource, patience, p.openSource)
	if err != nil {
		return fmt.Errorf("open the source: %w", err)
	}
	return nil
}

// openSource opens the source and its streams. Of the two default streams one may be without its table.
func (p *parts) openSource(ctx context.Context) error {
	db, err := sources.Open(ctx, p.config.Source.Reveal(), sources.Options{})
	if err != nil {
		return err
	}
	var streams []jobs.Source
	var missing []error
	for _, s := range p.config.Streams {
		stream, err := db.Stream(ctx, streamConfig(s, p.config.Push))
		switch {
		case err == nil:
			streams = append(streams, stream)
		case s.Optional && sources.IsMissing(err):
			missing = append(missing, err)
		default:
			return errors.Join(err, db.Close())
		}
	}
	if len(streams) == 0 {
		return errors.Join(append(missing, db.Close())...)
	}
	p.tables, p.streams, p.missing = db, streams, missing
	return nil
}

// Close closes the databases and idle connections.
func (p *parts) Close() error {
	var errs []error
	if p.tables != nil {
		errs = append(errs, p.tables.Close())
	}
	if p.ledger != nil {
		errs = append(errs, p.ledger.Close())
	}
	if p.sink != nil {
		p.sink.Close()
	}
	return errors.Join(errs...)
}

// runner makes the runner of these parts.
func (p *parts) runner(a *app, patience time.Duration) *jobs.Runner {
	return jobs.NewRunner(p.options(a, patience))
}

// server makes the runner of a daemon.
func (p *parts) server(a *app) (*jobs.Runner, error) {
	o := p.options(a, 0)
	if text := p.config.Reconcile.Schedule; text != "" {
		at, err := jobs.ParseSchedule(text, p.config.Timezone)
		if err != nil {
			return nil, usageErrorf("%s: reconcile.schedule: %w", p.config.Path, err)
		}
		o.ReconcileAt, o.ReconcileDays = at, p.config.Reconcile.Days
	}
	return jobs.NewRunner(o), nil
}

func (p *parts) options(a *app, patience time.Duration) jobs.Options {
	return jobs.Options{
		Ledger: p.ledger, Sources: p.streams, Sink: p.sink, Log: a.log, Unavailable: lost, Refused: refused,
		Workers: p.config.Push.Workers, PerWebhook: p.config.Push.PerWebhook,
		GiveUpAfter: p.config.GiveUpAfter, Retention: p.config.Retention,
		Patience: patience, Grace: p.config.HTTP.Timeout + 5*time.Second,
		Ask: p.working, Drop: p.drop,
	}
}

// working asks a database, as jobs.Options.Ask.
func (p *parts) working(ctx context.Context, database string) (work string, err error) {
	if database != jobs.TheSource {
		if work, err = p.ledger.Working(ctx); err != nil || work != "" || database == jobs.TheLedger {
			return work, err
		}
	}
	return p.tables.Working(ctx)
}

// drop gives up connections, as jobs.Options.Drop.
func (p *parts) drop(database string, then time.Time) (dropped int) {
	if database != jobs.TheSource {
		dropped = p.ledger.Drop(then)
	}
	if database != jobs.TheLedger {
		dropped += p.tables.Drop(then)
	}
	return dropped
}

// provision brings the configuration's webhooks into the ledger, and says what changed.
func (p *parts) provision(ctx context.Context, a *app, patience time.Duration) error {
	var did jobs.Provisioned
	err := a.await(ctx, "a database", patience, func(ctx context.Context) (err error) {
		did, err = jobs.Provisioning{
			Ledger: p.ledger, Sources: p.streams, Origin: p.config.Path, Desired: p.config.Webhooks,
			NewKey: p.config.Dialects.NewKey, Signs: p.config.Dialects.NeedsKey, Fits: p.config.Dialects.Fits,
		}.Run(ctx)
		return err
	})
	if errors.Is(err, jobs.ErrSignKeyOf) || errors.Is(err, jobs.ErrTaken) {
		return p.mistakes(err)
	}
	if err != nil {
		return err
	}
	for what, ids := range map[string][]string{
		"webhook entered": did.Entered, "webhook changed": did.Changed,
		"webhook disabled: it is gone from the configuration": did.Disabled, "webhook enabled: it is in the configuration again": did.Enabled,
		"from of a known webhook was changed, which changes nothing; leadrelay backfill sends older rows": did.FromKept,
	} {
		for _, id := range ids {
			a.log.Info(what, "webhook", id)
		}
	}
	return nil
}

// mistakes makes a usage error of what is wrong with the configuration's webhooks, each in a line that names the file.
func (p *parts) mistakes(err error) error {
	return &exitError{code: exitUsage, err: errors.New(p.config.Path + ": " + strings.ReplaceAll(err.Error(), "\n", "\n"+p.config.Path+": "))}
}

// await calls f until it succeeds or fails for another reason than that a database is away.
func (a *app) await(ctx context.Context, what string, patience time.Duration, f func(context.Context) error) error {
	return jobs.Await(ctx, a.log, what, unavailable, patience, f)
}

// unavailable reports whether waiting may mend err. A file that is not there, or may not be opened, is no database that
// is away, though its error has a network error's methods.
func unavailable(err error) bool {
	if _, file := errors.AsType[*fs.PathError](err); file {
		return false
	}
	return sources.IsUnavailable(err) || ledger.IsUnavailable(err)
}

// lost is unavailable for who had the databases at work already: one that lets nobody in any more, its password changed
// or its file moved, will be as it was before or as it is to be, and until then there is nothing else to do.
func lost(err error) bool {
	return unavailable(err) || sources.IsBarred(err) || ledger.IsBarred(err)
}

// refused reports whether a database is there, and refuses what it is asked for.
func refused(err error) bool { return lost(err) && !unavailable(err) }

// newSink makes the sink that http: describes. What is wrong with the files that it names is a usage error.
func newSink(c *config.Resolved) (*sinks.HTTP, error) {
	h := c.HTTP
	o := sinks.Options{
		Timeout: h.Timeout, AllowHTTP: h.AllowHTTP, AllowPrivate: h.AllowPrivate,
		CAFile: h.CAFile, ClientCertFile: h.ClientCertFile, ClientKeyFile: h.ClientKeyFile, Proxy: h.Proxy.Reveal(),
		PerHost: c.Push.Workers, Version: version, Dialects: c.Dialects, MaxBody: c.Push.MaxBody,
	}
	for _, text := range h.AllowCIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		o.AllowCIDRs = append(o.AllowCIDRs, prefix)
	}
	sink, err := sinks.New(o)
	if err != nil {
		return nil, usageErrorf("%s: http.%w", c.Path, err)
	}
	return sink, nil
}

func streamConfig(s config.Stream, push config.Push) sources.Config {
	c := sources.Config{
		Type: s.Type, Table: s.Table, Query: s.Query, ID: s.ID, Chatbot: s.Chatbot, Created: s.Created,
		Updated: s.Updated, Deleted: s.Deleted, CreatedZone: s.CreatedZone, Where: s.Where, Settle: s.Settle, Cursor: string(s.Cursor),
		GapKeep: s.GapKeep, Lookback: s.Lookback, MaxBody: push.MaxBody,
	}
	for _, f := range s.Fields {
		c.Fields = append(c.Fields, sources.Mapping{Name: f.Name, Column: f.Column, JSON: f.JSON, Const: f.Const})
	}
	return c
}

// openLedger opens a ledger that is there, for commands that make none, and waits for it where it is away.
func (a *app) openLedger(ctx context.Context, c *config.Resolved) (*ledger.Ledger, error) {
	return a.awaitLedger(ctx, c, commandPatience, ledger.Options{})
}

// withLedger runs f with the ledger that is there, for commands that need no more; keys are what else they need of the
// configuration.
func (a *app) withLedger(ctx context.Context, f func(*parts) error, keys ...string) (err error) {
	p := &parts{}
	if p.config, err = a.loadConfig(append(keys, "ledger", "secrets_key_file")...); err != nil {
		return err
	}
	if p.ledger, err = a.openLedger(ctx, p.config); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return f(p)
}

// withBoth is withLedger for commands that need the source's streams, too.
func (a *app) withBoth(ctx context.Context, f func(*parts) error, keys ...string) error {
	return a.withLedger(ctx, func(p *parts) error {
		if err := a.awaitSource(ctx, p, commandPatience); err != nil {
			return err
		}
		return f(p)
	}, append(keys, "source", "streams")...)
}

// createLedger opens the ledger, and makes it where it is not there yet. Where it is away it is waited for.
func (a *app) createLedger(ctx context.Context, c *config.Resolved, patience time.Duration) (*ledger.Ledger, error) {
	l, err := a.awaitLedger(ctx, c, patience, ledger.Options{Create: true})
	if err == nil && l.Created() {
		where, _ := strings.CutPrefix(c.Ledger.Reveal(), "sqlite:")
		if where == c.Ledger.Reveal() {
			where = "in the ledger's PostgreSQL database"
		}
		a.log.Info("there was no ledger, a new one was made: it knows nothing of what was sent before", "ledger", where)
	}
	return l, err
}

func (a *app) awaitLedger(ctx context.Context, c *config.Resolved, patience time.Duration, o ledger.Options) (l *ledger.Ledger, err error) {
	err = a.await(ctx, jobs.TheLedger, patience, func(ctx context.Context) (err error) {
		l, err = a.ledgerWith(ctx, c, o)
		return err
	})
	return l, err
}

func (a *app) ledgerWith(ctx context.Context, c *config.Resolved, o ledger.Options) (l *ledger.Ledger, err error) {
	if o.SecretsKeys, err = secretsKeys(c); err != nil {
		return nil, err
	}
	if l, err = ledger.Open(ctx, c.Ledger.Reveal(), o); err != nil {
		return nil, a.ledgerError(err)
	}
	return l, nil
}

// secretsKeys reads the keys that seal secrets in the ledger; none where the configuration names no file.
func secretsKeys(c *config.Resolved) (ledger.SecretsKeys, error) {
	if c.SecretsKeyFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.SecretsKeyFile)
	if err != nil {
		return nil, usageErrorf("secrets_key_file: %w", err)
	}
	keys, err := ledger.ParseSecretsKeys(string(text))
	if err != nil {
		return nil, usageErrorf("secrets_key_file %s: %w", c.SecretsKeyFile, err)
	}
	return keys, nil
}

// ledgerError words a ledger that did not open, with the line that works where there is one.
func (a *app) ledgerError(err error) error {
	var owner *ledger.OwnerError
	if errors.As(err, &owner) {
		return fmt.Errorf("the ledger %s belongs to the user %s; run: sudo -u %[2]s %s", owner.Path, owner.Owner, commandLine(os.Args))
	}
	if strings.HasPrefix(err.Error(), "open the ledger: ") {
		return err
	}
	return fmt.Errorf("open the ledger: %w", err)
}
