package sinks

import (
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// A naming is Names, completed: its keys are in lower case, and it has a verb for every action.
type naming struct{ Names }

// pastTense is how most vendors name events.
var pastTense = map[string]string{jobs.ActionCreate: "created", jobs.ActionUpdate: "updated", jobs.ActionRemove: "deleted"}

// of returns what a type and an action are called.
func (n *naming) of(typ, action string) (noun, verb string) {
	if action == "" {
		action = jobs.ActionCreate
	}
	noun = typ
	if dot := strings.LastIndexByte(typ, '.'); dot > 0 && dot < len(typ)-1 {
		own, known := n.Verbs[strings.ToLower(typ[dot+1:])]
		if n.Verbs == nil {
			own, known = typ[dot+1:], true
		}
		if known {
			noun, verb = typ[:dot], own
		}
	}
	if len(n.Types) > 0 {
		if word, known := n.Types[strings.ToLower(noun)]; known {
			noun = word
		}
	}
	switch {
	case action != jobs.ActionCreate:
		return noun, n.Actions[action]
	case verb != "":
		return noun, verb
	case n.New[noun] != "":
		return noun, n.New[noun]
	}
	return noun, n.Actions[action]
}

// event is what a noun and a verb are together.
func (n *naming) event(noun, verb string) string {
	if n.Event == "" {
		return noun + "." + verb
	}
	return strings.NewReplacer(eventType, noun, eventAction, verb).Replace(n.Event)
}

// What stands for a noun and a verb in Names.Event.
const (
	eventType   = "{type}"
	eventAction = "{action}"
)

// Event is the name of what a record of this type and action tells, such as note.created; "" where the dialect has no
// such names.
func (d *Dialect) Event(typ, action string) string {
	if !d.body.tells {
		return ""
	}
	return d.names.event(d.names.of(typ, action))
}

// Choose says what the words in a webhook's types, or in a vendor's registration, stand for among the streams' types: one
// event, such as response.updated, of all types whose rows tell it; else a type by its name; else all types that a group
// has, as smartlook's notes are notes and comments. events names those that are wanted of these types, whichever type
// they are of; none: all, for no word is an event. unknown are the words that stand for nothing.
func (d *Dialect) Choose(words, streams []string) (types, events, unknown []string) {
	chosen := false // by event
	for _, word := range words {
		known := false
		for _, typ := range streams {
			actions, event := d.meant(word, typ)
			if len(actions) == 0 {
				continue
			}
			known, chosen = true, chosen || event
			types = append(types, typ)
			for _, action := range actions {
				events = append(events, d.Event(typ, action))
			}
		}
		if !known {
			unknown = append(unknown, word)
		}
	}
	slices.Sort(types)
	slices.Sort(events)
	if !chosen {
		events = nil
	}
	return slices.Compact(types), slices.Compact(events), unknown
}

var everyAction = []string{jobs.ActionCreate, jobs.ActionUpdate, jobs.ActionRemove}

// meant are the actions of a type's records that a word stands for; event: because it is the name of an event.
func (d *Dialect) meant(word, typ string) (actions []string, event bool) {
	for _, action := range everyAction {
		if d.Event(typ, action) == word {
			actions = append(actions, action)
		}
	}
	if len(actions) > 0 {
		return actions, true
	}
	noun, _ := d.names.of(typ, jobs.ActionCreate)
	if typ == word || slices.Contains(d.names.Groups[word], noun) {
		return everyAction, false
	}
	return nil, false
}
