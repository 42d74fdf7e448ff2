package config

import (
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// defaultAck are the words that smarterbot's page names.
var defaultAck = []string{"success", "Success: test request received"}

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
