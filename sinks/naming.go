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

// Types returns those of the streams' types that a word stands for in a webhook's types or in a vendor's registration:
// the type of that name; all that a group has, as smartlook's notes are notes and comments; else those whose new rows
// are an event of that name.
func (d *Dialect) Types(word string, streams []string) []string {
	var all []string
	group := d.names.Groups[word]
	for _, typ := range streams {
		noun, _ := d.names.of(typ, jobs.ActionCreate)
		switch {
		case slices.Contains(group, noun):
		case typ == word:
		case !slices.Contains(streams, word) && d.Event(typ, jobs.ActionCreate) == word:
		default:
			continue
		}
		all = append(all, typ)
	}
	return all
}
