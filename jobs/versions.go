package jobs

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// undated is the version of a row that has no time to tell it by, in a stream that has versions.
const undated = "undated"

// versionOf is the version of a record's row: "" where its stream has none.
func versionOf(src Source, rec *Record) string {
	if rec.Version == "" && src.Versioned() {
		return undated
	}
	return rec.Version
}

// IDs are the ids that a version may have been entered under: what it goes as depends on what went before.
func (k Key) IDs() []uuid.UUID {
	if k.Version == "" || k.Action == ActionRemove {
		return []uuid.UUID{k.ID()}
	}
	var ids []uuid.UUID
	for _, action := range [...]string{ActionCreate, ActionUpdate} {
		k.Action = action
		ids = append(ids, k.ID())
	}
	return ids
}

// Actions are some of the three; 0 stands for all.
type Actions uint8

const (
	Creates Actions = 1 << iota
	Updates
	Removes
	none // and not all
)

var actionBits = map[string]Actions{ActionCreate: Creates, ActionUpdate: Updates, ActionRemove: Removes}

// Has reports whether the action is one of them.
func (a Actions) Has(action string) bool { return a == 0 || a&actionBits[action] != 0 }

// A RowVersions is what a ledger remembers of one row that was owed to one webhook in several versions.
type RowVersions struct {
	Acked string // the action that was acknowledged last; "": none was
	Tried bool   // something of the row was sent since, acknowledged or not
}

// Action is what a version of the row, drafted as ActionCreate, ActionUpdate or ActionRemove, goes as at a webhook that
// wants to hear of these; "": it is not owed. A CRM that acknowledged nothing of a row has to be told of it anew, whatever
// changed; one that was sent nothing need not hear that it is gone, unless it never hears of new rows. Where a removal was
// sent and not acknowledged the CRM may have heeded it: one that does not hear of changes is then told of the row anew.
func (v RowVersions) Action(drafted string, wanted Actions) string {
	there := v.Acked == ActionCreate || v.Acked == ActionUpdate
	action := drafted
	switch {
	case drafted == ActionRemove && !there && !v.Tried && (v.Acked != "" || wanted.Has(ActionCreate)):
		return ""
	case drafted == ActionCreate && there && !(v.Tried && wanted.Has(ActionRemove) && !wanted.Has(ActionUpdate)):
		action = ActionUpdate
	}
	if !wanted.Has(action) {
		return ""
	}
	return action
}

// wantedActions are those of a type's events that a webhook wants and its dialect can tell.
func wantedActions(sink Sink, w *Webhook, typ string) Actions {
	wanted := none
	for action, bit := range actionBits {
		event, told := sink.Event(w.Dialect, typ, action)
		if told && (len(w.Events) == 0 || event == "" || slices.Contains(w.Events, event)) {
			wanted |= bit
		}
	}
	return wanted
}

// drafted is the action that a record is drafted with for a webhook that wants these; "": the record is not for it.
// For one that wants to hear of changes and not of new rows, what was acknowledged says nothing: the row's own times
// tell whether it was changed.
func drafted(wanted Actions, rec *Record) string {
	switch {
	case rec.Action == ActionRemove && wanted.Has(ActionRemove):
		return ActionRemove
	case rec.Action == ActionRemove:
		return ""
	case wanted.Has(ActionCreate):
		return ActionCreate
	case wanted.Has(ActionUpdate) && rec.Updated.After(rec.Created):
		return ActionUpdate
	}
	return ""
}

// newer is the delivery of the version that a row has now, in place of d, whose version is another.
func newer(d Delivery, version, action string, rec *Record, wanted Actions, now time.Time) Delivery {
	n := Delivery{
		Key:     Key{Webhook: d.Webhook, Type: d.Type, Row: d.Row, Version: version, Action: action},
		Chatbot: rec.Chatbot, State: Pending, SeenAt: now, NotBefore: d.NotBefore, NextAt: now.Add(rec.Hold),
		Run: d.Run, Wanted: wanted,
	}
	n.ID = n.Key.ID()
	return n
}
