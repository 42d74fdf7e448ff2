package ledger

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// enter says what becomes of a version that was seen; ok: it is entered, as the delivery returned.
func (v *heldRows) enter(d jobs.Delivery) (jobs.Delivery, bool) {
	for _, id := range d.Key.IDs() {
		if _, known := v.known[id]; known {
			return d, false
		}
	}
	r := v.rows[rowOf(&d)]
	open, behind := v.byID[r.open], v.byID[r.behind]
	under := open.isOpen() && open.state == string(jobs.Sending)
	went := r.RowVersions
	if under { // how that ends says what this goes as; most are acknowledged
		went = jobs.RowVersions{Acked: open.action, Tried: d.Action == jobs.ActionRemove}
	}
	d.Action = went.Action(d.Action, d.Wanted)
	if d.Action == "" {
		return d, false
	}
	d.ID = d.Key.ID()
	v.known[d.ID] = false
	if behind.isOpen() {
		v.supersede(behind)
		r.behind = ""
	}
	if open.isOpen() && !under {
		v.supersede(open)
	}
	if !under {
		r.open = ""
	}
	if d.State == jobs.Pending {
		if under {
			d.NotBefore, d.NextAt = latest(d.NextAt, d.NotBefore), time.Time{}
			r.behind, r.wanted = d.ID.String(), d.Wanted
			v.waiting = append(v.waiting, r.behind)
		} else {
			r.open = d.ID.String()
		}
		v.byID[d.ID.String()] = &version{
			id: d.ID.String(), state: string(jobs.Pending), version: d.Version, action: d.Action, run: d.Run, notBefore: d.NotBefore,
		}
	}
	v.entered = append(v.entered, d)
	return d, true
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// supersede ends a pending version. It leaves its run, where the one that goes instead takes its place, and is not counted
// as dead: its row is still owed.
func (v *heldRows) supersede(o *version) {
	o.state = string(jobs.Dead)
	v.superseded = append(v.superseded, o.id)
	v.leave(o.run, o.carried, o.spent)
}

// leave takes a delivery out of its run's counts.
func (v *heldRows) leave(run string, carried, spent bool) {
	c := v.runs.of(run)
	if carried {
		c.carried--
	} else {
		c.gathered--
	}
	if spent {
		c.failed--
	}
}

// withdraw ends a version in place of which nothing is owed.
func (v *heldRows) withdraw(webhook string, o *version) {
	o.state = string(jobs.Dead)
	v.withdrawn = append(v.withdrawn, o.id)
	v.dead[webhook]++
	c := v.runs.of(o.run)
	c.dead++
	if o.spent {
		c.failed--
	}
}

// settled says what follows from an outcome that was recorded: what waited for it goes, or what it names goes instead.
// Where nothing is owed in place of it, it is withdrawn and not superseded; was is what the ledger knew of it.
func (v *heldRows) settled(o *jobs.Outcome, was stood) {
	d := &o.Delivery
	r := v.rows[rowOf(d)]
	if r == nil {
		return
	}
	r.Tried = r.Tried || o.Attempt != nil
	if d.State == jobs.Delivered {
		r.Acked, r.Tried = d.Action, false
	}
	if r.open != d.ID.String() || d.State == jobs.Pending {
		return
	}
	r.open = ""
	behind := v.byID[r.behind]
	if behind.isOpen() { // whatever o.Newer is: it may have been read before what waits, which is read again when it goes
		v.next(r, behind, d)
		return
	}
	if o.Newer == nil {
		return
	}
	if v.revive(r, o.Newer) {
		return
	}
	if _, entered := v.enter(*o.Newer); !entered && o.Newer.Action == jobs.ActionRemove {
		if was.carried { // it has left its run as one that is superseded
			v.runs.of(was.run).carried++
		} else {
			v.runs.of(was.run).gathered++
		}
		v.withdraw(d.Webhook, &version{id: d.ID.String(), run: was.run})
	}
}

// revive lets a version go again that one superseded which had been read before it, and was entered after it: the row
// is as it says.
func (v *heldRows) revive(r *tracked, newer *jobs.Delivery) bool {
	for _, id := range newer.Key.IDs() {
		if !v.known[id] {
			continue
		}
		key := newer.Key
		if key.Action = r.Action(key.Action, newer.Wanted); key.Action == "" {
			return false
		}
		f := following{id: id.String(), newID: key.ID().String(), action: key.Action, at: latest(v.t.now, newer.NextAt), revived: true, run: newer.Run}
		v.follow = append(v.follow, f)
		v.due.add(newer.Webhook, f.at)
		v.runs.of(f.run).gathered++
		r.open = f.newID
		return true
	}
	return false
}

// next lets a version go that waited for d.
func (v *heldRows) next(r *tracked, behind *version, d *jobs.Delivery) {
	r.behind = ""
	drafted := behind.action
	if drafted == jobs.ActionUpdate && r.wanted.Has(jobs.ActionCreate) { // as it was, before d said what it would go as
		drafted = jobs.ActionCreate
	}
	action := r.Action(drafted, r.wanted)
	if action == "" {
		v.withdraw(d.Webhook, behind)
		return
	}
	key := jobs.Key{Webhook: d.Webhook, Type: d.Type, Row: d.Row, Version: behind.version, Action: action}
	f := following{id: behind.id, newID: key.ID().String(), action: action, at: latest(v.t.now, behind.notBefore)}
	v.follow = append(v.follow, f)
	v.due.add(d.Webhook, f.at)
	r.open = f.newID
}
