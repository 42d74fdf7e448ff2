package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// A Principal is who a request comes from, and what that one may do.
type Principal struct {
	Name    string // for the log
	Chatbot string // sees and touches only webhooks of exactly this chatbot; "": all
	Write   bool   // may change things, and see sign keys and whole URLs
}

// An Authenticator tells whose token one is.
type Authenticator interface {
	// Authenticate returns ok false for a token of nobody; an error says that it could not be found out.
	Authenticate(ctx context.Context, token string) (p Principal, ok bool, err error)
}

// A Token is the one that may do everything. It holds a digest only.
type Token struct{ digest [sha256.Size]byte }

// minToken is the length of the shortest token that is accepted: anything shorter may be guessed.
const minToken = 16

// ReadToken reads the token of admin.token_file.
func ReadToken(path string) (Token, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Token{}, fmt.Errorf("admin.token_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Token{}, fmt.Errorf("admin.token_file: %s may be used by others than its owner (mode %#o); run: chmod 600 %[1]s", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Token{}, fmt.Errorf("admin.token_file: %w", err)
	}
	token := strings.TrimRight(string(text), "\r\n")
	switch {
	case token == "":
		return Token{}, fmt.Errorf("admin.token_file: %s is empty; run: openssl rand -hex 32 > %[1]s", path)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return Token{}, fmt.Errorf("admin.token_file: %s must hold one token in one line, of letters, digits and signs without blanks", path)
	case len(token) < minToken:
		return Token{}, fmt.Errorf("admin.token_file: the token in %s is shorter than %d characters; run: openssl rand -hex 32 > %[1]s", path, minToken)
	}
	return Token{sha256.Sum256([]byte(token))}, nil
}

// Authenticate accepts the one token. Digests are compared, so that the time it takes says nothing of the token.
func (t Token) Authenticate(_ context.Context, token string) (Principal, bool, error) {
	given := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(t.digest[:], given[:]) != 1 {
		return Principal{}, false, nil
	}
	return Principal{Name: "token_file", Write: true}, true, nil
}

type principalKey struct{}

// callerOf is who a request that was let through comes from.
func callerOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// A gate lets requests in: with a token, or, where there is no Authenticator, from this machine and for reading only.
type gate struct {
	auth    Authenticator
	listen  string // the address that is listened on
	errands *errands
}

// enter returns who the request comes from, or has answered it.
func (g gate) enter(w http.ResponseWriter, r *http.Request) (Principal, bool) {
	if refusal := foreign(r); refusal != "" {
		problem(w, http.StatusForbidden, refusal)
		return Principal{}, false
	}
	if g.auth == nil {
		if refusal := elsewhere(r, g.listen); refusal != "" {
			problem(w, http.StatusForbidden, refusal)
			return Principal{}, false
		}
		if !reads(r) {
			problem(w, http.StatusForbidden, "without admin.token_file nothing can be changed here")
			return Principal{}, false
		}
		// A chatbot's token would see what is others' now that nobody looks at it.
		if r.Header.Get("Authorization") != "" {
			problem(w, http.StatusForbidden, "without admin.token_file no token is known: send none, or give admin.token_file")
			return Principal{}, false
		}
		return Principal{Name: "this machine"}, true
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	type answer struct {
		Principal
		known bool
	}
	found, err := within(ctx, g.errands, "look up a token", func() (answer, error) {
		p, ok, err := g.auth.Authenticate(ctx, tokenOf(r))
		return answer{p, ok}, err
	})
	p, ok := found.Principal, found.known
	switch {
	case errors.Is(err, errPanicked):
		problem(w, http.StatusInternalServerError, "it could not be done; the daemon's log says why")
	case err != nil:
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "the token cannot be looked up now: the ledger does not answer")
	case !ok:
		w.Header().Add("WWW-Authenticate", `Bearer realm="leadrelay"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="leadrelay", charset="UTF-8"`)
		problem(w, http.StatusUnauthorized, "send a token that is known: Authorization: Bearer TOKEN")
		return p, false
	case !p.Write && !reads(r):
		problem(w, http.StatusForbidden, "this token may only read")
	default:
		return p, true
	}
	return p, false
}

// reads reports whether the method changes nothing.
func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// tokenOf is the token of a request: a bearer's, or the password of a browser's login; "" where there is none.
func tokenOf(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

var crossOrigin = http.NewCrossOriginProtection()

// foreign says why a request that would change something may be another site's, sent by a browser that knows the
// token; "" where it is not.
func foreign(r *http.Request) string {
	if reads(r) {
		return ""
	}
	if err := crossOrigin.Check(r); err != nil {
		return "requests from other sites are refused"
	}
	return ""
}

// wrongBody says why a request's body is none that is read here; "" where it is, or there is no body. Forms are refused:
// a browser sends them across sites unasked.
func wrongBody(r *http.Request) string {
	if reads(r) || r.ContentLength == 0 {
		return ""
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && (kind == "application/json" || r.Method == http.MethodPatch && kind == "application/merge-patch+json") {
		return ""
	}
	return "send the body as Content-Type: application/json"
}

// elsewhere says why a request is not answered where there is no token to tell callers apart by: it does not come from
// this machine, came through a proxy, or names a host that is not this one (a page whose name was made to lead here);
// "" where it is answered.
func elsewhere(r *http.Request, listen string) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return "without admin.token_file only callers on this machine are answered"
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return "without admin.token_file requests through a proxy are refused"
		}
	}
	if !ours(r.Host, listen) {
		return "without admin.token_file the Host must be localhost, a loopback address, or the one that admin.listen names"
	}
	return ""
}

// ours reports whether a Host header names this machine by an address that nobody else can make their name lead to.
func ours(host, listen string) bool {
	if strings.EqualFold(host, listen) {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
