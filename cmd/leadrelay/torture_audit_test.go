package main

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A wish is what a webhook wants: the records of one chatbot, or of all, of one type, or of all.
type wish struct{ webhook, chatbot, typ string }

// owed is what was committed to the source and wanted, by id.
func (o *ordeal) owed(app *application, wishes []wish) map[string]jobs.Key {
	o.t.Helper()
	owed := map[string]jobs.Key{}
	o.rows = 0
	for table, typ := range map[string]string{"leads": "Lead", "appointments": "Appointment"} {
		rows, err := app.db.Query("select id, chatbot_id from " + table)
		if err != nil {
			o.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var row, chatbot string
			if err := rows.Scan(&row, &chatbot); err != nil {
				o.t.Fatal(err)
			}
			o.rows++
			for _, w := range wishes {
				if (w.chatbot == "" || w.chatbot == chatbot) && (w.typ == "" || w.typ == typ) {
					key := jobs.Key{Webhook: w.webhook, Type: typ, Row: row, Action: jobs.ActionCreate}
					owed[key.ID().String()] = key
				}
			}
		}
		if err := rows.Err(); err != nil {
			o.t.Fatal(err)
		}
	}
	o.records = len(owed)
	return owed
}

// finish lets a daemon go on undisturbed until nothing is owed, and then finds nothing left to do by hand.
func (o *ordeal) finish(crm *witness) {
	o.t.Helper()
	last := o.launch(crm, "serve")
	last.says("msg=serving")
	quiet, before := 0, 0
	o.until(func() bool {
		time.Sleep(500 * time.Millisecond)
		var s statusReport
		o.document(&s, 0, "status")
		open := 0
		for _, w := range s.Webhooks {
			open += w.Pending + w.Sending
		}
		_, requests := crm.count()
		if quiet++; open > 0 || requests != before {
			quiet, before = 0, requests
		}
		return quiet >= 6
	}, "nothing is owed")
	last.stop()
	byHand := o.launch(crm, "run-now")
	byHand.await(exitDone)
	if said := byHand.said(); !strings.Contains(said, "gathered 0, carried 0") {
		o.t.Errorf("something was left:\n%s", tail(said))
	}
}

// audit holds the source, the CRM, the ledger and the processes' ends against each other. bound is how many records a
// killed process may have sent in vain.
func (o *ordeal) audit(app *application, crm *witness, wishes []wish, bound int) {
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
	o.auditDuplicates(came, bound)
	for _, l := range o.lives {
		if code := l.code(); !l.killed && code != exitDone && code != exitPending {
			o.t.Errorf("%s (%s) ended by itself with exit code %d\n%s", l.name, strings.Join(l.args, " "), code, tail(l.said()))
		}
	}
}

// settles is how long before a kill something may have been acknowledged whose outcome was not committed: 50 ms of
// settling, and a commit of what was settled before, on a machine that has much else to do.
const settles = 5 * time.Second

// auditDuplicates demands of every record that came again after it was acknowledged that the process that had sent it was
// killed, and soon after; and counts them by process.
func (o *ordeal) auditDuplicates(came map[string][]request, bound int) {
	o.t.Helper()
	lives := map[string]*life{}
	for _, l := range o.lives {
		lives[l.name] = l
	}
	of := map[string]int{}
	for id, requests := range came {
		var before *request // the last that was acknowledged
		for i := range requests {
			r := &requests[i]
			if before != nil {
				o.duplicates++
				of[before.process]++
				switch l := lives[before.process]; {
				case l == nil:
					o.t.Errorf("a request for %s came from nobody, %q", id, before.process)
				case !l.killed:
					o.t.Errorf("%s for %s came again, and %s, which had delivered it, was not killed", id, r.webhook, l.name)
				case l.ended.Sub(before.answered) > settles:
					o.t.Errorf("%s for %s came again, though it was acknowledged %v before %s was killed", id, r.webhook, l.ended.Sub(before.answered), l.name)
				}
			}
			if r.acked {
				before = r
			}
		}
	}
	o.bound = bound
	for name, n := range of {
		o.most = max(o.most, n)
		if n > bound {
			o.t.Errorf("%d records came again that %s had delivered before it was killed: the bound is %d", n, name, bound)
		}
	}
	o.t.Logf("%s: %d records, %d duplicates, %d at one kill at most; %s", o.engine, o.records, o.duplicates, o.most, counted(o.done))
}
