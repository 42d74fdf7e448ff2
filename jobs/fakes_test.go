package jobs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
)

// A table is a source in memory whose bookmarks are row numbers. What real sources promise of concurrent writers is
// tested with them; here rows only come at the end.
//
// Where it is versioned, a changed row comes again at the end, with the number it has there as its version.
type table struct {
	typ       string
	settle    time.Duration
	versioned bool
	hold      time.Duration
	atOnce    int // rows that Read gives; 0: all

	mu   sync.Mutex
	rows []jobs.Record
	gone map[string]bool
	came chan struct{}
	fail func() error // before each read
}

func newTable(typ string) *table {
	return &table{typ: typ, gone: map[string]bool{}, came: make(chan struct{}, 1)}
}

// add appends n rows of a chatbot and returns their keys.
func (s *table) add(chatbot string, n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for range n {
		key := strconv.Itoa(len(s.rows) + 1)
		s.append(jobs.Record{
			Type: s.typ, Row: key, Chatbot: chatbot, Created: time.Now().UTC().Truncate(time.Microsecond), Action: jobs.ActionCreate,
		})
		keys = append(keys, key)
	}
	return keys
}

func (s *table) append(rec jobs.Record) {
	if s.versioned {
		rec.Version, rec.Updated, rec.Hold = strconv.Itoa(len(s.rows)+1), time.Now().UTC().Truncate(time.Microsecond), s.hold
		for i := range s.rows {
			if s.rows[i].Row == rec.Row {
				s.gone[s.rows[i].Row+"/"+s.rows[i].Version] = true
			}
		}
	}
	s.rows = append(s.rows, rec)
	select {
	case s.came <- struct{}{}:
	default:
	}
}

// change changes a row of a versioned table; it returns the version it has now.
func (s *table) change(key string, f func(*jobs.Record)) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.rows) - 1
	for s.rows[i].Row != key {
		i--
	}
	rec := s.rows[i]
	if f != nil {
		f(&rec)
	}
	s.append(rec)
	return s.rows[len(s.rows)-1].Version
}

func (s *table) Type() string       { return s.typ }
func (s *table) Definition() string { return "table" }
func (s *table) Versioned() bool    { return s.versioned }

func (s *table) Settle() time.Duration { return s.settle }

func position(b jobs.Bookmark) int {
	n, _ := strconv.Atoi(string(b))
	return n
}

func bookmark(n int) jobs.Bookmark { return jobs.Bookmark(strconv.Itoa(n)) }

func (s *table) End(context.Context) (jobs.Bookmark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bookmark(len(s.rows)), nil
}

func (s *table) read(from, to, limit int, keep func(*jobs.Record) bool) (jobs.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(); err != nil {
			return jobs.Page{}, err
		}
	}
	page := jobs.Page{Bookmark: bookmark(from)}
	for i := from; i < min(to, len(s.rows)) && len(page.Records) < limit; i++ {
		page.Bookmark = bookmark(i + 1)
		if !s.gone[s.rows[i].Row] && !s.gone[s.rows[i].Row+"/"+s.rows[i].Version] && keep(&s.rows[i]) {
			page.Records = append(page.Records, s.rows[i])
		}
	}
	page.Drained = position(page.Bookmark) >= min(to, len(s.rows))
	return page, nil
}

func (s *table) After(_ context.Context, b jobs.Bookmark, limit int) (jobs.Page, error) {
	return s.read(position(b), 1<<30, limit, func(*jobs.Record) bool { return true })
}

func (s *table) Older(_ context.Context, cursor, until jobs.Bookmark, chatbots []string, since, before time.Time, limit int) (jobs.Page, error) {
	return s.read(position(cursor), position(until), limit, func(r *jobs.Record) bool {
		return (chatbots[0] == jobs.AllChatbots || slices.Contains(chatbots, r.Chatbot)) &&
			(r.Created.IsZero() || !r.Created.Before(since) && (before.IsZero() || r.Created.Before(before)))
	})
}

func (s *table) CountOlder(ctx context.Context, until jobs.Bookmark, chatbots []string, since, before time.Time) (int, error) {
	page, err := s.Older(ctx, "", until, chatbots, since, before, 1<<30)
	return len(page.Records), err
}

func (s *table) Past(b jobs.Bookmark, rec *jobs.Record) (bool, error) {
	n, err := strconv.Atoi(cmp.Or(rec.Version, rec.Row))
	return n > position(b), err
}

func (s *table) Read(_ context.Context, rows []string) (records []jobs.Record, left []string, err error) {
	if n := s.atOnce; n > 0 {
		rows, left = rows[:min(n, len(rows))], rows[min(n, len(rows)):]
	}
	page, err := s.read(0, 1<<30, 1<<30, func(r *jobs.Record) bool { return slices.Contains(rows, r.Row) })
	return page.Records, left, err
}

func (s *table) Keys(since time.Time) jobs.Keys { return &tableKeys{s: s, since: since} }

type tableKeys struct {
	s     *table
	since time.Time
	at    int
}

func (k *tableKeys) Next(_ context.Context, limit int) ([]jobs.Record, error) {
	page, err := k.s.read(k.at, 1<<30, limit, func(r *jobs.Record) bool { return r.Stands().IsZero() || !r.Stands().Before(k.since) })
	if err == nil {
		k.at = position(page.Bookmark)
	}
	return page.Records, err
}

func (s *table) Lag(context.Context, jobs.Bookmark) (time.Duration, error) { return 0, nil }
func (s *table) Describe(b jobs.Bookmark) (string, int)                    { return string(b), 0 }

func (s *table) Wait(ctx context.Context, poll time.Duration) error {
	t := time.NewTimer(poll)
	defer t.Stop()
	select {
	case <-s.came:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// A crm is a sink that records each attempt and answers as told.
type crm struct {
	mu       sync.Mutex
	attempts []attempt
	answer   func(a attempt) error // nil: acknowledged
	reject   func(rec *jobs.Record) bool
	blanks   int // behind each body
}

type attempt struct {
	at            time.Time
	webhook, body string
	number        int
}

func (c *crm) Encode(_ *jobs.Webhook, rec *jobs.Record, _ time.Time) ([]byte, error) {
	if c.reject != nil && c.reject(rec) {
		return nil, fmt.Errorf("%w: SessionID is no integer", jobs.ErrEncode)
	}
	body := rec.Type + " " + rec.Row
	if rec.Version != "" {
		body += " " + rec.Action + " " + rec.Version
	}
	return []byte(body + strings.Repeat(" ", c.blanks)), nil
}

func (c *crm) Push(ctx context.Context, req jobs.Request) (jobs.Answer, error) {
	a := attempt{at: time.Now(), webhook: req.Webhook.ID, body: strings.TrimRight(string(req.Body), " "), number: req.Attempt}
	c.mu.Lock()
	c.attempts = append(c.attempts, a)
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		if err := answer(a); err != nil {
			return jobs.Answer{}, err
		}
	}
	return jobs.Answer{Status: 200, Word: "success"}, ctx.Err()
}

func (c *crm) Event(dialect, typ, action string) (string, bool) {
	if dialect == "events" {
		return typ + "." + action, true
	}
	return "", action != jobs.ActionRemove
}

func (c *crm) OneRound(dialect string) bool { return dialect == "one round" }

// got returns how often each body came to a webhook.
func (c *crm) got(webhook string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[string]int{}
	for _, a := range c.attempts {
		if a.webhook == webhook {
			n[a.body]++
		}
	}
	return n
}

// times returns when a webhook's attempts began, after start.
func (c *crm) times(webhook string, start time.Time) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var at []time.Duration
	for _, a := range c.attempts {
		if a.webhook == webhook {
			at = append(at, a.at.Sub(start).Round(time.Second))
		}
	}
	return at
}

func refuse(attempt) error { return &jobs.RefusedError{Status: 200, Reason: "ack_mismatch"} }

// once is what got returns where each of these rows came once.
func once(typ string, rows ...string) map[string]int {
	n := map[string]int{}
	for _, row := range rows {
		n[typ+" "+row] = 1
	}
	return n
}

// A bench is a ledger, a table and a CRM to run things on.
type bench struct {
	t      testing.TB
	ledger *ledger.Ledger
	leads  *table
	crm    *crm
	hooks  []jobs.Webhook
}

func newBench(t testing.TB, hooks ...jobs.Webhook) *bench {
	t.Helper()
	b := &bench{t: t, leads: newTable("Lead"), crm: &crm{}, hooks: hooks}
	l, err := ledger.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Create: true, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	b.ledger = l
	b.provision(hooks...)
	return b
}

func (b *bench) close() {
	if err := b.ledger.Close(); err != nil {
		b.t.Error(err)
	}
}

// hook is a webhook of chatbot bot with the defaults.
func hook(id string, change ...func(*jobs.Webhook)) jobs.Webhook {
	w := jobs.Webhook{
		ID: id, Chatbots: []string{"bot"}, URL: "https://crm.example.com/hooks", Dialect: "smarterbot", Schedule: "@daily", Timezone: "UTC",
		RetryAt: []time.Duration{time.Minute, 3 * time.Minute}, Ack: []string{"success"}, From: jobs.FromNow,
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func (b *bench) provision(hooks ...jobs.Webhook) jobs.Provisioned {
	b.t.Helper()
	did, err := jobs.Provisioning{
		Ledger: b.ledger, Sources: []jobs.Source{b.leads}, Origin: "config.yaml", Desired: slices.Clone(hooks),
		NewKey: func(string) jobs.Secret { return "made" }, Signs: func(string) bool { return true },
	}.Run(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return did
}

func (b *bench) runner(change ...func(*jobs.Options)) *jobs.Runner {
	o := jobs.Options{
		Ledger: b.ledger, Sources: []jobs.Source{b.leads}, Sink: b.crm, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Unavailable: func(err error) bool { return errors.Is(err, errAway) }, Workers: 8, PerWebhook: 4, GiveUpAfter: 7 * 24 * time.Hour,
		Poll: 10 * time.Minute, LeaseTTL: 24 * time.Hour, SourcePoll: time.Hour, // days go by in these tests: few steps
	}
	for _, c := range change {
		c(&o)
	}
	return jobs.NewRunner(o)
}

var errAway = errors.New("the database is away")

// shortLease is as the program's.
func shortLease(o *jobs.Options) { o.LeaseTTL = 30 * time.Second }

// serve runs a daemon for a while.
func (b *bench) serve(d time.Duration, change ...func(*jobs.Options)) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := b.runner(change...).Serve(ctx, func() {}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) runNow(noWait bool, change ...func(*jobs.Options)) jobs.Run {
	b.t.Helper()
	run, err := b.runner(change...).RunNow(context.Background(), jobs.Scope{}, noWait, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return run
}

// states counts the ledger's deliveries by state and reason.
func (b *bench) states() map[string]int {
	b.t.Helper()
	all, _, err := b.ledger.Deliveries(context.Background(), ledger.Filter{Limit: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	n := map[string]int{}
	for _, d := range all {
		key := string(d.State)
		if d.Reason != "" {
			key += " " + string(d.Reason)
		}
		n[key]++
	}
	return n
}
