package sinks

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// Details of a jobs.Trial, beside those of tls.go: what a reason code alone does not tell.
const (
	detailTestAnswer  = "test_answer"       // accepted, with the word for test requests
	detailWrongKey    = "wrong_key"         // the endpoint refuses signature or credentials
	detailCredentials = "wrong_credentials" // the same where the request is not signed
	detailFirewall    = "firewall"          // what refuses is not the endpoint
	detailWrongCase   = "wrong_case"        // the accepted word in other letters, or with spaces around
	detailWrongWord   = "wrong_word"        // another word
	detailHTML        = "html"              // a page in place of JSON
	detailLogin       = "login_page"        // one that asks for a password; or a redirect to it
	detailTwice       = "answered_twice"    // one JSON object after another
	detailHTTPS       = "to_https"          // a redirect from http to https
	detailSlash       = "trailing_slash"    // a redirect to the same path with, or without, a slash at its end
	detailHost        = "other_host"        // a redirect to the same path elsewhere
	detailNoDial      = "no_connection"     // nothing answered the connection's first packet
	detailNoHandshake = "no_handshake"      // it did, and TLS came to no end
	detailNoAnswer    = "no_answer"         // the request was taken, and not a byte came back
	detailUnfinished  = "unfinished_answer" // some of the answer came
	detailNoName      = "no_such_name"      // the DNS has no such host
	detailNoDNS       = "dns_failed"        // the DNS did not say
	detailBomb        = "unpacked"          // small as it came, and too large unpacked
)

// explain fills in what the test came to.
func (x *explainer) explain(trial *jobs.Trial, answer jobs.Answer, refusal *jobs.RefusedError) {
	x.signature(&trial.Notes)
	if refusal == nil {
		trial.Detail, trial.Reason = x.accepted(answer)
		if x.rec.rule.any && page(x.rec.body()) {
			trial.Notes = append(trial.Notes, "The answer is an HTML page, and any HTTP 2xx acknowledges: make sure that this is the CRM's endpoint, and no login page.")
		}
		return
	}
	trial.Code = refusal.Reason
	trial.Detail, trial.Reason = x.refused(refusal)
}

type explainer struct {
	h    *HTTP
	req  jobs.Request
	rec  *recorder
	hide *redactor

	within time.Duration // how long the endpoint had, where it was too slow

	header  string // that signs the request, as the vendor spells it; "": it is not signed
	expires bool   // the signature depends on the time
}

// signature finds out how the request was signed, and notes what is not plain to see.
func (x *explainer) signature(notes *[]string) {
	names, expires := x.h.signedBy(x.req)
	if x.rec.request == nil || len(names) == 0 {
		return
	}
	x.header, x.expires = names[0], expires
	t, until, now := x.h.newTarget(x.req.Webhook), x.req.Webhook.OldKeyUntil, x.h.clock()
	if len(t.macs) < 2 || !until.IsZero() && !now.Before(until) {
		return
	}
	both := t.headersAt(x.req, now.Unix())[x.header]
	t.macs = t.macs[:1]
	if len(t.headersAt(x.req, now.Unix())[x.header]) < len(both) {
		*notes = append(*notes, "The sign key is being rotated: the request has the signatures of the new key and of the old, the old one last.")
		return
	}
	*notes = append(*notes, "The sign key is being rotated, and the dialect has room for one signature: this is the old key's; a retry has the new one's.")
}

func (x *explainer) accepted(a jobs.Answer) (detail, reason string) {
	switch {
	case a.Test:
		return detailTestAnswer, "The CRM acknowledged the test, in the word that it has for test requests. If it says so to real records too it may drop them: " +
			"GoHighLevel does while the workflow is not published (set the webhook's ack to gohighlevel there)."
	case x.rec.word == "":
		return "", fmt.Sprintf("The CRM acknowledged the test, with HTTP %d.", a.Status)
	}
	return "", "The CRM acknowledged the test: " + x.word() + "."
}

// word is the answer's word in quotes, without secrets.
func (x *explainer) word() string {
	return `"` + cut(x.hide.part([]byte(x.rec.word), shownHeader), maxWord) + `"`
}

func (x *explainer) refused(refusal *jobs.RefusedError) (detail, reason string) {
	if x.refusesSender(refusal) {
		return x.sender(refusal.Status)
	}
	switch refusal.Reason {
	case ReasonTLS:
		return x.tls(refusal)
	case ReasonTimeout:
		return x.timeout()
	case ReasonDNS:
		return x.dns(refusal)
	case ReasonRedirect:
		return x.redirect(refusal)
	case ReasonAckMismatch:
		return x.mismatch(refusal)
	case ReasonNotJSON:
		if text := x.rec.body(); page(text) {
			if login.Match(text) {
				return detailLogin, "The answer is the HTML of a login page and no JSON: the URL is not that of the endpoint, or the endpoint wants credentials. Enter the URL that programs post to."
			}
			return detailHTML, refusal.Hint
		}
	case ReasonTrailingText:
		if first := bytes.TrimLeft(x.rec.body(), " \t\r\n"); bytes.Count(first, []byte("{")) > 1 && bytes.HasSuffix(bytes.TrimRight(first, " \t\r\n"), []byte("}")) {
			return detailTwice, "The answer holds one JSON object after another: the script answers twice. Let it answer once and end there."
		}
	case ReasonTooLarge:
		if x.rec.compressed() && len(x.rec.plain) > 0 {
			return detailBomb, "The answer is larger than 64 KiB once unpacked: answer " + x.rec.rule.example() + " alone, and not compressed."
		}
	case ReasonPrivateAddress, ReasonPlainHTTP:
		return "", refusal.Hint + " Nothing was sent."
	case StatusReason(http.StatusMethodNotAllowed):
		if allow := x.rec.res.Header.Get("Allow"); allow != "" {
			return "", fmt.Sprintf("%s It says that it takes %s.", refusal.Hint, cut(x.hide.part([]byte(allow), shownHeader), maxWord))
		}
	}
	if refusal.Status > 0 && strings.HasPrefix(refusal.Reason, "http_") {
		return "", fmt.Sprintf("%s It answered HTTP %d.", refusal.Hint, refusal.Status)
	}
	return "", refusal.Hint
}

var (
	// What endpoints say of a signature that they do not believe, wherever in the answer.
	badSignature = regexp.MustCompile(`(?i)\b(invalid|wrong|bad|incorrect|mismatch\w*|missing|no|unverified|not verif\w+|fail\w*|could not verify)\W+(\w+\W+){0,3}(signature|hmac|sign(ing)? ?key)\b` +
		`|\b(signature|hmac|sign(ing)? ?key)\W+(\w+\W+){0,4}(invalid|wrong|incorrect|mismatch\w*|missing|fail\w*|not|match)`)
	// What a status word says of credentials.
	badSender = regexp.MustCompile(`(?i)unauthori[sz]ed|forbidden|not allowed|access denied|permission denied|(invalid|wrong|bad|missing) (api[ _-]?)?(key|token|credentials)`)
	// What pages of firewalls say.
	blocked = regexp.MustCompile(`(?i)cloudflare|captcha|attention required|just a moment|access denied|incapsula|sucuri`)
	login   = regexp.MustCompile(`(?i)type=["']?password|\b(log ?in|sign ?in)\b`)
	// A path of which one segment is where people log in: /login, /wp-login.php, /oauth2/authorize, and not /authors.
	loginPath = regexp.MustCompile(`(?i)[/_-](log[_-]?in|sign[_-]?in|sso|o?auth[0-9]*|authorize|authenticate|authentication)(/|\.|$)`)
)

// refusesSender reports whether what the endpoint does not accept is who sent the request. The vendor's own recipe
// throws 'Invalid Signature', which Express answers with a page of HTTP 500.
func (x *explainer) refusesSender(refusal *jobs.RefusedError) bool {
	switch refusal.Status {
	case 0, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return false
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	switch refusal.Reason {
	case ReasonRedirect, ReasonTooLarge, ReasonGzip, ReasonEncoding, ReasonTimeout, ReasonNotStored:
		return false
	case ReasonAckMismatch:
		return badSender.MatchString(x.rec.word) || badSignature.MatchString(x.rec.word)
	}
	return badSignature.Match(x.rec.body())
}

func (x *explainer) sender(status int) (detail, reason string) {
	said := "The CRM refuses the sender"
	if status < 200 || status > 299 {
		said = fmt.Sprintf("The CRM refuses the sender (HTTP %d)", status)
	} else if x.rec.word != "" {
		said += ", with the status " + x.word()
	}
	w, header := x.req.Webhook, x.rec.request.Header
	if product := x.firewall(); product != "" {
		return detailFirewall, fmt.Sprintf("A firewall or bot check before the CRM (%s) answered in its place, with HTTP %d: let the sender's address, or the webhook's path, through it.", product, status)
	}
	if asks := x.rec.res.Header.Get("WWW-Authenticate"); asks != "" && header.Get("Authorization") == "" {
		return detailCredentials, fmt.Sprintf("%s and asks for credentials (WWW-Authenticate: %s): give the webhook a header Authorization.", said, cut(x.hide.part([]byte(asks), shownHeader), maxWord))
	}
	if x.header == "" {
		return detailCredentials, said + ": this webhook's requests are not signed, so it wants credentials, in the URL or in the webhook's headers."
	}
	whose, what, verify, where := "its sign key is another", "the raw body", "leadrelay verify", "that is shown here"
	if len(w.Headers) > 0 {
		whose = "its sign key is another, or a token in the webhook's headers is wrong"
	}
	id := w.ID
	if w.SignKeyOf != "" {
		id = w.SignKeyOf
	}
	if x.expires {
		what = "the time and the raw body"
	} else if !x.hide.reveal {
		where = "that --reveal shows"
	}
	if w.Dialect != DefaultDialect {
		verify += " --dialect " + w.Dialect
	}
	return detailWrongKey, fmt.Sprintf("%s: %s, or it does not verify the raw body, byte for byte as it came (not parsed and printed anew). "+
		"%s signs %s with the key that `leadrelay webhook show %s --reveal` prints; `%s` checks the request %s.",
		said, whose, x.header, what, id, verify, where)
}

// firewall is what answered in the endpoint's place, by the marks that it leaves; "": nothing did.
func (x *explainer) firewall() string {
	header := x.rec.res.Header
	if header.Get("Cf-Mitigated") != "" {
		return "Cloudflare"
	}
	if body := x.rec.body(); !page(body) || !blocked.Match(body) {
		return "" // the endpoint's own page, which passed through
	}
	server := strings.ToLower(header.Get("Server"))
	for _, product := range [...]string{"Cloudflare", "AkamaiGHost", "Sucuri", "Imperva"} {
		if strings.Contains(server, strings.ToLower(product)) {
			return product
		}
	}
	return ""
}

func (x *explainer) tls(refusal *jobs.RefusedError) (detail, reason string) {
	detail, reason = tlsFault(x.rec.err), refusal.Hint
	sent := sentCertificates(x.rec.err)
	if len(sent) == 0 {
		return detail, reason
	}
	fact := ""
	switch leaf := sent[0]; detail {
	case tlsName:
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		fact = "It is for " + strings.Join(names, ", ")
		if len(names) == 0 {
			fact = "It names no host"
		}
	case tlsExpired:
		fact = "It ended " + leaf.NotAfter.UTC().Format(time.RFC3339)
	case tlsEarly:
		fact = "It begins " + leaf.NotBefore.UTC().Format(time.RFC3339)
	case tlsAuthority, tlsChain:
		fact = "It was issued by " + leaf.Issuer.String()
	default:
		return detail, reason
	}
	return detail, reason + " " + cut(x.hide.part([]byte(fact), shownHeader), 200) + "."
}

func (x *explainer) timeout() (detail, reason string) {
	within := x.within.String()
	switch {
	case x.rec.res != nil:
		return detailUnfinished, "The endpoint began to answer and did not end within " + within + ": end the answer, with its Content-Length, or close the connection."
	case x.rec.wrote.Load():
		return detailNoAnswer, "The endpoint took the request and did not answer within " + within + ": answer first, and do the slow work afterwards."
	case x.rec.dialled.Load():
		return detailNoHandshake, "The endpoint took the connection, and nothing came of it within " + within + ": check that the port is the right one and that its server is not stuck."
	}
	return detailNoDial, "No connection to the endpoint came about within " + within + ": check host and port; a firewall may drop the packets."
}

func (x *explainer) dns(refusal *jobs.RefusedError) (detail, reason string) {
	var dns *net.DNSError
	if errors.As(x.rec.err, &dns) && !dns.IsNotFound {
		return detailNoDNS, "The DNS did not say where the URL's host is: its name servers, or this machine's, do not answer. Try again."
	}
	return detailNoName, refusal.Hint
}

func (x *explainer) redirect(refusal *jobs.RefusedError) (detail, reason string) {
	from := x.rec.request.URL
	location := x.rec.res.Header.Get("Location")
	to, err := from.Parse(location)
	if location == "" || err != nil {
		return "", fmt.Sprintf("%s It answered HTTP %d without a Location that can be read.", refusal.Hint, refusal.Status)
	}
	detail, what := redirectKind(from, to)
	return detail, fmt.Sprintf("The endpoint redirects (HTTP %d) to %s, and redirects are never followed: %s.", refusal.Status, x.hide.place(from, location), what)
}

// redirectKind is what a redirect is about, and what to do.
func redirectKind(from, to *url.URL) (detail, what string) {
	path := func(u *url.URL) string { return strings.TrimSuffix(u.EscapedPath(), "/") }
	switch {
	case loginPath.MatchString(to.Path) && !loginPath.MatchString(from.Path):
		return detailLogin, "that is where people log in, so the URL is not one that programs post to, or it wants credentials"
	case from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname():
		return detailHTTPS, "write https:// in the webhook's URL"
	case from.Host == to.Host && from.Scheme == to.Scheme && path(from) == path(to) && from.EscapedPath() != to.EscapedPath():
		if strings.HasSuffix(to.EscapedPath(), "/") {
			return detailSlash, "the webhook's URL lacks the slash at the end of its path"
		}
		return detailSlash, "the webhook's URL has a slash too many at the end of its path"
	case from.Host != to.Host && path(from) == path(to):
		return detailHost, "write that host in the webhook's URL"
	}
	return "", "enter the URL that it leads to, if that is where records belong"
}

func (x *explainer) mismatch(refusal *jobs.RefusedError) (detail, reason string) {
	r := &x.rec.rule
	word := strings.TrimSpace(x.rec.word)
	for _, want := range slices.Concat(r.equals, r.prefix) {
		if x.rec.word != want && strings.EqualFold(word, strings.TrimSpace(want)) ||
			slices.Contains(r.prefix, want) && len(word) >= len(want) && strings.EqualFold(word[:len(want)], want) && !strings.HasPrefix(word, want) {
			return detailWrongCase, fmt.Sprintf("The answer's %s is %s and must be %q: upper and lower case count, and so do spaces.", r.name(), x.word(), want)
		}
	}
	if x.rec.word == "" || r.accepts(answer{kind: '"', word: x.rec.word}) {
		return "", refusal.Hint
	}
	wanted := slices.DeleteFunc(slices.Concat(r.equals, r.prefix), func(word string) bool { return word == TestAnswer && len(r.equals) > 1 })
	for i := range wanted {
		wanted[i] = fmt.Sprintf("%q", wanted[i])
	}
	return detailWrongWord, fmt.Sprintf("The answer's %s is %s, and accepted is %s: answer %s, or set the webhook's ack.",
		r.name(), x.word(), cut(strings.Join(wanted, " or "), 120), r.example())
}

// page reports whether an answer is HTML or XML.
func page(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n\ufeff"), []byte("<"))
}
