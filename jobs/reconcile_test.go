package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sources"
)

const day = 24 * time.Hour

// What vanished from the ledger is found, named, entered and delivered once; the others stay as they are.
func TestReconcile(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		y.table("Lead", "leads", "")
		y.table("Appointment", "appointments", "")
		y.provision(
			hook("one"), hook("all", func(w *jobs.Webhook) { w.Chatbots = []string{jobs.AllChatbots} }),
			hook("leads", func(w *jobs.Webhook) { w.Chatbots, w.Types = []string{"bot", "third"}, []string{"Lead"} }),
		)
		for i := range 6 {
			y.insert("leads", nil, []string{"bot", "other"}[i%2], time.Duration(i)*day)
			y.insert("appointments", nil, "bot", time.Duration(i)*day)
		}
		y.crm.answer = func(a attempt) error {
			if a.body == "Lead 3" {
				return refuse(a)
			}
			return nil
		}
		y.crm.reject = func(rec *jobs.Record) bool { return rec.Type == "Lead" && rec.Row == "5" }
		y.run()
		// 3 leads each for one and leads, 6 for all, and twice 6 appointments.
		y.wants(y.reconcile(), "24: 18 3 3")
		if n := y.lose("type = 'Lead' and row_key = '1'") + y.lose("type = 'Appointment' and webhook = 'one' and row_key = '6'"); n != 4 {
			t.Fatalf("lost %d", n)
		}
		y.exec("delete from leads where id = 2")         // what is gone from the source is not missed, nor does it make up for another
		y.exec("delete from appointments where id <> 6") // nor is what is there counted
		done := y.reconcile()
		y.wants(done, "13: 3 3 3", "Lead 1 for leads", "Lead 1 for one", "Lead 1 for all", "Appointment 6 for one")
		if done.Entered != 4 || done.Unread != 0 {
			t.Errorf("%d entered, %d unread", done.Entered, done.Unread)
		}
		if m := done.Named[3]; m.Chatbot != "bot" || !m.Day.Equal(time.Now().Add(-5*day).UTC().Truncate(day)) {
			t.Errorf("named: %+v", m)
		}
		before := y.crm.got("one")["Lead 1"]
		y.wants(y.reconcile(), "13: 3 7 3") // the next finds them pending
		y.run()
		y.wants(y.reconcile(), "13: 7 3 3")
		if got := y.crm.got("one"); got["Lead 1"] != before+1 || got["Appointment 6"] != 2 || got["Appointment 5"] != 1 {
			t.Errorf("the CRM got %v", got)
		}
	})
}

// A row that came where its stream's bookmark had been long since is found.
func TestReconcileFindsWhatCameBehind(t *testing.T) {
	for _, test := range []struct {
		name string
		key  func(engine string) string
		cfg  func(*sources.Config)
		come func(y *yard)
		row  string
	}{
		{
			"an id that was given up", func(string) string { return "" }, func(*sources.Config) {},
			func(y *yard) {
				y.insert("leads", 10, "bot", 0)
				y.run()
				y.pass(8 * day)
				y.run() // the gap is dropped
				y.insert("leads", 6, "bot", time.Minute)
			}, "6",
		},
		{
			"a time that had passed", func(engine string) string { return map[string]string{"postgres": "uuid", "sqlite": "text"}[engine] },
			func(c *sources.Config) { c.Cursor = sources.CursorCreated },
			func(y *yard) {
				y.insert("leads", "00000000-0000-0000-0000-000000000010", "bot", 0)
				y.pass(time.Hour)
				y.run()
				y.insert("leads", "00000000-0000-0000-0000-000000000006", "bot", 3*day)
			}, "00000000-0000-0000-0000-000000000006",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			onBothKinds(t, func(t *testing.T, y *yard) {
				y.table("Lead", "leads", test.key(y.engine), test.cfg)
				y.provision(hook("bot", func(w *jobs.Webhook) { w.From = jobs.FromBeginning }))
				y.run()
				test.come(y)
				y.run()
				if got := y.crm.got("bot")["Lead "+test.row]; got != 0 {
					t.Fatalf("it came by itself, %d times", got)
				}
				done := y.reconcile()
				y.wants(done, "2: 1 0 0", "Lead "+test.row+" for bot")
				y.run()
				y.wants(y.reconcile(), "2: 2 0 0")
				if got := y.crm.got("bot")["Lead "+test.row]; got != 1 {
					t.Errorf("it came %d times", got)
				}
			})
		})
	}
}

// What a webhook was never owed is not missing: rows from before it, from before its from, from before it came to want
// them, from before a reset, and what a backfill has yet to come to.
func TestReconcileKnowsWhatIsOwed(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		ctx := context.Background()
		y.table("Lead", "leads", "")
		y.insert("leads", nil, "bot", 2*day)     // 1
		y.insert("leads", nil, "bot", time.Hour) // 2
		from := func(id, from string) jobs.Webhook {
			return hook(id, func(w *jobs.Webhook) { w.From = from })
		}
		hooks := []jobs.Webhook{
			from("now", jobs.FromNow), from("beginning", jobs.FromBeginning), from("time", time.Now().Add(-day).UTC().Format(time.RFC3339)),
			hook("narrow", func(w *jobs.Webhook) { w.Chatbots = []string{"third"} }),
		}
		y.provision(hooks...)
		y.insert("leads", nil, "bot", 0)   // 3
		y.insert("leads", nil, "other", 0) // 4
		y.insert("leads", nil, "bot", 30*day)
		if done := y.reconcile(); done.Unread != 3 { // it gathers and fills up nothing: the two backfills have 1 and 2
			t.Errorf("%d are unread", done.Unread)
		}
		y.run()
		y.wants(y.reconcile(), "6: 6 0 0") // 3 for each; 1 for beginning, 2 for it and time

		hooks[3].Chatbots = []string{"third", "other"}
		y.provision(hooks...)
		y.wants(y.reconcile(), "6: 6 0 0") // 4 was not narrow's when it came
		y.insert("leads", nil, "other", 0) // 6
		y.run()
		y.wants(y.reconcile(), "7: 7 0 0")

		y.lose("row_key = '3' and webhook <> 'time'")
		y.exec("update leads set status = 'draft' where id = 3") // nobody is owed what `where` leaves out
		y.wants(y.reconcile(), "4: 4 0 0")
		y.exec("update leads set status = null where id = 3")

		if _, err := jobs.BackfillByHand(ctx, y.ledger, y.streams, "now", time.Now().Add(-day), time.Time{}, false); err != nil {
			t.Fatal(err)
		}
		done := y.reconcile()
		y.wants(done, "7: 5 0 0", "Lead 3 for beginning", "Lead 3 for now")
		if done.Unread != 1 {
			t.Errorf("%d are unread", done.Unread)
		}
		y.run()
		y.wants(y.reconcile(), "8: 8 0 0") // 2 for now
		y.lose("row_key = '2' and webhook = 'now'")
		y.lose("row_key = '1' and webhook = 'now'")
		y.wants(y.reconcile(), "8: 7 0 0", "Lead 2 for now") // it was filled up with this one, and not with 1
		y.run()

		y.lose("row_key = '3' or row_key = '2'")
		y.insert("leads", nil, "bot", 0) // 7, which the reset goes past
		st, err := y.streams[0].End(ctx)
		if err == nil {
			err = y.ledger.ResetStream(ctx, "Lead", y.streams[0].Definition(), st)
		}
		if err != nil {
			t.Fatal(err)
		}
		y.wants(y.reconcile(), "2: 2 0 0") // 1 for beginning, 6 for narrow
		y.insert("leads", nil, "bot", 0)   // 8
		y.run()
		y.lose("row_key = '8' and webhook = 'time'")
		y.wants(y.reconcile(), "5: 4 0 0", "Lead 8 for time")
	})
}

// In a stream with versions the version that a row has now is looked for, as whatever it went; of one that is gone only
// what a webhook has to be told.
func TestReconcileVersions(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		y.table("Lead", "leads", "", func(c *sources.Config) { c.Updated, c.Deleted, c.Lookback = "updated_at", "gone", time.Millisecond })
		told := func(id string) jobs.Webhook { return hook(id, func(w *jobs.Webhook) { w.Dialect = "events" }) }
		y.provision(told("told"), hook("plain")) // plain's dialect has no word for a row that is gone
		change := func(id int, set string) {
			y.exec("update leads set "+set+", updated_at = ? where id = ?", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), id)
		}
		for range 4 {
			y.insert("leads", nil, "bot", 2*day)
		}
		for id := 1; id <= 4; id++ {
			change(id, "first_name = 'Ann'")
		}
		y.run()
		change(1, "first_name = 'Bea'")
		change(2, "gone = true")
		y.run()
		y.insert("leads", nil, "bot", 2*day) // 5
		change(5, "gone = true")             // nobody heard of it
		y.run()
		done := y.reconcile()
		y.wants(done, "7: 7 0 0") // 1 to 4 for told, 1, 3, 4 for plain
		y.lose("row_key = '1' and action = 'update' or row_key = '3' and webhook = 'told'")
		y.wants(y.reconcile(), "7: 4 0 0", "Lead 1 for plain", "Lead 1 for told", "Lead 3 for told")
		y.run()
		y.wants(y.reconcile(), "7: 7 0 0")
		y.lose("row_key = '2' and action = 'remove'")
		y.wants(y.reconcile(), "6: 6 0 0") // it is known to have been told of
		y.forget("row_versions set acked = 'create' where row_key = '2'")
		y.wants(y.reconcile(), "7: 6 0 0", "Lead 2 for told")
	})
}

// Two reconciliations at once, and a daemon beside them, enter what is missing once.
func TestReconcileTwice(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		const rows = 300
		y.table("Lead", "leads", "")
		y.provision(hook("bot", func(w *jobs.Webhook) { w.Immediate = true }), hook("all", func(w *jobs.Webhook) { w.Chatbots = []string{jobs.AllChatbots} }))
		for range rows {
			y.insert("leads", nil, "bot", time.Hour)
		}
		y.run()
		if n := y.lose("row_key like '%3'"); n != 60 {
			t.Fatalf("lost %d", n)
		}
		ctx, stop := context.WithCancel(context.Background())
		served, ready := make(chan error, 1), make(chan struct{})
		go func() { served <- y.runner().Serve(ctx, func() { close(ready) }) }()
		<-ready
		other, err := ledger.Open(ctx, y.dsn, ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		var both sync.WaitGroup
		var mu sync.Mutex
		entered := 0
		for _, l := range []*ledger.Ledger{y.ledger, other} {
			both.Go(func() {
				done, err := y.runner(func(o *jobs.Options) { o.Ledger = l }).Reconcile(ctx, time.Now().Add(-day), nil)
				if err != nil {
					t.Error(err)
				}
				balanced(t, &done)
				mu.Lock()
				entered += done.Entered
				mu.Unlock()
			})
		}
		both.Wait()
		if entered != 60 {
			t.Errorf("%d were entered, want 60", entered)
		}
		for y.crm.got("bot")["Lead 293"] < 2 {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		y.run()
		y.wants(y.reconcile(), "600: 600 0 0")
		want := map[string]int{}
		for i := 1; i <= rows; i++ {
			want[fmt.Sprint("Lead ", i)] = 1
			if i%10 == 3 {
				want[fmt.Sprint("Lead ", i)] = 2
			}
		}
		for _, webhook := range []string{"bot", "all"} {
			if diff := cmp.Diff(want, y.crm.got(webhook)); diff != "" {
				t.Errorf("%s got (-want +got):\n%s", webhook, diff)
			}
		}
	})
}

// A stream that cannot be reconciled does not keep the others; webhooks that change meanwhile are taken as they are.
func TestReconcileGoesOn(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		ctx := context.Background()
		y.table("Appointment", "appointments", "")
		y.table("Lead", "leads", "")
		y.provision(hook("bot"), hook("goes"))
		for range 3 {
			y.insert("leads", nil, "bot", 0)
		}
		y.insert("appointments", nil, "bot", 0)
		y.run()
		y.lose("true")
		if err := y.ledger.StopStream(ctx, "Appointment", "its table is another"); err != nil {
			t.Fatal(err)
		}
		changes := 0
		l := &flawed{Ledger: y.ledger, enter: func(e jobs.Entries) error {
			if changes++; e.Missing && changes == 1 {
				_, err := jobs.Registrar{Ledger: y.ledger, Sources: y.streams}.SetState(ctx, "goes", jobs.Disabled)
				return err
			}
			return nil
		}}
		done, err := y.runner(func(o *jobs.Options) { o.Ledger = l }).Reconcile(ctx, time.Now().Add(-day), nil)
		stopped, ok := errors.AsType[*jobs.StoppedError](err)
		if !ok || stopped.Type != "Appointment" {
			t.Errorf("the error is %v", err)
		}
		balanced(t, &done)
		y.wants(done, "6: 0 0 0", "Lead 1 for bot", "Lead 1 for goes", "Lead 2 for bot", "Lead 2 for goes", "Lead 3 for bot", "Lead 3 for goes")
		if done.Entered != 6 || changes != 2 {
			t.Errorf("%d entered, in %d attempts", done.Entered, changes)
		}
	})
}

// Whatever becomes of source and ledger, what is owed is delivered, pending, dead or missing, and after a
// reconciliation nothing is missing.
func TestReconcileProperty(t *testing.T) {
	onBothKinds(t, func(t *testing.T, y *yard) {
		y.table("Lead", "leads", "")
		y.provision(
			hook("a", func(w *jobs.Webhook) { w.Chatbots = []string{"a"} }),
			hook("all", func(w *jobs.Webhook) { w.Chatbots, w.From = []string{jobs.AllChatbots}, jobs.FromBeginning }),
			hook("bc", func(w *jobs.Webhook) { w.Chatbots, w.Immediate = []string{"b", "c"}, true }),
		)
		y.run() // the backfill of a table without rows
		base := 0
		rapid.Check(t, func(rt *rapid.T) {
			y.exec("delete from leads")
			y.lose("true")
			base += 100
			rows := map[int]string{} // id → chatbot
			anID := rapid.IntRange(base+1, base+9)
			actions := map[string]func(*rapid.T){
				"insert": func(rt *rapid.T) {
					id, chatbot := anID.Draw(rt, "id"), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "chatbot")
					if rows[id] == "" {
						rows[id] = chatbot
						y.insert("leads", id, chatbot, time.Duration(rapid.IntRange(0, 6*24).Draw(rt, "hours ago"))*time.Hour)
					}
				},
				"delete": func(rt *rapid.T) {
					id := anID.Draw(rt, "id")
					delete(rows, id)
					y.exec("delete from leads where id = ?", id)
				},
				"lose": func(rt *rapid.T) {
					y.lose(fmt.Sprintf("row_key = '%d' and webhook <> '%s'", anID.Draw(rt, "id"), rapid.SampledFrom([]string{"", "a", "bc"}).Draw(rt, "but of")))
				},
				"settle": func(rt *rapid.T) {
					y.forget(fmt.Sprintf("deliveries set state = '%s' where row_key = '%d'", rapid.SampledFrom([]string{"delivered", "dead"}).Draw(rt, "state"), anID.Draw(rt, "id")))
				},
				"reconcile": func(*rapid.T) { y.reconcile() },
			}
			for range rapid.IntRange(1, 15).Draw(rt, "actions") { // half of Repeat's: each asks a database
				actions[rapid.SampledFrom([]string{"insert", "insert", "insert", "delete", "lose", "lose", "settle", "reconcile"}).Draw(rt, "action")](rt)
			}
			done := y.reconcile()
			if done.Entered != done.Total.Missing || done.Unread != 0 {
				rt.Fatalf("%d were missing, %d entered; %d are unread", done.Total.Missing, done.Entered, done.Unread)
			}
			owed := 0
			for _, chatbot := range rows {
				owed += map[string]int{"a": 2, "b": 2, "c": 2, "d": 1}[chatbot]
			}
			if again := y.reconcile(); again.Total.Missing != 0 || again.Entered != 0 || again.Total.Source != owed {
				rt.Fatalf("%d are owed, of which afterwards %+v", owed, again.Total)
			}
		})
	})
}
