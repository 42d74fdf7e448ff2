package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

var dialectForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// dialects decodes the file's own dialects, and gives the registry of them and those that are known anyway. What a
// dialect's parts mean, package sinks knows: what it finds wrong is said at the part's place.
func (d *decoder) dialects(v value) *sinks.Registry {
	if !v.given() {
		return d.opts.Dialects
	}
	all, ok := v.entries("NAME: {…} for each dialect, such as acme: {extends: smartsurvey}")
	if !ok {
		return d.opts.Dialects
	}
	var own []sinks.Definition
	places := map[string]value{}
	for _, e := range all {
		if !dialectForm.MatchString(e.name) {
			e.key.fail("is no dialect's name; it has letters, digits, - and _ only, at most 64")
			continue
		}
		found := len(d.mistakes)
		e.noReferences()
		definition := d.dialect(e)
		if len(d.mistakes) == found { // else much would be said twice
			own = append(own, definition)
			places[e.name] = e.value
		}
	}
	registry, faults := d.opts.Dialects.With(own)
	for _, fault := range faults {
		places[fault.Dialect].down(fault.Part).fail("%s", fault.Text)
	}
	// For webhooks that name a dialect with mistakes it is there all the same, with nothing of its own.
	if len(faults) > 0 || len(own) < len(all) {
		own = nil
		for _, e := range all {
			if _, known := d.opts.Dialects.Lookup(e.name); !known {
				own = append(own, sinks.Definition{Name: e.name, Extends: sinks.DefaultDialect})
			}
		}
		registry, _ = d.opts.Dialects.With(own)
	}
	return registry
}

// noReferences reports references: a dialect is known before anything is expanded, and holds no secrets.
func (v value) noReferences() {
	switch v.n.kind {
	case scalar:
		if strings.Contains(v.n.text, "${") {
			v.fail("${…} is not expanded in dialects; a secret stands in a webhook's headers or sign_key")
		}
	case list:
		items, _ := v.list("")
		for _, item := range items {
			item.noReferences()
		}
	case mapping:
		for _, p := range v.n.pairs {
			v.down([]string{p.key.text}).noReferences()
		}
	}
}

// down is the place of a part, by the keys that lead to it; of one that was left out, or that a word stands for, the
// place that it is missing from.
func (v value) down(keys []string) value {
	for _, key := range keys {
		below := v
		below.path = keyPath(v.path, key)
		if v.n != nil && v.n.kind == mapping {
			below.n = nil
			for _, p := range v.n.pairs {
				if p.key.text == key {
					below.n, below.line, below.col = p.value, p.value.line, p.value.col
				}
			}
		}
		v = below
	}
	return v
}

func (d *decoder) dialect(e entry) sinks.Definition {
	definition := sinks.Definition{Name: e.name}
	f, ok := e.fields("dialects.*")
	if !ok {
		return definition
	}
	word := func(key, wanted string) string {
		s, _ := f.at(key).word(wanted)
		return s
	}
	definition.Extends = word("extends", "a built-in dialect's name, such as smartsurvey")
	definition.Time = sinks.TimeForm(word("time", "a form of times, such as milliseconds"))
	definition.ContentType = word("content_type", "a content type, such as application/json")
	definition.UserAgent = word("user_agent", "a text")
	if times := f.at("times"); times.given() {
		items, _ := times.words("a list of fields' names, such as [createdAt]", "a field's name")
		definition.Times = texts(items)
	}
	definition.Headers = f.at("headers").wordMap("NAME: VALUE lines", "a header's value", false)
	if body := f.at("body"); body.given() {
		definition.Body = body.members()
	}
	if names := f.at("names"); names.given() {
		definition.Names = names.names()
	}
	definition.Signature = f.at("signature").signature()
	definition.Key = f.at("key").keyRule()
	definition.Ack = f.at("ack").ack(nil)
	definition.RetryAt = f.at("retry_at").retryAt(nil)
	if once := f.at("one_round"); once.given() {
		definition.OneRound = new(once.bool(false))
	}
	return definition
}

// flat as a body is that of fields alone.
const flat = "flat"

// wantedMember is what may stand as a body's member.
const wantedMember = "event, type, action, time, created, chatbot, data, field, or such as {field: NAME}, {object: NAME}, {const: VALUE}"

// members decodes a body: {NAME: KIND, NAME: {KIND: FIELD}}, or flat.
func (v value) members() []sinks.Member {
	if v.n.kind == scalar {
		if v.n.text != flat {
			v.fail("%s is no body; write its members, such as {event: event, data: data}, or flat", v.show())
		}
		return []sinks.Member{{Name: sinks.Spread, Is: sinks.IsData}}
	}
	all, ok := v.entries("the body's members, such as {event: event, data: data}, or flat")
	if !ok {
		return nil
	}
	members := []sinks.Member{}
	for _, e := range all {
		m := sinks.Member{Name: e.name}
		switch {
		case e.n.kind == mapping:
			e.member(&m)
		default:
			s, settled := e.word(wantedMember)
			m.Is = sinks.MemberKind(s)
			if known := slices.Contains(sinks.MemberKinds, m.Is); settled && (!known || m.Is == sinks.IsConst) {
				e.fail("%s is no kind of member; write %s", e.show(), wantedMember)
			}
		}
		members = append(members, m)
	}
	return members
}

// member decodes {KIND: FIELD}.
func (e entry) member(m *sinks.Member) {
	f, ok := e.fields("dialects.*.body.*")
	if !ok {
		return
	}
	for _, kind := range []sinks.MemberKind{sinks.IsField, sinks.IsCopy, sinks.IsText, sinks.IsInteger, sinks.IsObject, sinks.IsConst} {
		at := f.at(string(kind))
		switch {
		case !at.given():
			continue
		case m.Is != "":
			at.fail("is given beside %s; a member is one of them", m.Is)
		case kind == sinks.IsConst:
			m.Const = at.constant("")
		default:
			m.Field, _ = at.word("a field's name")
		}
		m.Is = kind
	}
	always, chatbot := f.at("always"), f.at("chatbot")
	if always.given() {
		items, _ := always.words("a list of members, such as [id, name]", "a member's name")
		m.Always = texts(items)
	}
	m.Chatbot, _ = chatbot.word("a member's name, such as id")
	switch {
	case m.Is == "":
		e.fail("says nothing of what it holds; write %s", wantedMember)
	case m.Is != sinks.IsObject && always.given():
		always.fail("is for objects only")
	case m.Is != sinks.IsObject && chatbot.given():
		chatbot.fail("is for objects only; a member that is the chatbot is written NAME: chatbot")
	}
}

func (v value) names() sinks.Names {
	var n sinks.Names
	f, ok := v.fields("dialects.*.names")
	if !ok {
		return n
	}
	n.Types = f.at("types").wordMap("TYPE: WORD lines", "the dialect's word for the type", true)
	n.Verbs = f.at("verbs").wordMap("VERB: WORD lines", "the dialect's word for the verb", true)
	n.New = f.at("new").wordMap("WORD: VERB lines", "the verb for a new one", false)
	if actions := f.at("actions"); actions.given() {
		n.Actions = map[string]string{}
		of, _ := actions.fields("dialects.*.names.actions")
		for _, action := range []string{jobs.ActionCreate, jobs.ActionUpdate, jobs.ActionRemove} {
			if at := of.at(action); at.given() {
				n.Actions[action], _ = at.word("the dialect's verb, such as created")
			}
		}
	}
	if groups := f.at("groups"); groups.given() {
		n.Groups = map[string][]string{}
		all, _ := groups.entries("WORD: [WORD, …] lines")
		for _, e := range all {
			items, _ := e.words("a list of the dialect's words for types", "a word")
			n.Groups[e.name] = texts(items)
		}
	}
	n.Event, _ = f.at("event").word("how an event is written, such as {type}.{action}")
	return n
}

// wordMap decodes a mapping whose keys are the operator's; caseless: its keys are compared without case.
func (v value) wordMap(wanted, each string, caseless bool) map[string]string {
	if !v.given() {
		return nil
	}
	all, ok := v.entries(wanted)
	if !ok {
		return nil
	}
	words, first := map[string]string{}, map[string]int{}
	for _, e := range all {
		if folded := strings.ToLower(e.name); caseless {
			if line, twice := first[folded]; twice {
				e.key.twice(line, " (case makes no difference)")
			}
			first[folded] = e.key.line
		}
		words[e.name], _ = e.word(each)
	}
	return words
}

func (v value) signature() sinks.Signature {
	const wanted = `none, standard-webhooks, or such as {header: X-Signature, form: hex, prefix: "sha256="}`
	var s sinks.Signature
	if !v.given() {
		return s
	}
	if v.n.kind != mapping {
		form, _ := v.word(wanted)
		s.Form = sinks.SignatureForm(form)
		return s
	}
	f, _ := v.fields("dialects.*.signature")
	form, _ := f.at("form").word("a form of signatures, such as hex")
	s.Form = sinks.SignatureForm(form)
	s.Header, _ = f.at("header").word("a header's name, such as X-Signature")
	s.Prefix, _ = f.at("prefix").word("a text such as sha256=")
	return s
}

func (v value) keyRule() sinks.KeyRule {
	var k sinks.KeyRule
	if !v.given() {
		return k
	}
	if v.n.kind != mapping {
		use, _ := v.word("required, optional, or such as {use: optional, form: base64}")
		k.Use = sinks.KeyUse(use)
		return k
	}
	f, _ := v.fields("dialects.*.key")
	use, _ := f.at("use").word("required or optional")
	form, _ := f.at("form").word("a form of keys, such as hex")
	k.Use, k.Form = sinks.KeyUse(use), sinks.KeyForm(form)
	k.Prefix, _ = f.at("prefix").word("a text that keys begin with")
	return k
}
