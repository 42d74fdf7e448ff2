package sinks

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// asked is what a proxy was asked for, as "USER:PASSWORD HOST:PORT".
type asked struct {
	mu  sync.Mutex
	all []string
}

func (a *asked) add(login, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, strings.TrimSpace(login+" "+address))
}

func (a *asked) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.all
	a.all = nil
	return all
}

// forward connects to address and lets both sides talk.
func (c *peer) forward(address string) {
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, c.in)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c.Conn, to)
}

// httpProxy is an HTTP proxy, which refuses addresses that have refuses in them.
func (a *asked) httpProxy(refuses string) talk {
	return func(c *peer) {
		r, err := http.ReadRequest(c.in)
		if err != nil {
			return
		}
		login, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Proxy-Authorization"), "Basic "))
		a.add(string(login), r.Host)
		switch {
		case refuses != "" && strings.Contains(r.Host, refuses):
			c.say("HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot for you!")
		case r.Method != http.MethodConnect:
			c.say(wellSaid)
		case c.say("HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"):
			c.forward(r.Host)
		}
	}
}

// socksProxy is a SOCKS5 proxy, which wants a user where login has one.
func (a *asked) socksProxy(login string) talk {
	return func(c *peer) {
		read := func(n int) []byte {
			b := make([]byte, n)
			_, _ = io.ReadFull(c.in, b)
			return b
		}
		methods := read(int(read(2)[1]))
		if wanted := map[bool]byte{true: 0, false: 2}[login == ""]; !bytes.Contains(methods, []byte{wanted}) {
			c.say("\x05\xff")
			return
		} else {
			c.say("\x05" + string(wanted))
		}
		given := ""
		if login != "" {
			given = string(read(int(read(2)[1]))) + ":"
			given += string(read(int(read(1)[0])))
			if given != login {
				c.say("\x01\x01")
				return
			}
			c.say("\x01\x00")
		}
		host := ""
		switch ask := read(4); ask[3] {
		case 1, 4:
			address, _ := netip.AddrFromSlice(read(map[byte]int{1: 4, 4: 16}[ask[3]]))
			host = address.String()
		case 3:
			host = string(read(int(read(1)[0])))
		}
		address := net.JoinHostPort(host, fmt.Sprint(binary.BigEndian.Uint16(read(2))))
		a.add(given, address)
		if c.say("\x05\x00\x00\x03\x05proxy\x00\x00") {
			c.forward(address)
		}
	}
}

// named makes every name of example.com lead to these addresses.
func named(t *testing.T, o *Options, texts ...string) {
	o.resolver = newResolver(t, func(name string, _ int) []netip.Addr {
		if !strings.HasSuffix(name, ".example.com") {
			return nil
		}
		return addresses(texts...)
	})
}

// TestProxies pushes through proxies of every kind, to CRMs that have names: the proxy is asked for an address that was
// checked, and the CRM's certificate is checked for its name.
func TestProxies(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(func(c *x509.Certificate) { c.DNSNames = []string{"crm.example.com"} })
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	plain := newHostileAt(t, listen(), nil, well)
	secure := newHostileAt(t, listen(), &tls.Config{Certificates: []tls.Certificate{cert}}, well)
	second := newHostileAt(t, listen(), &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}, well2)
	var seen asked
	proxy := newHostile(t, nil, seen.httpProxy("127.0.0.9"))
	proxyTLS := newHostile(t, &tls.Config{Certificates: []tls.Certificate{a.issue(nil)}}, seen.httpProxy(""))
	socks := newHostile(t, nil, seen.socksProxy(""))
	socksLogin := newHostile(t, nil, seen.socksProxy("us er:pass:word"))
	with := func(proxy *hostile, scheme, login string) string {
		return scheme + "://" + login + proxy.url[strings.Index(proxy.url, "://")+3:]
	}
	at := func(crm *hostile) string { return crm.url[strings.LastIndex(crm.url, ":"):] }
	for name, tt := range map[string]struct{ proxy, login string }{
		"HTTP":                  {with(proxy, "http", ""), ""},
		"HTTP with a password":  {with(proxy, "http", "us%20er:pass:word@"), "us er:pass:word "},
		"HTTPS":                 {with(proxyTLS, "https", ""), ""},
		"SOCKS":                 {with(socks, "socks5", ""), ""},
		"SOCKS by its name":     {with(socks, "socks5h", ""), ""},
		"SOCKS with a password": {with(socksLogin, "socks5", "us%20er:pass:word@"), "us er:pass:word "},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{AllowHTTP: true, Timeout: 20 * time.Second, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Proxy: tt.proxy, CAFile: a.file}
			named(t, &o, "127.0.0.1", "127.0.0.2") // the first of which is kept out
			h := newSink(t, o)
			for url, crm := range map[string]*hostile{"http://crm.example.com": plain, "https://crm.example.com": secure, "https://CRM.example.com.": second} {
				if err := push(t, h, webhook(url+at(crm))); err != nil {
					t.Errorf("%s: %v", url, err)
				}
				if diff := cmp.Diff([]string{tt.login + "127.0.0.2" + at(crm)}, seen.taken()); diff != "" {
					t.Errorf("asked for (-want +got):\n%s", diff)
				}
			}
			if err := push(t, h, webhook("https://other.example.com"+at(secure))); reason(err) != ReasonTLS {
				t.Errorf("a certificate of another name: %v", err)
			}
			h.Close()
			seen.taken()
		})
	}

	// Where addresses are left to the proxy, net/http itself speaks TLS in TLS: the connection is watched all the same.
	t.Run("watched", func(t *testing.T) {
		secure := newHostile(t, &tls.Config{Certificates: []tls.Certificate{a.issue(nil)}}, well)
		for _, way := range []string{with(proxy, "http", ""), with(proxyTLS, "https", ""), with(socks, "socks5", "")} {
			h := newSink(t, Options{AllowPrivate: true, Timeout: 20 * time.Second, Proxy: way, CAFile: a.file})
			p := &progress{}
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), p.trace()), http.MethodPost, secure.url, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := h.transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", way, err)
			}
			_ = res.Body.Close()
			if p.conn.Load() == nil {
				t.Errorf("%s: the connection is not watched", way)
			}
			h.Close()
			seen.taken()
		}
	})

	t.Run("what must not be reached is not asked for", func(t *testing.T) {
		for _, proxy := range []string{with(proxy, "http", ""), with(socks, "socks5", "")} {
			o := Options{AllowHTTP: true, Timeout: 20 * time.Second, Proxy: proxy}
			named(t, &o, "127.0.0.1", "10.0.0.1", "::1")
			h := newSink(t, o)
			for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]", "localhost", "169.254.169.254", "crm.example.com"} {
				for _, scheme := range []string{"http://", "https://"} {
					if err := push(t, h, webhook(scheme+host+"/x")); reason(err) != ReasonPrivateAddress {
						t.Errorf("%s%s: %v", scheme, host, err)
					}
				}
			}
			// A name that only the proxy may know could lead anywhere.
			err := push(t, h, webhook("https://metadata.google.internal/x"))
			if refusal := (*jobs.RefusedError)(nil); !asRefusal(err, &refusal) || refusal.Reason != ReasonDNS || !strings.Contains(refusal.Hint, "set http.allow_private") {
				t.Errorf("a name of the proxy's: %+v", refusal)
			}
			if all := seen.taken(); all != nil {
				t.Errorf("the proxy was asked for %q", all)
			}
		}
	})

	t.Run("a name that changes", func(t *testing.T) {
		o := Options{AllowHTTP: true, Timeout: 20 * time.Second, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Proxy: with(proxy, "http", "")}
		o.resolver = newResolver(t, func(_ string, n int) []netip.Addr {
			return addresses([]string{"127.0.0.2", "127.0.0.1"}[min(n, 2)-1])
		})
		h := newSink(t, o)
		for i, want := range []string{"", ReasonPrivateAddress} {
			if err := push(t, h, webhook("http://crm.example.com"+at(plain))); reason(err) != want {
				t.Errorf("push %d: %v", i, err)
			}
			h.Close()
		}
		if diff := cmp.Diff([]string{"127.0.0.2" + at(plain)}, seen.taken()); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
	})

	t.Run("the next address, where the proxy does not reach the first", func(t *testing.T) {
		o := Options{AllowHTTP: true, Timeout: 20 * time.Second, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Proxy: with(proxy, "http", "")}
		named(t, &o, "127.0.0.9", "127.0.0.2")
		h := newSink(t, o)
		if err := push(t, h, webhook("http://crm.example.com"+at(plain))); err != nil {
			t.Error(err)
		}
		named(t, &o, "127.0.0.9")
		if err := push(t, newSink(t, o), webhook("http://crm.example.com"+at(plain))); reason(err) != ReasonProxy {
			t.Errorf("refused: %v", err)
		}
		seen.taken()
	})

	t.Run("names are the proxy's where nothing is kept out", func(t *testing.T) {
		o := Options{AllowHTTP: true, AllowPrivate: true, Timeout: 20 * time.Second, Proxy: with(proxy, "http", "")}
		o.resolver = newResolver(t, func(string, int) []netip.Addr { return nil })
		h := newSink(t, o)
		if err := push(t, h, webhook("http://nosuch.invalid/x")); err != nil {
			t.Error(err)
		}
		if err := push(t, h, webhook("https://127.0.0.9.invalid/x")); reason(err) != ReasonProxy {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"nosuch.invalid", "127.0.0.9.invalid:443"}, seen.taken()); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
	})
}

func asRefusal(err error, refusal **jobs.RefusedError) (ok bool) {
	*refusal, ok = err.(*jobs.RefusedError)
	return ok
}

// TestBadProxies: what a proxy does wrong is said to be the proxy's, in time.
func TestBadProxies(t *testing.T) {
	t.Parallel()
	answers := func(text string) talk {
		return func(c *peer) {
			_, _ = http.ReadRequest(c.in)
			c.say(text)
			c.hang()
		}
	}
	says := func(text string) talk { // a SOCKS one, which does not wait to be asked
		return func(c *peer) {
			c.say(text)
			c.hang()
		}
	}
	for _, tt := range []struct {
		name, scheme string
		talk         talk
		reasons      []string
	}{
		{"closes", "http", func(*peer) {}, []string{ReasonProxy}},
		{"resets", "http", (*peer).reset, []string{ReasonProxy}},
		{"hangs", "http", (*peer).hang, []string{ReasonProxy, ReasonTimeout}},
		{"wants a login", "http", answers("HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), []string{ReasonProxy}},
		{"fails", "http", answers("HTTP/1.1 502 X\r\nContent-Length: 1000000\r\n\r\n"), []string{ReasonProxy}},
		{"redirects", "http", answers("HTTP/1.1 302 X\r\nLocation: http://127.0.0.1/\r\n\r\n"), []string{ReasonProxy}},
		{"endless headers", "http", func(c *peer) {
			c.say("HTTP/1.1 200 OK\r\n")
			c.endless("X: y\r\n")
		}, []string{ReasonProxy}},
		{"no HTTP", "http", answers("220 mail.example.com ESMTP\r\n"), []string{ReasonProxy}},
		{"more than it was asked for", "http", answers("HTTP/1.1 200 OK\r\n\r\n" + wellSaid), []string{ReasonProxy}},
		{"no TLS", "https", func(c *peer) { c.say("HTTP/1.1 400 X\r\n\r\n"); c.hang() }, []string{ReasonProxy}},
		{"no SOCKS", "socks5", says("HTTP/1.1 400 X\r\n\r\n"), []string{ReasonProxy}},
		{"SOCKS closes", "socks5", func(*peer) {}, []string{ReasonProxy}},
		{"SOCKS hangs", "socks5", says("\x05"), []string{ReasonProxy, ReasonTimeout}},
		{"SOCKS wants a login", "socks5", says("\x05\x02"), []string{ReasonProxy}},
		{"SOCKS refuses", "socks5", says("\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"), []string{ReasonProxy}},
		{"SOCKS with an odd address", "socks5", says("\x05\x00\x05\x00\x00\x07\x00\x00"), []string{ReasonProxy}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{Timeout: time.Minute}
			if slices.Contains(tt.reasons, ReasonTimeout) {
				o.Timeout = impatient
			}
			proxy := newHostile(t, nil, tt.talk)
			o.Proxy = strings.Replace(proxy.url, "http", tt.scheme, 1)
			h := newSink(t, o)
			if err := push(t, h, webhook("https://8.8.8.8/x")); !slices.Contains(tt.reasons, reason(err)) {
				t.Errorf("got %v, want %q", err, tt.reasons)
			}
			proxy.settled(h)
		})
	}
	for scheme := range map[string]bool{"http": true, "https": true, "socks5": true} {
		h := newSink(t, Options{Proxy: scheme + "://" + nobody(t), Timeout: 20 * time.Second})
		if err := push(t, h, webhook("https://8.8.8.8/x")); reason(err) != ReasonProxy {
			t.Errorf("%s, away: %v", scheme, err)
		}
	}
	for _, raw := range []string{"ftp://x", "secret", "http://", "http://secret pass@x", "://secret"} {
		if _, err := New(Options{Proxy: raw}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("proxy %q: %v", raw, err)
		}
	}
}

// FuzzProxyAnswer: whatever a proxy says, it has connected only where it said so, and nothing that comes behind that is
// read as the endpoint's.
func FuzzProxyAnswer(f *testing.F) {
	for _, said := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 407 X\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	} {
		f.Add([]byte(said), false)
	}
	for _, said := range []string{
		"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x02\x01\x00\x05\x00\x00\x03\x05proxy\x00\x00", "\x05\x00\x05\x05\x00\x01", "\x05\xff",
	} {
		f.Add([]byte(said), true)
	}
	f.Fuzz(func(t *testing.T, said []byte, socks bool) {
		u := &url.URL{Scheme: "socks5", Host: "proxy", User: url.UserPassword("u", "p")}
		proxy := &tunnel{proxy: u}
		c := &scripted{in: bytes.NewReader(said)}
		to := netip.MustParseAddrPort("[2001:db8::1]:443")
		if socks {
			if err := proxy.askSOCKS(c, to); err == nil && (said[0] != 5 || c.in.Len() == len(said) || !bytes.Contains(said, []byte{5, 0})) {
				t.Errorf("connected, by %q", said)
			}
			return
		}
		line, _, _ := bytes.Cut(said, []byte("\n"))
		fields := bytes.Fields(line)
		if err := proxy.askHTTP(c, to); err == nil && (len(fields) < 2 || string(fields[1]) != "200" || c.in.Len() > 0) {
			t.Errorf("connected, by %q, with %d bytes to read", said, c.in.Len())
		}
	})
}

// scripted is a connection whose other side says something, whatever it hears.
type scripted struct {
	net.Conn
	in *bytes.Reader
}

func (s *scripted) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }
