package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
)

const (
	reloadPatience = 10 * time.Second // a reload that finds a database away is refused after this
	stalledAfter   = time.Minute      // loops that stand still this long have stopped
	refusedAfter   = 5 * time.Minute  // a database that refuses everything for so long needs somebody
)

func newServeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: gather on schedule and at once, push, retry",
		Long: `Run the daemon. SIGTERM or SIGINT: take no more, let requests under way end, record them, exit 0;
exit 1 where the ledger is away and they could not be recorded: these records are sent again. A second signal ends it
at once.
SIGHUP: read the configuration again; a bad one is refused and the old one goes on.

Every night it holds the source against the ledger, as leadrelay reconcile does (reconcile in the configuration).`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

// A serving is one configuration at work.
type serving struct {
	parts  *parts
	access admin.Authenticator // of the token that may do everything; nil: there are no tokens
	runner *jobs.Runner
	rows   *watch // webhook_source
	stop   context.CancelFunc
	ended  chan error // gets what Serve returned
}

func (a *app) serve(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	system := newSystemd(a.log)
	opened := system.extendStart("opening the databases")
	current, err := a.begin(ctx, 0)
	opened()
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return err
	}
	listener, err := admin.Listen(current.parts.config.Admin.Listen, a.log)
	if err != nil {
		return errors.Join(err, current.end(noAPI))
	}
	defer listener.Close()
	listener.Watch(current.health)
	listener.Use(current.api(a.log))
	watch := system.watch(listener.Health)
	defer watch()
	system.ready()
	a.log.Info("serving", "version", version, "config", current.parts.config.Path, "webhooks", len(current.parts.config.Webhooks))
	var draining sync.WaitGroup // old configurations' runners; meanwhile this one listens
	defer draining.Wait()
	for {
		select {
		case <-ctx.Done():
			a.log.Info("stopping: requests under way are let to end")
			system.stopping()
			return current.end(listener.Use(nil))
		case err := <-current.ended:
			current.ended <- err
			return errors.Join(errors.New("the runner ended by itself"), current.end(listener.Use(nil)))
		case <-hup:
			system.reloading()
			current.rows.pause() // what the new configuration's table says is not to be undone by the old one's
			next, err := a.begin(ctx, reloadPatience)
			if err != nil {
				current.rows.resume()
				a.log.Error("the new configuration was refused, the old one goes on", "error", err)
				system.ready()
				continue
			}
			old := current
			current = next
			listener.Watch(next.health)
			answered := listener.Use(next.api(a.log))
			if old.parts.config.Admin.Listen != next.parts.config.Admin.Listen {
				a.log.Warn("admin.listen changes at the next restart")
			}
			system.ready()
			a.log.Info("the configuration was read again", "webhooks", len(next.parts.config.Webhooks))
			draining.Go(func() {
				if err := old.end(answered); err != nil {
					a.log.Error("the old configuration's runner did not end well", "error", err)
				}
			})
		}
	}
}

// begin reads the configuration and puts it to work; it returns when its loops run. The daemon's old runner, if there
// is one, may go on beside it: they share the ledger as two daemons do.
func (a *app) begin(ctx context.Context, patience time.Duration) (*serving, error) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	access, err := accessOf(c)
	if err != nil {
		return nil, err
	}
	p, err := a.open(ctx, c, patience)
	if err != nil {
		return nil, err
	}
	if err := p.provision(ctx, a, patience); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	rows := p.webhookSource(a)
	if err := rows.first(ctx, patience); err != nil {
		if patience > 0 || ctx.Err() != nil { // a reload, which is refused
			return nil, errors.Join(err, p.Close())
		}
		rows.ended(err) // what the ledger has is served all the same
	}
	runner, err := p.server(a)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	// The runner ends when it is told to, not with ctx: serve tells it.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &serving{
		parts: p, access: access, runner: runner, rows: &watch{source: rows, runner: runner}, stop: stop, ended: make(chan error, 1),
	}
	ready := make(chan struct{})
	go func() { s.ended <- s.runner.Serve(working, func() { close(ready) }) }()
	select {
	case <-ready:
		s.rows.resume()
		return s, nil
	case err := <-s.ended:
		s.ended <- err
		return nil, errors.Join(fmt.Errorf("start: %w", err), s.end(noAPI))
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.end(noAPI))
	}
}

func noAPI() {}

// accessOf knows the token of admin.token_file; nil where there is none.
func accessOf(c *config.Resolved) (admin.Authenticator, error) {
	if c.Admin.TokenFile == "" {
		return nil, nil
	}
	token, err := admin.ReadToken(c.Admin.TokenFile)
	if err != nil {
		return nil, usageErrorf("%s: %w", c.Path, err)
	}
	return token, nil
}

// api is the HTTP API on this configuration's parts.
func (s *serving) api(log *slog.Logger) *admin.API {
	access := s.access
	if access != nil {
		access = callers{all: access, tokens: s.parts.ledger}
	}
	return admin.NewAPI(admin.Options{
		Desk: func(chatbot string) admin.Desk { return desk{parts: s.parts, chatbot: chatbot, runner: s.runner} },
		Auth: access, Listen: s.parts.config.Admin.Listen, Unavailable: lost, Log: log, Version: version,
		PushTimeout: s.parts.config.HTTP.Timeout,
	})
}

// health is what the watchdog and /healthz ask.
func (s *serving) health() admin.Health {
	return admin.Health{Stalled: s.runner.Stalled(stalledAfter), Refused: s.runner.Refused(refusedAfter), Awaited: s.runner.Awaited()}
}

// end drains the runner and closes its parts, when answered has returned: those have been answered then who asked an API
// that works with them.
func (s *serving) end(answered func()) error {
	s.rows.pause()
	s.stop()
	err := <-s.ended
	answered()
	return errors.Join(err, s.parts.Close())
}

// waitingFor words what Awaited returns.
func waitingFor(awaited []string) string {
	if len(awaited) == 0 {
		return "running"
	}
	return "waiting for " + strings.Join(awaited, " and ")
}
