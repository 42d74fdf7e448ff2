package jobs_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
	"github.com/leadrelay/leadrelay/sources"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A yard is a real source and a real ledger, of one kind of database, and a CRM.
type yard struct {
	t              testing.TB
	engine         string
	app, books     *sql.DB // the application's, and one for what happens behind the ledger's back
	source, dsn    string  // addresses
	ledger         *ledger.Ledger
	db             *sources.Database
	streams        []jobs.Source
	crm            *crm
	log            *journal
	mu             sync.Mutex
	ahead          time.Duration // of the source's clock
	deliveriesName string
}

// onBothKinds runs a test on either database.
func onBothKinds(t *testing.T, test func(t *testing.T, y *yard)) {
	t.Parallel()
	for _, engine := range []string{"postgres", "sqlite"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, newYard(t, engine))
		})
	}
}

func newYard(t testing.TB, engine string) *yard {
	t.Helper()
	y := &yard{t: t, engine: engine, crm: &crm{}, log: &journal{}, deliveriesName: "deliveries"}
	var err error
	open := func(driver, dsn string) *sql.DB {
		db, err := sql.Open(driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	if engine == "postgres" {
		y.source, y.dsn, y.deliveriesName = pgtest.Database(t), pgtest.Database(t), "leadrelay.deliveries"
		y.app, y.books = open("postgres", y.source), open("postgres", y.dsn)
	} else {
		dir := t.TempDir()
		file := func(name string) string {
			return "file:" + filepath.Join(dir, name) + "?_busy_timeout=10000&_synchronous=OFF"
		}
		y.source, y.dsn = "sqlite:"+filepath.Join(dir, "app.db"), "sqlite:"+filepath.Join(dir, "ledger.db")
		y.app, y.books = open("sqlite", file("app.db")+"&_journal_mode=WAL"), open("sqlite", file("ledger.db"))
		y.exec("create table made (id integer)")
	}
	if y.ledger, err = ledger.Open(context.Background(), y.dsn, ledger.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := y.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	if y.db, err = sources.Open(context.Background(), y.source, sources.Options{Now: y.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := y.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return y
}

func (y *yard) now() time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return time.Now().Add(y.ahead)
}

// pass lets time pass for the source, which ages gaps by it.
func (y *yard) pass(d time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.ahead += d
}

func (y *yard) exec(query string, args ...any) {
	y.t.Helper()
	if _, err := y.app.Exec(y.rebind(query), args...); err != nil {
		y.t.Fatalf("%s: %v", query, err)
	}
}

// rebind makes ? the database's parameters.
func (y *yard) rebind(query string) string {
	if y.engine == "sqlite" {
		return query
	}
	for n := 1; strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", n), 1)
	}
	return query
}

// table makes a table and a stream of it; ids are the sequence's where key is "".
func (y *yard) table(typ, table, key string, change ...func(*sources.Config)) {
	y.t.Helper()
	id, at := "integer primary key autoincrement", "text"
	if y.engine == "postgres" {
		id, at = "bigserial primary key", "timestamptz"
	}
	if key != "" {
		id = key + " primary key"
	}
	y.exec(fmt.Sprintf("create table %s (id %s, chatbot_id text, created_at %s, updated_at %[3]s, gone boolean, first_name text, status text)", table, id, at))
	cfg := sources.Config{
		Type: typ, Table: table, ID: "id", Chatbot: "chatbot_id", Created: "created_at", Where: "status is null",
		Fields: []sources.Mapping{{Name: "FirstName", Column: "first_name"}},
	}
	for _, c := range change {
		c(&cfg)
	}
	stream, err := y.db.Stream(context.Background(), cfg)
	if err != nil {
		y.t.Fatal(err)
	}
	y.streams = append(y.streams, stream)
}

// insert inserts a row of a chatbot, created some time ago.
func (y *yard) insert(table string, id any, chatbot string, ago time.Duration) {
	y.t.Helper()
	at := time.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000000Z")
	if id == nil {
		y.exec("insert into "+table+" (chatbot_id, created_at) values (?, ?)", chatbot, at)
		return
	}
	y.exec("insert into "+table+" (id, chatbot_id, created_at) values (?, ?, ?)", id, chatbot, at)
}

// lose removes deliveries from the ledger behind its back.
func (y *yard) lose(condition string) int {
	y.t.Helper()
	res, err := y.books.Exec("delete from " + y.deliveriesName + " where " + condition)
	if err != nil {
		y.t.Fatal(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		y.t.Fatal(err)
	}
	return int(n)
}

// forget changes what the ledger knows behind its back.
func (y *yard) forget(set string) {
	y.t.Helper()
	if _, err := y.books.Exec("update " + strings.TrimSuffix(y.deliveriesName, "deliveries") + set); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) provision(hooks ...jobs.Webhook) {
	y.t.Helper()
	for i := range hooks {
		hooks[i].URL = jobs.Secret("https://" + hooks[i].ID + ".example.com/")
	}
	_, err := jobs.Provisioning{
		Ledger: y.ledger, Sources: y.streams, Origin: "config.yaml", Desired: hooks,
		NewKey: func(string) jobs.Secret { return "made" }, Signs: func(string) bool { return true },
	}.Run(context.Background())
	if err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) runner(change ...func(*jobs.Options)) *jobs.Runner {
	o := jobs.Options{
		Ledger: y.ledger, Sources: y.streams, Sink: y.crm, Log: slog.New(slog.NewTextHandler(y.log, nil)),
		Unavailable: func(error) bool { return false }, Workers: 4, PerWebhook: 4, Poll: 20 * time.Millisecond, SourcePoll: 20 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	return jobs.NewRunner(o)
}

// run gathers and pushes all that there is.
func (y *yard) run() {
	y.t.Helper()
	if _, err := y.runner().RunNow(context.Background(), jobs.Scope{}, true, nil); err != nil {
		y.t.Fatal(err)
	}
}

// reconcile reconciles the last days, and wants the sums to be right.
func (y *yard) reconcile() jobs.Reconciliation {
	y.t.Helper()
	done, err := y.runner().Reconcile(context.Background(), time.Now().Add(-7*24*time.Hour), nil)
	if err != nil {
		y.t.Fatal(err)
	}
	balanced(y.t, &done)
	return done
}

// balanced wants source to be the sum of the others, of days, chatbots and the whole.
func balanced(t testing.TB, done *jobs.Reconciliation) {
	t.Helper()
	right := func(what string, c, of jobs.Count) {
		t.Helper()
		if c.Source != c.Delivered+c.Pending+c.Dead+c.Missing {
			t.Errorf("%s: %d owed, and not %d + %d + %d + %d", what, c.Source, c.Delivered, c.Pending, c.Dead, c.Missing)
		}
		if diff := cmp.Diff(c, of); diff != "" {
			t.Errorf("%s is not the sum of its parts (-whole +sum):\n%s", what, diff)
		}
	}
	var total jobs.Count
	for _, b := range done.Balances {
		var days jobs.Count
		for _, d := range b.Days {
			right(b.Chatbot+" "+d.Day.String(), d.Count, d.Count)
			days.Add(d.Count)
		}
		right(b.Type+" "+b.Chatbot, b.Count, days)
		total.Add(b.Count)
	}
	right("the whole", done.Total, total)
	if len(done.Named) != done.Total.Missing {
		t.Errorf("%d rows are named, and %d were missing", len(done.Named), done.Total.Missing)
	}
}

// found words what a reconciliation found missing, and counted: owed, delivered, pending, dead.
func found(done jobs.Reconciliation) []string {
	c := done.Total
	words := []string{fmt.Sprintf("%d: %d %d %d", c.Source, c.Delivered, c.Pending, c.Dead)}
	for _, m := range done.Named {
		words = append(words, m.Type+" "+m.Row+" for "+m.Webhook)
	}
	return words
}

func (y *yard) wants(done jobs.Reconciliation, want ...string) {
	y.t.Helper()
	if diff := cmp.Diff(want, found(done)); diff != "" {
		y.t.Errorf("found (-want +got):\n%s", diff)
	}
}
