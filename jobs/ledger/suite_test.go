package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// engines are the databases that a ledger may be in; pooled is PostgreSQL by way of pgbouncer in transaction mode.
var engines = []string{"postgres", "pooled", "sqlite"}

// onBoth runs a test on either database, and looks afterwards whether the ledger keeps its rules.
func onBoth(t *testing.T, test func(t *testing.T, s *stage)) {
	t.Parallel()
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stageOn(t, name)
			test(t, s)
			if !s.spoilt {
				if err := s.audit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func stageOn(t *testing.T, engine string) *stage {
	s := &stage{t: t, dsn: address(t, engine), clock: &clock{now: start}}
	s.Ledger = s.open()
	return s
}

func address(t testing.TB, name string) string {
	switch name {
	case "postgres":
		return pgtest.Database(t)
	case "pooled":
		dsn, _ := pgtest.Pooled(t)
		return dsn
	}
	return "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// A stage is a ledger under a test, its clock, and short words for what tests do to it.
type stage struct {
	*Ledger
	t     testing.TB
	dsn   string
	clock *clock
	rows  int
	token string

	spoilt bool // a test put rows into the tables that no ledger puts there
}

// open opens the stage's ledger once more, as another process would.
func (s *stage) open() *Ledger {
	s.t.Helper()
	l, err := Open(context.Background(), s.dsn, Options{Clock: s.clock.time, Create: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return l
}

func (s *stage) pass(d time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.now = s.clock.now.Add(d)
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// webhooks enters active webhooks, and the streams Lead and Appointment.
func (s *stage) webhooks(ids ...string) {
	s.t.Helper()
	for _, typ := range []string{"Lead", "Appointment"} {
		s.must(s.EnterStream(context.Background(), typ, "table", ""))
	}
	put := make([]jobs.Webhook, len(ids))
	for i, id := range ids {
		put[i] = jobs.Webhook{ID: id, Chatbots: []string{"bot"}, URL: "https://crm.example/x", SignKey: "k", State: jobs.Active}
	}
	s.put(put...)
}

// put changes webhooks on top of what is there.
func (s *stage) put(webhooks ...jobs.Webhook) {
	s.t.Helper()
	s.must(s.ChangeWebhooks(context.Background(), s.changed(webhooks...)))
}

func (s *stage) changed(webhooks ...jobs.Webhook) jobs.Change {
	s.t.Helper()
	c := jobs.Change{Put: webhooks, Versions: map[string]int64{}}
	for _, stream := range must[[]jobs.Stream](s.t)(s.AllStreams(context.Background())) {
		c.Versions[stream.Type], c.Generation = stream.Version, stream.Generation
	}
	if c.Generation == (jobs.Generation{}) {
		c.Generation = must[jobs.Registered](s.t)(s.Webhooks(context.Background())).Generation
	}
	return c
}

// reset empties the ledger and puts its clock back.
func (s *stage) reset(t interface{ Fatal(...any) }) {
	for _, table := range []string{"subscriptions", "due", "tallies", "webhooks", "streams", "leases", "deliveries", "row_versions", "attempts", "runs", "schedules"} {
		if _, err := s.write.Exec(s.text("delete from " + table)); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.now = start
}

func (s *stage) lease() string {
	s.t.Helper()
	return must[string](s.t)(s.TakeLease(context.Background(), "test", time.Minute))
}

// record is a delivery of a new row.
func (s *stage) record(webhook string, state jobs.State) jobs.Delivery {
	s.rows++
	return record(webhook, fmt.Sprint(s.rows), state)
}

func record(webhook, row string, state jobs.State) jobs.Delivery {
	k := jobs.Key{Webhook: webhook, Type: "Lead", Row: row, Action: jobs.ActionCreate}
	d := jobs.Delivery{ID: k.ID(), Key: k, Chatbot: "bot", State: state}
	if state == jobs.Dead {
		d.Reason = jobs.Rejected
	}
	return d
}

func (s *stage) stream(typ string) jobs.Stream {
	s.t.Helper()
	return must[jobs.Stream](s.t)(s.Stream(context.Background(), typ))
}

// enter enters deliveries on the stream as it stands, and wants all to be new.
func (s *stage) enter(lease string, deliveries ...jobs.Delivery) {
	s.t.Helper()
	stream := s.stream("Lead")
	news := must[[]bool](s.t)(s.Enter(context.Background(), jobs.Entries{
		Type: "Lead", Version: stream.Version, Bookmark: stream.Bookmark + "+", Lease: lease, Deliveries: deliveries,
	}))
	for i, isNew := range news {
		if !isNew {
			s.t.Fatalf("delivery %d of row %s is not new", i, deliveries[i].Row)
		}
	}
}

func (s *stage) claim(lease string, each, limit int) []jobs.Delivery {
	s.t.Helper()
	return must[[]jobs.Delivery](s.t)(s.Claim(context.Background(), jobs.Claim{Lease: lease, Each: each, Limit: limit}))
}

// settle wants every outcome to be recorded.
func (s *stage) settle(outcomes ...jobs.Outcome) {
	s.t.Helper()
	for i, ok := range must[[]bool](s.t)(s.Settle(context.Background(), outcomes)) {
		if !ok {
			s.t.Fatalf("outcome %d of %s was not recorded", i, outcomes[i].Delivery.ID)
		}
	}
}

// get reads one delivery back.
func (s *stage) get(id uuid.UUID) jobs.Delivery {
	s.t.Helper()
	for after := ""; ; {
		items, next, err := s.Deliveries(context.Background(), Filter{After: after})
		s.must(err)
		for _, d := range items {
			if d.ID == id {
				return d
			}
		}
		if after = next; next == "" {
			s.t.Fatalf("no delivery %s", id)
		}
	}
}

func (s *stage) run(id string) jobs.Run {
	s.t.Helper()
	return must[jobs.Run](s.t)(s.Run(context.Background(), id))
}

func (s *stage) status(webhook string) WebhookStatus {
	s.t.Helper()
	for _, w := range must[[]WebhookStatus](s.t)(s.Status(context.Background())) {
		if w.Webhook == webhook {
			return w
		}
	}
	s.t.Fatalf("no status of webhook %s", webhook)
	return WebhookStatus{}
}

// acked, failed, spent and died are what a runner makes of a delivery that was pushed now.

func (s *stage) acked(d jobs.Delivery) jobs.Outcome {
	now := s.Now()
	o := jobs.Outcome{Lease: d.Lease, Attempt: &jobs.Attempt{At: now.Add(-time.Second), Duration: time.Second, Status: 200, Word: "success"}}
	d.State, d.SettledAt, d.InRound, d.NextAt, d.Lease = jobs.Delivered, now, false, time.Time{}, ""
	d.Attempts++
	o.Delivery = d
	return o
}

func (s *stage) failed(d jobs.Delivery, next time.Duration) jobs.Outcome {
	now := s.Now()
	o := jobs.Outcome{Lease: d.Lease, Attempt: &jobs.Attempt{At: now.Add(-time.Second), Duration: time.Second, Status: 500, Error: "http_500"}}
	d.Attempts++
	if d.FirstFailedAt.IsZero() {
		d.FirstFailedAt = now
	}
	if !d.InRound {
		d.InRound, d.RoundFailedAt = true, now
	}
	d.State, d.NextAt, d.LastError, d.Lease = jobs.Pending, now.Add(next), "http_500", ""
	o.Delivery = d
	return o
}

func (s *stage) spent(d jobs.Delivery, fire time.Duration) jobs.Outcome {
	o := s.failed(d, fire)
	o.Spent, o.Delivery.InRound = true, false
	o.Delivery.Rounds++
	return o
}

func (s *stage) died(d jobs.Delivery, reason jobs.Reason) jobs.Outcome {
	o := jobs.Outcome{Lease: d.Lease}
	d.State, d.Reason, d.LastError, d.SettledAt, d.NextAt, d.Lease = jobs.Dead, reason, "gone", s.Now(), time.Time{}, ""
	o.Delivery = d
	return o
}
