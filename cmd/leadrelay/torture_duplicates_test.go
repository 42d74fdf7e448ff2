package main

import (
	"slices"
	"time"
)

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
