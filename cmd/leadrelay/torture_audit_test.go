package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patienceAtTheEnd is how long it may take until nothing is owed when nothing stands in the way: leases of 30 s, retries and
// schedules of seconds, and a machine that has much else to do.
const patienceAtTheEnd = 4 * time.Minute

// finish lets a daemon go on undisturbed until nothing is owed, and then finds nothing left to do by hand.
func (o *ordeal) finish(crm *witness) {
	o.t.Helper()
	last := o.launch(crm, "serve")
	last.says("msg=serving")
	began := time.Now()
	for {
		_, before := crm.count()
		time.Sleep(1500 * time.Millisecond)
		_, now := crm.count()
		late := time.Since(began) > patienceAtTheEnd // such as where something comes again and again
		if now != before && !late {
			continue
		}
		var s statusReport
		o.document(&s, 0, "status")
		open := 0
		for _, w := range s.Webhooks {
			open += w.Pending + w.Sending
		}
		runs := o.openRuns(last, began)
		if open+len(runs) == 0 && now == before {
			break
		}
		if late {
			text, _ := json.MarshalIndent(map[string]any{"status": s, "open runs": runs, "pending": o.deliveries("--state", "pending"), "sending": o.deliveries("--state", "sending"), "requests a second and a half": now - before}, "", "  ")
			o.t.Fatalf("%v after the last kill something is still owed, under way or coming:\n%s", time.Since(began).Round(time.Second), text)
		}
	}
	o.visit(last)
	last.stop()
	byHand := o.launch(crm, "run-now")
	byHand.await(exitDone)
	if said := byHand.said(); !strings.Contains(said, "gathered 0, carried 0") {
		o.t.Errorf("something was left:\n%s", tail(said))
	}
	o.reconcile()
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"delivery", "list"},
		{"delivery", "list", "--json"},
		{"webhook", "list", "--json"},
		{"stream", "list"},
		{"check", "--log-level", "debug"},
	} {
		o.ask(exitDone, args...)
	}
}

// reconcile has the program prove that nothing is missing.
func (o *ordeal) reconcile() {
	o.t.Helper()
	var r reconcileReport
	if text := o.ask(exitDone, "reconcile", "--json"); json.Unmarshal([]byte(text), &r) != nil || r.Missing+r.Entered+r.Unread > 0 {
		o.t.Errorf("reconcile says\n%s", text)
	}
	for _, b := range r.Streams {
		o.proved += b.Delivered
	}
}

// audit holds the source, the CRM, the ledger and the processes' ends against each other, and searches what the program
// has left behind.
func (o *ordeal) audit(app *application, crm *witness, wishes []wish) {
	o.t.Helper()
	o.auditRecords(app, crm, wishes)
	o.auditLives()
	o.t.Logf("%s: %d records, %d duplicates, %d at one blow at most; %s", o.engine, o.records, o.duplicates, o.most, counted(o.done))
}

// auditRecords is audit without the processes' ends.
func (o *ordeal) auditRecords(app *application, crm *witness, wishes []wish) {
	o.t.Helper()
	crm.write(o.t, filepath.Join(o.dir, "requests.tsv"))
	owed, came := o.owed(app, wishes), crm.all()
	delivered := map[string]deliveryItem{}
	for _, d := range o.deliveries() {
		delivered[d.ID] = d
	}
	for id, key := range owed {
		acked := false
		for _, r := range came[id] {
			acked = acked || r.acked
			var told says
			if err := json.Unmarshal(r.body, &told); err != nil || told != key.says || r.webhook != key.Webhook {
				o.t.Errorf("the CRM of %s was told of %s row %s for %s: %v (-row +request)\n%s", r.webhook, key.Type, key.Row, key.Webhook, err, cmp.Diff(key.says, told))
			}
		}
		d, known := delivered[id]
		switch {
		case !acked:
			o.lost++
			o.t.Errorf("lost: %s row %s for %s came %d times and was never acknowledged; in the ledger it is %q", key.Type, key.Row, key.Webhook, len(came[id]), d.State)
		case !known || d.State != "delivered":
			o.t.Errorf("%s row %s for %s was acknowledged, and in the ledger it is %q (%s)", key.Type, key.Row, key.Webhook, d.State, d.Reason)
		}
	}
	for id := range delivered {
		if _, ok := owed[id]; !ok {
			o.t.Errorf("the ledger has a delivery that nobody was owed: %+v", delivered[id])
		}
	}
	for id := range came {
		if _, ok := owed[id]; !ok {
			o.t.Errorf("a request came that nobody was owed, from %s for %s", came[id][0].process, came[id][0].webhook)
		}
	}
	if o.proved > 0 && o.proved != len(owed) {
		o.t.Errorf("reconcile counted %d records as delivered, and %d were owed", o.proved, len(owed))
	}
	o.auditTallies(delivered)
	o.auditAttempts(delivered, came)
	o.auditDuplicates(came)
	o.auditRuns()
	o.search()
}

// auditTallies holds the counts of `status` against the deliveries.
func (o *ordeal) auditTallies(delivered map[string]deliveryItem) {
	o.t.Helper()
	counts, dead := map[string]int{}, map[string]int{}
	for _, d := range delivered {
		switch {
		case d.State == "delivered":
			counts[d.Webhook]++
		case d.State == "dead" && d.Reason != "superseded":
			dead[d.Webhook]++
		}
	}
	var s statusReport
	o.document(&s, 0, "status")
	for _, w := range s.Webhooks {
		if w.Delivered != counts[w.ID] || w.Dead != dead[w.ID] || w.Pending+w.Sending+w.TestAnswers > 0 {
			o.t.Errorf("of %s %d records are delivered and %d dead, and status says %+v", w.ID, counts[w.ID], dead[w.ID], w)
		}
	}
}

// auditAttempts holds the attempts that the ledger counts against the requests that came: it may lack one for each process
// that was killed or paused with it, and has none that was not made.
func (o *ordeal) auditAttempts(delivered map[string]deliveryItem, came map[string][]request) {
	o.t.Helper()
	for id, d := range delivered {
		struck := map[string]bool{}
		for _, r := range came[id] {
			if l := o.life(r.process); l != nil && len(l.blows) > 0 {
				struck[r.process] = true
			}
		}
		if n := len(came[id]); d.Attempts > n || d.Attempts < n-len(struck) {
			o.t.Errorf("%s of %s came %d times, sent by %d processes that were killed or paused, and the ledger counts %d attempts (%s)",
				id, d.Webhook, n, len(struck), d.Attempts, d.LastError)
		}
	}
}

// life is the process of that name.
func (o *ordeal) life(name string) *life {
	for _, l := range o.lives {
		if l.name == name {
			return l
		}
	}
	return nil
}

// auditLives demands that no process ended badly by itself, and that none logged what nobody should see.
func (o *ordeal) auditLives() {
	o.t.Helper()
	for _, l := range o.lives {
		said := l.said()
		interrupted := l.told && l.code() == exitFailed && strings.HasSuffix(strings.TrimSpace(said), "leadrelay: interrupted")
		if code := l.code(); !l.killed && code != exitDone && code != exitPending && !interrupted {
			o.t.Errorf("%s (%s) ended by itself with exit code %d\n%s", l.name, strings.Join(l.args, " "), code, tail(said))
		}
		for line := range strings.Lines(said) {
			if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
				o.t.Errorf("%s (%s) said %s", l.name, strings.Join(l.args, " "), line)
			}
		}
	}
}

// search looks in all that the program printed, and in the ledger, for what nobody may see.
func (o *ordeal) search() {
	o.t.Helper()
	if path, ok := cutSQLite(o.ledger); ok {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(path + suffix); err == nil && info.Mode().Perm() != 0o600 {
				o.t.Errorf("the ledger's file %s has mode %o", filepath.Base(path+suffix), info.Mode().Perm())
			}
		}
	}
	hidden := append(o.secrets, traces...)
	ledger := o.dump()
	if !bytes.Contains(ledger, []byte("delivered")) {
		o.t.Error("what is searched does not hold the deliveries")
	}
	hunt(o.t, "the ledger", ledger, hidden)
	for name, text := range files(o.t, o.logs()) {
		hunt(o.t, name, text, hidden)
	}
}
