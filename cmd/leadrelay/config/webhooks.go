package config

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// webhooks decodes the webhooks; streams says which types there are.
func (d *decoder) webhooks(s *Settings, v value, streams []streamed) {
	if s.Rows != nil && !v.given() {
		return // they are in the platform's own table
	}
	const wanted = `a list of webhooks, such as [{chatbot: "CHATBOT_ID", url: "https://crm.example.com/hook"}]`
	if !v.require("write " + wanted + ", or [] where webhooks are entered with leadrelay webhook add") {
		return
	}
	entries, ok := v.list(wanted)
	if !ok {
		return
	}
	// An empty list is meant: such webhooks are entered by hand, beside the file.
	types := typesOf(s, streams)
	first := map[string]string{}
	for _, e := range entries {
		w := d.webhook(s, e, types)
		s.Webhooks = append(s.Webhooks, w)
		if w.ID == "" {
			continue
		}
		if other, twice := first[w.ID]; twice {
			if id := e.at("id"); id.path != e.path {
				id.fail("%s is %s's id already", id.show(), other)
			} else {
				id.fail("the id made from its chatbot is %s's already; give it an id of its own", other)
			}
			continue
		}
		first[w.ID] = e.path
	}
	sharedKeys(s.Webhooks, entries)
}

// sharedKeys finds webhooks that cannot sign with the key that they name. One that is not in the file may be in the
// ledger.
func sharedKeys(webhooks []jobs.Webhook, entries []value) {
	named := map[string]string{}
	for i := range webhooks {
		named[webhooks[i].ID] = webhooks[i].SignKeyOf
	}
	for i, w := range webhooks {
		if w.SignKeyOf == "" || entries[i].n.kind != mapping {
			continue
		}
		switch of := named[w.SignKeyOf]; {
		case w.SignKeyOf == w.ID:
			entries[i].at("sign_key_of").fail("names the webhook itself; leave the key out")
		case of != "":
			entries[i].at("sign_key_of").fail("names a webhook that signs with another's key itself; name %s", quote(of))
		}
	}
}

// types are what there are streams of.
type types struct {
	known bool // all of them
	shown bool // and they may be shown
	names []string
}

func typesOf(s *Settings, streams []streamed) types {
	all := types{known: true, shown: true}
	for i, stream := range streams {
		all.known = all.known && stream.typeKnown
		all.shown = all.shown && stream.typeShown
		if stream.typeKnown {
			all.names = append(all.names, s.Streams[i].Type)
		}
	}
	return all
}

func (d *decoder) webhook(s *Settings, v value, known types) jobs.Webhook {
	w := jobs.Webhook{Origin: d.abs, From: "now"}
	f, ok := v.fields("webhooks[]")
	if !ok {
		return w
	}
	var settled bool
	if chatbot := f.at("chatbot"); chatbot.require(`write a chatbot's id, a list of them, or "*" for all`) {
		w.Chatbots, settled = chatbot.chatbots()
	}
	if id := f.at("id"); id.given() {
		if w.ID, settled = id.word("an id"); !settled {
			w.ID = ""
		} else if !idForm.MatchString(w.ID) {
			id.fail("%s is no id; it has letters, digits, - and _ only, at most 64", id.show())
			w.ID = ""
		}
	} else if settled {
		w.ID = defaultID(w.Chatbots)
	}
	if at := f.at("url").hidden(); at.require("write where the records go, such as https://crm.example.com/hook") {
		w.URL = at.url(s.HTTP)
	}
	w.Dialect, _ = f.at("dialect").oneOf(s.Dialects.Names(), sinks.DefaultDialect, "dialect")
	dialect, ok := s.Dialects.Lookup(w.Dialect)
	if !ok { // is reported
		dialect, _ = s.Dialects.Lookup(sinks.DefaultDialect)
	}
	w.SignKey = f.at("sign_key").hidden().signKey(s.Dialects, dialect.Name)
	w.SignKeyOf = f.at("sign_key_of").signKeyOf(f.at("sign_key"))
	w.Types, w.Events = f.at("types").types(known, dialect)
	w.Timezone = f.at("timezone").timezone(s.Timezone)
	w.Schedule = f.at("schedule").schedule(s.Schedule, w.Timezone)
	w.Immediate = f.at("immediate").bool(s.Immediate)
	w.RetryAt = f.at("retry_at").retryAt(dialect.RetryAt)
	w.Rate = f.at("rate").rate()
	w.Ack = f.at("ack").ack(dialect.Ack)
	w.Headers = f.at("headers").hidden().headers(s.Dialects, dialect.Name)
	w.From = f.at("from").from()
	w.Description, _ = f.at("description").text("a text")
	return w
}

// rate is how many requests in a time; none where it is left out.
func (v value) rate() (r jobs.Rate) {
	if !v.given() {
		return r
	}
	s, settled := v.word("a rate, such as 5/s or 100/m")
	if !settled {
		return r
	}
	r, err := jobs.ParseRate(s)
	if err != nil || s == "" {
		v.fail("%s is no rate; write requests and a time, such as 5/s, 100/m, 1000/h or 20/d, at most %d/s", v.show(), jobs.MostRequests)
	}
	return r
}

// chatbots is one, a list of them, or all.
func (v value) chatbots() (all []string, settled bool) {
	const each = "a chatbot's id"
	if v.n.kind != list {
		s, settled := v.word(`a chatbot's id, a list of them, or "*" for all`)
		return []string{s}, settled
	}
	items, settled := v.words("a list of chatbots' ids", each)
	all = texts(items)
	switch {
	case len(v.n.items) == 0:
		v.fail(`is empty; write a chatbot's id, a list of them, or "*" for all`)
		return nil, false
	case len(all) > 1 && slices.Contains(all, jobs.AllChatbots):
		v.fail(`"*" means every chatbot, so it stands alone`)
		return all, false
	}
	return all, settled
}

// defaultID is the id of a webhook that is given none. It is made of the chatbots alone, so that another URL, key or
// type leaves the webhook what it is.
func defaultID(chatbots []string) string {
	if len(chatbots) == 1 {
		if chatbots[0] == jobs.AllChatbots {
			return "all"
		}
		if idForm.MatchString(chatbots[0]) {
			return chatbots[0]
		}
	}
	sorted := slices.Sorted(slices.Values(chatbots))
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\x00")))
	return "chatbots-" + hex.EncodeToString(sum[:6])
}

// types are the types and the events that a webhook wants; none: all.
func (v value) types(known types, dialect *sinks.Dialect) (all, events []string) {
	if !v.given() {
		return nil, nil
	}
	const wanted = "a list of types, such as [Lead]"
	if v.n.kind == scalar { // a single one needs no brackets
		v.n = &node{kind: list, line: v.n.line, col: v.n.col, size: 2, items: []*node{v.n}}
	}
	items, _ := v.words(wanted, "a type")
	if v.n.kind == list && len(v.n.items) == 0 {
		v.fail("is empty; leave the key out for all types")
	}
	var settled []item
	for _, one := range items {
		if one.settled && known.known {
			settled = append(settled, one)
		} else {
			all = append(all, one.word)
		}
	}
	meant, events, unknown := dialect.Choose(texts(settled), known.names)
	all = append(all, meant...)
	for _, one := range settled {
		if !slices.Contains(unknown, one.word) {
			continue
		}
		all = append(all, one.word)
		instead := "write the type of one of the streams"
		if known.shown {
			instead = choose(one.word, known.names, one.value)
		}
		one.fail("there is no stream of type %s; %s", one.show(), instead)
	}
	slices.Sort(all)
	return slices.Compact(all), events
}

// retryAt are the offsets of retries from the first failure; otherwise where they are left out.
func (v value) retryAt(otherwise []time.Duration) []time.Duration {
	if !v.given() {
		return slices.Clone(otherwise)
	}
	const most = 100
	entries, ok := v.list("a list of durations, such as [1m, 3m], or [] for no retries")
	if len(entries) > most {
		v.fail("has more than %d retries", most)
		ok = false
	}
	if !ok {
		return nil
	}
	offsets := []time.Duration{}
	for _, e := range entries {
		offset, ok := e.span(time.Millisecond, 30*day)
		if !ok {
			continue
		}
		if n := len(offsets); n > 0 && offset <= offsets[n-1] {
			e.fail("%s is not after the retry before it; all count from the first failure", e.show())
			continue
		}
		offsets = append(offsets, offset)
	}
	return offsets
}

// from is where a new webhook begins: now, beginning, or a time in RFC 3339.
func (v value) from() string {
	if !v.given() {
		return "now"
	}
	const wanted = "now, beginning, or a time such as 2026-01-31T00:00:00Z"
	s, settled := v.word(wanted)
	if !settled || s == "now" || s == "beginning" {
		return s
	}
	if at, err := time.Parse(time.DateOnly, s); err == nil {
		return at.Format(time.RFC3339)
	}
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		v.fail("%s is no time; write %s", v.show(), wanted)
	}
	return s
}

// webhookSource is the query of the platform's own table of webhooks; nil where there is none.
func (d *decoder) webhookSource(v value) *WebhookSource {
	if !v.given() {
		return nil
	}
	f, ok := v.fields("webhook_source")
	s := &WebhookSource{Every: f.at("every").duration(time.Minute, time.Second, day)}
	query := f.at("query")
	if !ok || !query.require("write the SELECT whose rows are webhooks, such as SELECT id, chatbot, url FROM customer_webhooks") {
		return s
	}
	if query.n.kind == scalar && strings.TrimSpace(query.n.text) == "" {
		return nil
	}
	s.Query = query.sql()
	return s
}
