package sinks

import (
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// A naming says what a dialect calls the things that happen. A stream's type is the operator's own word, such as
// feedback, or word and verb with a dot between, such as feedback.voted: then it says what happens, too.
type naming struct {
	nouns  map[string]string   // the page's word for a type, by that type in lower case; other types stand as they are
	verbs  map[string]string   // the page's verb, by a type's own; nil: any verb stands as it is
	create map[string]string   // by noun, the verb for a new row, where it is another than by action
	action map[string]string   // the verb, by a record's action
	groups map[string][]string // nouns, by the word that stands for all of them
}

// pastTense is how most vendors name events.
var pastTense = map[string]string{jobs.ActionCreate: "created", jobs.ActionUpdate: "updated", jobs.ActionRemove: "deleted"}

// of returns what a type and an action are called.
func (n *naming) of(typ, action string) (noun, verb string) {
	if action == "" {
		action = jobs.ActionCreate
	}
	noun = typ
	if dot := strings.LastIndexByte(typ, '.'); dot > 0 && dot < len(typ)-1 {
		own, known := n.verbs[strings.ToLower(typ[dot+1:])]
		if n.verbs == nil {
			own, known = typ[dot+1:], true
		}
		if known {
			noun, verb = typ[:dot], own
		}
	}
	if word, known := n.nouns[strings.ToLower(noun)]; known {
		noun = word
	}
	switch {
	case action != jobs.ActionCreate:
		return noun, n.action[action]
	case verb != "":
		return noun, verb
	case n.create[noun] != "":
		return noun, n.create[noun]
	}
	return noun, n.action[action]
}

// Event is the name of what a record of this type and action tells, such as note.created; "" where the dialect has no
// such names.
func (d *Dialect) Event(typ, action string) string {
	if d.names.action == nil {
		return ""
	}
	noun, verb := d.names.of(typ, action)
	return noun + "." + verb
}

// Types returns those of the streams' types that a word stands for in a webhook's types or in a vendor's registration:
// the type of that name; all that a group has, as smartlook's notes are notes and comments; else those whose new rows
// are an event of that name.
func (d *Dialect) Types(word string, streams []string) []string {
	var all []string
	group := d.names.groups[word]
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
