package sinks

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/leadrelay/leadrelay/jobs"
)

var redacted = jobs.Secret("").String()

const (
	minSecret    = 4  // bytes; a shorter secret is hidden only where it stands alone
	minPart      = 8  // bytes; parts of a static header's value at least this long are hidden by themselves
	minRandom    = 16 // bytes; parts of a URL at least this long are hidden wherever they stand
	minBeginning = 4  // bytes of a secret that is cut off at the end of a text
)

// A redactor hides a webhook's secrets in text of whatever origin: an endpoint may echo a header, print the key that it
// expected, or say that it cannot POST to the path.
type redactor struct {
	reveal  bool     // the URL is no secret
	secrets []string // in all spellings, ASCII letters in lower case, longest first
	longest int
}

func newRedactor(w *jobs.Webhook, reveal bool) *redactor {
	r := &redactor{reveal: reveal}
	for _, key := range []jobs.Secret{w.SignKey, w.OldKey} {
		r.add(key.Reveal())
		r.add(strings.TrimPrefix(key.Reveal(), standardKeyPrefix))
	}
	for name, value := range w.Headers {
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Content-Type", "Accept":
			continue // no secrets, and answers have them too
		}
		r.addHeader(value.Reveal())
	}
	r.addURL(w.URL.Reveal())
	slices.SortFunc(r.secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	r.secrets = slices.Compact(r.secrets)
	if len(r.secrets) > 0 {
		r.longest = len(r.secrets[0])
	}
	return r
}

// add hides a secret, in the spellings that it has in JSON (PHP escapes slashes and what is not ASCII), HTML and URLs,
// and in base64 and hex.
func (r *redactor) add(secret string) {
	if secret == "" {
		return
	}
	inJSON := strings.Trim(string(appendString(nil, secret)), `"`)
	var ascii strings.Builder
	for _, c := range inJSON {
		switch {
		case c < utf8.RuneSelf:
			ascii.WriteRune(c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			fmt.Fprintf(&ascii, `\u%04x`, c)
		}
	}
	for _, spelling := range []string{
		secret, inJSON, ascii.String(), html.EscapeString(secret), url.QueryEscape(secret), url.PathEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawStdEncoding.EncodeToString([]byte(secret)),
		base64.URLEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		hex.EncodeToString([]byte(secret)),
	} {
		r.secrets = append(r.secrets, lowered(spelling), lowered(strings.ReplaceAll(spelling, "/", `\/`)))
	}
}

// addHeader hides a static header's value: whole, the token after a scheme, such parts as id and password.
func (r *redactor) addHeader(value string) {
	r.add(strings.TrimSpace(value))
	if _, token, ok := strings.Cut(strings.TrimSpace(value), " "); ok {
		r.add(strings.TrimSpace(token))
		if pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token)); err == nil && utf8.Valid(pair) {
			r.add(string(pair))
			if _, password, ok := strings.Cut(string(pair), ":"); ok {
				r.add(password)
			}
		}
	}
	for _, part := range strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(` ,;:="'`, c) }) {
		if len(part) >= minPart {
			r.add(part)
		}
	}
}

// addURL hides what MaskedURL does not show.
func (r *redactor) addURL(raw string) {
	u, err := url.Parse(raw)
	if err != nil {
		r.add(raw)
		return
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r.addHeader("Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	if r.reveal {
		return
	}
	for _, path := range []string{u.EscapedPath(), u.Path} {
		_, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if strings.Trim(rest, "/") == "" {
			continue
		}
		r.add("/" + strings.TrimSuffix(rest, "/"))
		for segment := range strings.SplitSeq(rest, "/") {
			if len(segment) >= minSecret {
				r.add("/" + segment)
			}
			if len(segment) >= minRandom {
				r.add(segment)
			}
		}
	}
	if u.RawQuery == "" {
		return
	}
	r.add("?" + u.RawQuery)
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if unescaped, err := url.QueryUnescape(value); err == nil && len(value) >= minPart {
			r.add(unescaped)
		}
		if value != "" {
			r.add(name + "=" + value)
		}
		if len(value) >= minPart {
			r.add(value)
		}
	}
}

// lowered is s with its ASCII letters in lower case, byte for byte.
func lowered[T string | []byte](s T) string {
	folded := append([]byte(nil), s...)
	for i, c := range folded {
		if c >= 'A' && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return string(folded)
}

// hidden says which bytes of text are a secret's. A secret of which text ends in the middle is one.
func (r *redactor) hidden(text []byte) []bool {
	hidden := make([]bool, len(text))
	folded := lowered(text)
	for _, secret := range r.secrets {
		for from := 0; ; {
			i := strings.Index(folded[from:], secret)
			if i < 0 {
				break
			}
			begin := from + i
			end := begin + len(secret)
			if len(secret) >= minSecret || alone(folded, begin, end) {
				for j := begin; j < end; j++ {
					hidden[j] = true
				}
			}
			from = begin + 1
		}
		for n := min(len(secret)-1, len(folded)); n >= minBeginning; n-- {
			if strings.HasSuffix(folded, secret[:n]) {
				for j := len(folded) - n; j < len(folded); j++ {
					hidden[j] = true
				}
				break
			}
		}
	}
	return hidden
}

// alone reports whether what stands there is no part of a longer word.
func alone(s string, begin, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:begin])
	after, _ := utf8.DecodeRuneInString(s[end:])
	return (begin == 0 || !wordRune(before)) && (end == len(s) || !wordRune(after))
}

// whole makes text of our own fit to be shown.
func (r *redactor) whole(text []byte) string { return r.part(text, len(text)) }

// part makes the first bytes of a text fit to be shown: without secrets, and printable. More than most bytes of it must
// be given where there are more: secrets may begin within most and end beyond.
func (r *redactor) part(text []byte, most int) string {
	hidden := r.hidden(text)
	var b strings.Builder
	for i := 0; i < min(len(text), most); {
		if hidden[i] {
			b.WriteString(redacted)
			for i < len(text) && hidden[i] {
				i++
			}
			continue
		}
		c, size := utf8.DecodeRune(text[i:])
		switch {
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case c == '\n' || c == '\t':
			b.WriteRune(c)
		case c == utf8.RuneError && size == 1, c < ' ', c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default: // separators, marks that turn the direction of what follows, a byte order mark
			fmt.Fprintf(&b, `\u{%x}`, c)
		}
		i += size
	}
	return b.String()
}

// url is a webhook's URL, masked.
func (r *redactor) url(raw jobs.Secret) string {
	if r.reveal {
		return r.whole([]byte(raw.Reveal()))
	}
	return jobs.MaskedURL(raw)
}

// place is where a redirect from a URL leads, masked as URLs are.
func (r *redactor) place(from *url.URL, location string) string {
	to, err := from.Parse(location)
	if err != nil || to.Host == "" {
		return redacted
	}
	return cut(r.part([]byte(r.url(jobs.Secret(to.String()))), shownHeader), 200)
}
