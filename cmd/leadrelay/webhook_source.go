package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// rowsPatience bounds one look at webhook_source, so that a query that hangs on a lock is said and asked again.
const rowsPatience = time.Minute

// A webhookSource keeps the ledger's webhooks as the platform's own table has them. One goroutine at a time uses it.
type webhookSource struct {
	app    *app
	parts  *parts
	reader *rowReader
	said   map[string]string // by webhook: what was logged of its row
	failed string            // what was logged of the query or a database; "" where the last look succeeded
	// Where the rows and the generation of the ledger's webhooks are these, there is nothing to do.
	settled    bool
	sum        uint64
	rows       int
	generation jobs.Generation
}

func (p *parts) webhookSource(a *app) *webhookSource {
	return &webhookSource{app: a, parts: p, reader: newRowReader(p.config), said: map[string]string{}}
}

// queryRows asks webhook_source and reads its rows; none where the configuration has no webhook_source.
func (p *parts) queryRows(ctx context.Context, r *rowReader) ([]webhookRow, error) {
	if p.config.Rows == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rowsPatience)
	defer cancel()
	rows, err := p.tables.Query(ctx, p.config.Rows.Query, maxRows)
	if err != nil {
		return nil, fmt.Errorf("webhook_source: %w", err)
	}
	read, err := r.read(rows)
	if err != nil {
		return nil, fmt.Errorf("webhook_source: %w", err)
	}
	return read, nil
}

// look brings what the table says now into the ledger. The error is one of a database or of the query; then nothing
// was changed. A row that is wrong is logged, once while it stays so, and its webhook stays as it is.
func (s *webhookSource) look(ctx context.Context) error {
	generation, err := s.parts.ledger.Generation(ctx)
	if err != nil {
		return fmt.Errorf("webhook_source: %w", err)
	}
	rows, err := s.parts.queryRows(ctx, s.reader)
	if err != nil {
		return err
	}
	var sum uint64
	for i := range rows {
		sum += rows[i].sum // in any order
	}
	if s.settled && sum == s.sum && len(rows) == s.rows && generation == s.generation {
		return nil
	}
	wrong, kept := map[string]error{}, map[string]bool{}
	var desired []jobs.Webhook
	for i := range rows {
		if rows[i].err != nil {
			wrong[rows[i].id], kept[rows[i].id] = rows[i].err, true
			continue
		}
		desired = append(desired, rows[i].webhook)
	}
	dialects := s.parts.config.Dialects
	did, err := jobs.Provisioning{
		Ledger: s.parts.ledger, Sources: s.parts.streams, Origin: jobs.RowsOf(s.parts.config.Path), Gone: jobs.ReasonNotRow,
		Desired: desired, Kept: kept, Rows: true, NewKey: dialects.NewKey, Signs: dialects.NeedsKey, Fits: dialects.Fits,
	}.Run(ctx)
	if err != nil {
		return fmt.Errorf("webhook_source: %w", err)
	}
	for id, err := range did.Refused {
		wrong[id] = err
	}
	s.tell(did, wrong, len(rows))
	// What this look changed moved the generation on: the next one finds nothing to do, and is then believed.
	s.settled, s.sum, s.rows, s.generation = true, sum, len(rows), generation
	return nil
}

// tell logs what a look did: webhooks by their ids, the first few of many.
func (s *webhookSource) tell(did jobs.Provisioned, wrong map[string]error, rows int) {
	log := s.app.log
	for what, ids := range map[string][]string{
		"webhooks entered from webhook_source": did.Entered, "webhooks changed as webhook_source says": did.Changed,
		"webhooks enabled: they are in webhook_source again": did.Enabled,
	} {
		if len(ids) > 0 {
			log.Info(what, "count", len(ids), "webhooks", fewOf(ids))
		}
	}
	if len(did.Disabled) > 0 {
		log.Warn("webhooks disabled: they are gone from webhook_source; they gather, and send again when they are back",
			"count", len(did.Disabled), "rows", rows, "webhooks", fewOf(did.Disabled))
	}
	said, more := map[string]string{}, 0
	for _, id := range slices.Sorted(maps.Keys(wrong)) {
		text := oneLine(wrong[id])
		said[id] = text
		if s.said[id] == text {
			continue
		}
		if more++; more <= 20 {
			log.Warn("a row of webhook_source is wrong; its webhook stays as it is", "webhook", id, "error", text)
		}
	}
	if more > 20 {
		log.Warn("more rows of webhook_source are wrong; leadrelay check names them", "count", more-20)
	}
	s.said = said
	for _, id := range did.FromKept {
		log.Debug("from of a known webhook was changed in webhook_source, which changes nothing", "webhook", id)
	}
}

// fewOf is a list as a log line has room for.
func fewOf(ids []string) string {
	const few = 10
	if len(ids) > few {
		return strings.Join(ids[:few], " ") + " …"
	}
	return strings.Join(ids, " ")
}

// oneLine words an error, which may be several, for one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// desired are the configuration's webhooks and webhook_source's as a run would enter them; an error where it would enter
// none of the configuration's.
func (a *app) desired(ctx context.Context, p *parts) ([]jobs.Webhook, error) {
	rows, err := p.queryRows(ctx, newRowReader(p.config))
	if err != nil {
		return nil, err
	}
	others := map[string]bool{} // of the ledger's webhooks
	if p.ledger != nil {
		set, err := p.ledger.Webhooks(ctx)
		if err != nil {
			return nil, err
		}
		file := jobs.Provisioning{Origin: p.config.Path, Desired: p.config.Webhooks}
		if err := file.Taken(set.Webhooks); err != nil {
			return nil, p.mistakes(err)
		}
		for _, w := range set.Webhooks {
			others[w.ID] = w.Origin != jobs.RowsOf(p.config.Path)
		}
	}
	desired := slices.Clone(p.config.Webhooks)
	for i := range rows {
		switch {
		case rows[i].err != nil:
			a.log.Warn("a row of webhook_source is wrong", "webhook", rows[i].id, "error", oneLine(rows[i].err))
		case !others[rows[i].id]:
			desired = append(desired, rows[i].webhook)
		}
	}
	return desired, nil
}

// first looks once, when the webhooks of the configuration are in the ledger. A configuration without webhook_source
// lets go of what an earlier one entered by it.
func (s *webhookSource) first(ctx context.Context, patience time.Duration) error {
	return s.app.await(ctx, "a database", patience, func(ctx context.Context) error {
		if s.parts.config.Rows == nil {
			set, err := s.parts.ledger.Webhooks(ctx)
			origin := jobs.RowsOf(s.parts.config.Path)
			if err != nil || !slices.ContainsFunc(set.Webhooks, func(w jobs.Webhook) bool { return w.Origin == origin && w.State != jobs.Disabled }) {
				return err
			}
		}
		return s.look(ctx)
	})
}

// run looks every so often until ctx ends. A database that is away is waited for.
func (s *webhookSource) run(ctx context.Context, loop *jobs.Loop) {
	tick := time.NewTicker(s.parts.config.Rows.Every)
	defer tick.Stop()
	for {
		loop.Pause(s.parts.config.Rows.Every)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := jobs.Await(ctx, s.app.log, "a database that webhook_source needs", lost, 0, s.look)
		if ctx.Err() != nil {
			return
		}
		s.ended(err)
	}
}

// ended says how a look ended: a failure once while it stays the same.
func (s *webhookSource) ended(err error) {
	text := ""
	if err != nil {
		text = oneLine(err)
	}
	switch {
	case text == s.failed:
	case text == "":
		s.app.log.Info("webhook_source is read again")
	default:
		s.app.log.Error("webhook_source cannot be read; its webhooks stay as they are", "error", text)
	}
	s.failed = text
}

// A watch is a webhookSource at work in the background, which can be told to stand still.
type watch struct {
	source *webhookSource
	runner *jobs.Runner // under whose vigil it is
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// resume begins the looking, where there is something to look at.
func (w *watch) resume() {
	if w.source.parts.config.Rows == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	ctx, loop := w.runner.Watch(ctx, "the reading of webhook_source")
	w.done.Go(func() {
		defer loop.End()
		w.source.run(ctx, loop)
	})
}

// pause ends the looking, and returns when it has ended.
func (w *watch) pause() {
	if w.stop != nil {
		w.stop()
		w.done.Wait()
		w.stop = nil
	}
}
