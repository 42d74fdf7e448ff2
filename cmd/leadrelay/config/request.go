package config

import (
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

func (v value) url(h HTTP) jobs.Secret {
	const wanted = "https://HOST/PATH"
	s, settled := v.word(wanted)
	if !settled {
		return jobs.Secret(s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " \t"):
		v.fail("is no URL; write %s, special characters percent-encoded", wanted)
	case u.Scheme == "http" && !h.AllowHTTP:
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
	default:
		if _, err := sinks.ParseURL(jobs.Secret(s), h.AllowHTTP); err != nil {
			v.fail("%v", err)
		} else if h.bars(u.Hostname()) {
			v.fail("names a loopback, private or reserved address; http.allow_cidrs or http.allow_private opens it")
		}
	}
	return jobs.Secret(s)
}

// bars reports whether a host is an address that is never connected to.
func (h HTTP) bars(host string) bool {
	var open []netip.Prefix
	for _, text := range h.AllowCIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return false // a reference that is not expanded now
		}
		open = append(open, prefix)
	}
	return !h.AllowPrivate && sinks.Barred(host, open)
}

// signKey is a key that requests of a dialect are signed with.
func (v value) signKey(dialects *sinks.Registry, dialect string) jobs.Secret {
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
	default:
		if err := dialects.CheckKey(dialect, jobs.Secret(s)); err != nil {
			v.fail("%v", err)
		}
	}
	return jobs.Secret(s)
}

// signKeyOf is the id of the webhook whose keys sign; key is the webhook's own, which excludes it.
func (v value) signKeyOf(key value) string {
	if !v.given() {
		return ""
	}
	id, settled := v.word("a webhook's id")
	if settled && !idForm.MatchString(id) {
		v.fail("%s is no webhook's id; it has letters, digits, - and _ only, at most 64", v.show())
		return ""
	}
	if key.given() {
		v.fail("stands beside sign_key; a webhook signs with its own key or with another's")
	}
	return id
}

// ack are the answers that acknowledge a record, as jobs.Webhook.Ack has them; otherwise where they are left out.
func (v value) ack(otherwise []string) []string {
	if !v.given() {
		return slices.Clone(otherwise)
	}
	const wanted = "a list of accepted words, such as [success], or 2xx, gohighlevel, {path: result.ok, equals: [true]}"
	switch v.n.kind {
	case scalar:
		s, settled := v.word(wanted)
		if settled && !slices.Contains(jobs.AckPresets, s) {
			v.fail("%s is a single value; write %s", v.show(), wanted)
		}
		return []string{s}
	case mapping:
		return v.ackRule()
	}
	items, _ := v.words(wanted, "an accepted word")
	words := texts(items)
	switch {
	case v.n.kind != list:
	case len(v.n.items) == 0:
		v.fail("is empty, so nothing would be accepted; write %s", wanted)
	case len(words) > 1:
		for _, preset := range jobs.AckPresets {
			if slices.Contains(words, preset) {
				v.fail("%s is a rule of its own, so it stands alone", preset)
			}
		}
	}
	return words
}

// ackRule is the answer rule {path: result.ok, equals: [x], prefix: [y]}.
func (v value) ackRule() []string {
	f, ok := v.fields("webhooks[].ack")
	if !ok {
		return nil
	}
	var r jobs.AckRule
	path, settled := f.at("path"), false
	if path.require("write a member's name, or names with dots between, such as result.ok") {
		r.Path, settled = path.word("a member's name, such as result.ok")
	}
	given := false
	for key, into := range map[string]*[]string{"equals": &r.Equals, "prefix": &r.Prefix} {
		at := f.at(key)
		if !at.given() {
			continue
		}
		given = true
		items, _ := at.words("a list, such as [ok]", "a text")
		if at.n.kind == list && len(at.n.items) == 0 {
			at.fail("is empty; leave the key out")
		}
		*into = texts(items)
	}
	if !given {
		v.fail("accepts nothing; give it equals: [VALUE, …] or prefix: [TEXT, …]")
	}
	if settled && given {
		if err := (jobs.AckRule{Path: r.Path, Equals: []string{"x"}}).Check(); err != nil {
			path.fail("%s is no path; write a member's name, or names with dots between, such as result.ok", path.show())
		}
	}
	return r.Ack()
}

// reserved are the headers that are ours or the connection's, in canonical form.
var reserved = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Type": true, "Content-Encoding": true, "User-Agent": true,
	"Accept-Encoding": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true,
	"Proxy-Connection": true, "Proxy-Authorization": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
}

var headerForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

// headers are the static headers of requests of a dialect.
func (v value) headers(dialects *sinks.Registry, dialect string) map[string]jobs.Secret {
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
			e.key.twice(line, " (case makes no difference)")
		default:
			if err := dialects.CheckHeaders(dialect, map[string]jobs.Secret{name: ""}); err != nil { // the dialect's own
				e.key.fail("%v", err)
			}
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
