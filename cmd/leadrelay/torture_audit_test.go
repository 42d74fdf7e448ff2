package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// A wish is what a webhook wants: the records of one chatbot, or of all, of one type, or of all.
type wish struct{ webhook, chatbot, typ string }

// A debt is a record that a webhook is owed.
type debt struct {
	jobs.Key
	says says
}

// says is what a request of the default dialect says, or is to.
type says struct {
	SerialNumber, Type, FirstName, LastName, Email, PhoneNumber, CreateTime, Content, URI string
	SessionID                                                                             int64
}

// owed is what was committed to the source and wanted, by id.
func (o *ordeal) owed(app *application, wishes []wish) map[string]debt {
	o.t.Helper()
	owed := map[string]debt{}
	for table, typ := range map[string]string{"leads": "Lead", "appointments": "Appointment"} {
		rows, err := app.db.Query("select id, created_at, chatbot_id, first_name, last_name, email, phone_number, content, uri, session_id from " + table)
		if err != nil {
			o.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var row string
			var created time.Time
			is := says{Type: typ}
			err := rows.Scan(&row, &created, &is.SerialNumber, &is.FirstName, &is.LastName, &is.Email, &is.PhoneNumber, &is.Content, &is.URI, &is.SessionID)
			if err != nil {
				o.t.Fatal(err)
			}
			is.CreateTime = created.Format("2006-01-02T15:04:05.000000Z")
			o.rows++
			for _, w := range wishes {
				if (w.chatbot == "" || w.chatbot == is.SerialNumber) && (w.typ == "" || w.typ == typ) {
					key := jobs.Key{Webhook: w.webhook, Type: typ, Row: row, Action: jobs.ActionCreate}
					owed[key.ID().String()] = debt{key, is}
				}
			}
		}
		if err := rows.Err(); err != nil {
			o.t.Fatal(err)
		}
	}
	o.records += len(owed)
	return owed
}

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

// settles is how long before a blow something may have been acknowledged whose outcome was not committed: 50 ms of
// settling, and a commit of what was settled before, on a machine that has much else to do. Lives are often shorter: what
// holds a killed process to what was in flight is that the ledger is looked at after each kill (remember).
const settles = 10 * time.Second

// struck is the blow at which a request was in flight that came again: it reached the CRM before the process went on, if it
// did, and was answered shortly before the blow or after it, and came again after the blow.
func (l *life) struck(r, again *request) (at time.Time, ok bool) {
	for _, b := range l.blows {
		if (b.over.IsZero() || r.at.Before(b.over)) && b.at.Sub(r.answered) <= settles && again.at.After(b.at) {
			return b.at, true
		}
	}
	return at, false
}

// auditDuplicates demands of every record that came again after it was acknowledged that it was in flight in a process
// that was killed or paused, and counts them by blow. None may have come again that the ledger had as delivered after a kill.
func (o *ordeal) auditDuplicates(came map[string][]request) {
	o.t.Helper()
	type strike struct {
		process string
		at      time.Time
	}
	of := map[strike]map[string]bool{} // ids: one that came again may be refused then and come once more
	bounds := map[string]int{}
	for id, requests := range came {
		var before *request // the last that was acknowledged
		for i := range requests {
			r := &requests[i]
			if at, known := o.recorded[id]; known && r.at.After(at) {
				o.t.Errorf("%s of %s came again %v after the ledger had it as delivered", id, r.webhook, r.at.Sub(at))
			}
			if before != nil {
				o.duplicates++
				l := o.life(before.process)
				if l == nil {
					o.t.Errorf("a request for %s came from nobody, %q", id, before.process)
					continue
				}
				bounds[l.name] = l.bound()
				if at, ok := l.struck(before, r); ok {
					b := strike{l.name, at}
					if of[b] == nil {
						of[b] = map[string]bool{}
					}
					of[b][id] = true
				} else if late := o.life(r.process); late == nil || !late.resumed(r) {
					o.t.Errorf("%s of %s came again from %s, %v after it was acknowledged to %s, which was not struck then (%v)",
						id, r.webhook, r.process, r.at.Sub(before.answered), l.name, l.blows)
				}
			}
			if r.acked {
				before = r
			}
		}
	}
	o.bound = tortureWorkers + settleBuffer
	for b, ids := range of {
		n := len(ids)
		o.most = max(o.most, n)
		if n > bounds[b.process] {
			o.t.Errorf("%d records came again that were in flight in %s at one blow: the bound is %d", n, b.process, bounds[b.process])
		}
	}
}

// resumed reports whether a paused process sent this just after it went on: it was about to when it was paused.
func (l *life) resumed(r *request) bool {
	return slices.ContainsFunc(l.blows, func(b blow) bool {
		after := r.at.Sub(b.over)
		return !b.over.IsZero() && after >= 0 && after < 5*time.Second
	})
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
