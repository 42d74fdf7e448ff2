package config

import (
	"crypto/sha256"
	"encoding/hex"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// defaultAck are the words that smarterbot's page names.
var defaultAck = []string{"success", "Success: test request received"}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// webhooks decodes the webhooks; streams says which types there are.
func (d *decoder) webhooks(s *Settings, v value, streams []streamed) {
	const wanted = `a list of webhooks, such as [{chatbot: "CHATBOT_ID", url: "https://crm.example.com/hook"}]`
	if !v.require("write " + wanted) {
		return
	}
	entries, ok := v.list(wanted)
	if !ok {
		return
	}
	if len(entries) == 0 {
		v.fail("is empty; write %s", wanted)
	}
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
		w.URL = at.url(s.HTTP.AllowHTTP)
	}
	w.SignKey = f.at("sign_key").hidden().signKey()
	w.Types = f.at("types").types(known)
	w.Dialect, _ = f.at("dialect").oneOf(d.opts.Dialects, smarterbot, "dialect")
	w.Timezone = f.at("timezone").timezone(s.Timezone)
	w.Schedule = f.at("schedule").schedule(s.Schedule, w.Timezone)
	w.Immediate = f.at("immediate").bool(s.Immediate)
	w.RetryAt = f.at("retry_at").retryAt(w.Dialect)
	w.Ack = f.at("ack").ack()
	w.Headers = f.at("headers").hidden().headers()
	w.From = f.at("from").from()
	w.Description, _ = f.at("description").text("a text")
	return w
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

func (v value) url(allowHTTP bool) jobs.Secret {
	const wanted = "https://HOST/PATH"
	s, settled := v.word(wanted)
	if !settled {
		return jobs.Secret(s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " \t"):
		v.fail("is no URL; write %s, special characters percent-encoded", wanted)
	case u.Scheme == "http" && !allowHTTP:
		v.fail("is not https; write %s, or set http.allow_http: true", wanted)
	case u.Scheme != "https" && u.Scheme != "http":
		v.fail("does not begin with https://; write %s", wanted)
	case u.User != nil:
		v.fail("holds a user or password before @; send them in headers: {Authorization: …}")
	case u.Hostname() == "":
		v.fail("names no host; write %s", wanted)
	case !goodPort(u):
		v.fail("has a port that is none")
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		v.fail("has a # part, which is never sent; leave it out")
	}
	return jobs.Secret(s)
}

func (v value) signKey() jobs.Secret {
	if !v.given() {
		return ""
	}
	s, settled := v.text("the key")
	switch {
	case !settled:
	case s == "":
		v.fail("is empty; leave the key out to have one generated")
	case strings.ContainsAny(s, "\n\r\x00"):
		v.fail("holds a line break, which no key has; a text after | ends in one")
	}
	return jobs.Secret(s)
}

func (v value) types(known types) []string {
	if !v.given() {
		return nil
	}
	const wanted = "a list of types, such as [Lead]"
	items, _ := v.words(wanted, "a type")
	if v.n.kind == list && len(v.n.items) == 0 {
		v.fail("is empty; leave the key out for all types")
	}
	for _, one := range items {
		if !one.settled || !known.known || slices.Contains(known.names, one.word) {
			continue
		}
		instead := "write the type of one of the streams"
		if known.shown {
			instead = choose(one.word, known.names, one.value)
		}
		one.fail("there is no stream of type %s; %s", one.show(), instead)
	}
	return slices.Sorted(slices.Values(texts(items)))
}

// retryAt are the offsets of retries from the first failure.
func (v value) retryAt(dialect string) []time.Duration {
	if !v.given() {
		if v.d.opts.DialectRetryAt == nil {
			return nil
		}
		return slices.Clone(v.d.opts.DialectRetryAt(dialect))
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

// ack are the answers that acknowledge a record.
func (v value) ack() []string {
	if !v.given() {
		return slices.Clone(defaultAck)
	}
	const wanted = "a list of accepted words, such as [success], or 2xx"
	if v.n.kind == scalar {
		s, settled := v.word(wanted)
		if settled && s != jobs.Ack2xx {
			v.fail("%s is a single value; write %s", v.show(), wanted)
		}
		return []string{s}
	}
	items, _ := v.words(wanted, "an accepted word")
	words := texts(items)
	switch {
	case v.n.kind != list:
	case len(v.n.items) == 0:
		v.fail("is empty, so nothing would be accepted; write %s", wanted)
	case len(words) > 1 && slices.Contains(words, jobs.Ack2xx):
		v.fail("2xx accepts any answer, so it stands alone")
	}
	return words
}

// reserved are the headers that are ours or the connection's, in canonical form.
var reserved = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Type": true, "Content-Encoding": true, "User-Agent": true,
	"Accept-Encoding": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true,
	"Proxy-Connection": true, "Proxy-Authorization": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
}

var headerForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

func (v value) headers() map[string]jobs.Secret {
	if !v.given() {
		return nil
	}
	all, ok := v.entries("NAME: VALUE lines")
	if !ok {
		return nil
	}
	headers := map[string]jobs.Secret{}
	first := map[string]int{}
	for _, e := range all {
		name := textproto.CanonicalMIMEHeaderKey(e.name)
		switch line, twice := first[name]; {
		case !headerForm.MatchString(e.name):
			e.key.fail("is no header's name")
		case reserved[name] || strings.HasPrefix(name, "X-Webhook-"):
			e.key.fail("is set by leadrelay itself and cannot be given")
		case twice:
			e.key.fail("is given twice; the first is in line %d (case makes no difference)", line)
		}
		first[name] = e.key.line
		s, settled := e.text("a header's value")
		if settled && strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			e.fail("holds a line break or another control character, which no header can")
		}
		headers[name] = jobs.Secret(s)
	}
	return headers
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
