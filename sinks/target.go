package sinks

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// ParseURL reads a webhook's URL and checks what can be checked without the network. Errors say what to write and
// never show the URL, which may be a secret.
func ParseURL(raw jobs.Secret, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(raw.Reveal())
	if err != nil { // its text holds the URL
		return nil, errors.New("is no URL; write https://host/path")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && allowHTTP:
	case u.Scheme == "http":
		return nil, errPlainHTTP
	default:
		return nil, errors.New("must begin with https://")
	}
	host := u.Hostname()
	if host == "" || u.Opaque != "" {
		return nil, errors.New("has no host; write https://host/path")
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			return nil, errors.New("has a host with letters beyond ASCII; write its xn-- form")
		}
	}
	if oddAddress(host) {
		return nil, errors.New("has an IP address in an unusual spelling; write four plain decimal numbers")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("has an impossible port; write 1 to 65535")
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("has a colon without a port")
	}
	return u, nil
}

var errPlainHTTP = errors.New("is http://, which sends leads in clear; use https://, or set http.allow_http")

// oddAddress reports whether host is one of the spellings that browsers and libc take for an IPv4 address and Go
// takes for a name: 2130706433, 0x7f.1, 0177.0.0.1, 127.1, 127.0.0.1. with a dot behind. Resolvers differ about
// them, so nothing is sent there.
func oddAddress(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return true
	}
	if rest, ok := strings.CutPrefix(strings.ToLower(last), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// Headers that are the client's own or belong to one connection: a static header of this name would break framing.
var framing = []string{
	"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Expect", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// CheckHeaders says, all at once, which of a webhook's static headers cannot be sent. It never shows a value.
func (r *Registry) CheckHeaders(dialect string, headers map[string]jobs.Secret) error {
	d, ok := r.Lookup(dialect)
	if !ok {
		return fmt.Errorf("no dialect is called %q", dialect)
	}
	var errs []error
	seen := map[string]bool{}
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		key := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !token(name):
			errs = append(errs, fmt.Errorf("%q is no header name", name))
		case slices.Contains(framing, key) || d.reserves(key):
			errs = append(errs, fmt.Errorf("%s is set by leadrelay itself", key))
		case seen[key]:
			errs = append(errs, fmt.Errorf("%s is there twice", key))
		case !fieldValue(headers[name].Reveal()):
			errs = append(errs, fmt.Errorf("the value of %s has a line break or another control character", key))
		case key == "Host" && !hostName(headers[name].Reveal()):
			errs = append(errs, errors.New("the value of Host is no host name"))
		}
		seen[key] = true
	}
	return errors.Join(errs...)
}

// token reports whether s is a header name (RFC 9110, 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// hostName reports whether s can stand in a Host header: a name or an address, perhaps with a port.
func hostName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return s != ""
}

func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// A target is what every request to one webhook has in common, worked out once.
type target struct {
	dialect *Dialect
	url     *url.URL
	host    string      // Host header; "": the URL's
	static  http.Header // content type, user agent, static headers; each value shared by all requests
	macs    []*mac      // of the key and, while it is rotated, of the old one; none: requests are not signed
	rule    rule        // of the answer
	refusal *jobs.RefusedError
}

// targetKey holds all that a target is made of.
type targetKey struct {
	dialect, url, key, oldKey, headers, ack string
}

// size is about how many bytes the target of a webhook takes in the cache, its key included. Of an ack each value of a
// byte or two is a string of its own, of the headers each name and value a list.
func (k *targetKey) size(headers int) int {
	return 2*(len(k.url)+len(k.key)+len(k.oldKey)+len(k.headers)) + 12*len(k.ack) + 128*headers + 2<<10
}

// maxTargets bounds the cache, in bytes: enough for some 20,000 webhooks. A customer may change a webhook as often as they
// like, with texts as long as a request's body may be.
const maxTargets = 64 << 20

func (h *HTTP) target(w *jobs.Webhook) *target {
	key := targetKey{
		dialect: w.Dialect, url: w.URL.Reveal(), key: w.SignKey.Reveal(), oldKey: w.OldKey.Reveal(), headers: headersText(w.Headers),
		ack: strings.Join(w.Ack, "\x00"),
	}
	if t, ok := h.targets.Load(key); ok {
		return t.(*target)
	}
	made := h.newTarget(w)
	h.targetsMu.Lock()
	defer h.targetsMu.Unlock()
	if t, ok := h.targets.Load(key); ok { // another goroutine made it meanwhile
		return t.(*target)
	}
	size := key.size(len(w.Headers))
	if h.targetsSize += size; h.targetsSize > maxTargets {
		h.targets.Clear()
		h.targetsSize = size
	}
	h.targets.Store(key, made)
	return made
}

func headersText(headers map[string]jobs.Secret) string {
	if len(headers) == 0 {
		return ""
	}
	lines := make([]string, 0, len(headers))
	for name, value := range headers {
		lines = append(lines, name+"\x00"+value.Reveal())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\x00")
}

func (h *HTTP) newTarget(w *jobs.Webhook) *target {
	d, ok := h.dialects.Lookup(w.Dialect)
	if !ok {
		return &target{refusal: refused(ReasonDialect, 0, "")}
	}
	if d.NeedsKey() && w.SignKey == "" {
		return &target{refusal: refused(ReasonNoKey, 0, "")}
	}
	u, err := ParseURL(w.URL, h.allowHTTP)
	switch {
	case errors.Is(err, errPlainHTTP):
		return &target{refusal: refused(ReasonPlainHTTP, 0, "")}
	case err != nil:
		return &target{refusal: refused(ReasonURL, 0, "")}
	}
	if h.dialects.CheckHeaders(w.Dialect, w.Headers) != nil {
		return &target{refusal: refused(ReasonHeader, 0, "")}
	}
	t := &target{dialect: d, url: u, static: http.Header{"User-Agent": {h.userAgent}}, rule: ruleOf(w.Ack)}
	if len(w.Ack) == 0 {
		t.rule = ruleOf(d.Ack)
	}
	maps.Copy(t.static, d.headers)
	if d.Signed {
		var keys []jobs.Secret
		if w.SignKey != "" {
			keys = append(keys, w.SignKey)
		}
		// An old key that the webhook had in another dialect verifies nowhere now.
		if w.OldKey != "" && h.dialects.CheckKey(w.Dialect, w.OldKey) == nil {
			keys = append(keys, w.OldKey)
		}
		if t.macs, err = d.macs(keys); err != nil {
			return &target{refusal: refused(ReasonKey, 0, "")}
		}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		t.static["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))}
		u.User = nil
	}
	for name, value := range w.Headers {
		if key := textproto.CanonicalMIMEHeaderKey(name); key == "Host" {
			t.host = value.Reveal()
		} else {
			t.static[key] = []string{value.Reveal()}
		}
	}
	return t
}
