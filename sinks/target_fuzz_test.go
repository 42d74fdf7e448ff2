package sinks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// FuzzParseURL: what is accepted leads, by everybody's reading, to the host that the guard will judge; an address in it
// is spelt as netip spells one. Errors show nothing of the URL.
func FuzzParseURL(f *testing.F) {
	for _, raw := range []string{
		"https://crm.example.com/hooks/x?y=1", "https://user:pass@crm.example.com/", "https://127.1/", "https://0x7f.1/", "https://0177.0.0.1", "https://2130706433/",
		"https://[::1]/", "https://[::ffff:127.0.0.1]:443/x", "https://[fe80::1%25lo]/", "https://a:0/", "https://a:65536", "https://a:", "https:opaque", "https://",
		"HTTPS://A.EXAMPLE", "https://exa\u00admple.com/", "https://xn--e1afmkfd.example/", "https://a\\@127.0.0.1/", "https://a#@127.0.0.1/", "https://127.0.0.1./",
		"http://a/", "https://%31%32%37.0.0.1/", "https://a b/", "//a/", "https://1.2.3.4.5/", "https://0x/",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseURL(jobs.Secret(raw), false)
		if err != nil {
			if text := err.Error(); len(raw) > 12 && strings.Contains(text, raw) || strings.Contains(text, "\n") {
				t.Fatalf("the error shows it: %v", err)
			}
			return
		}
		host := u.Hostname()
		if u.Scheme != "https" || host == "" || strings.ContainsAny(host, "/@\\?# \t\r\n\x00") && !strings.Contains(u.Host, "%") {
			t.Fatalf("%q has scheme %q and host %q", raw, u.Scheme, host)
		}
		if address, ok := inetAton(host); ok {
			if a, err := netip.ParseAddr(host); err != nil || a.As4() != address {
				t.Fatalf("libc reads %q in %q as the address %v", host, raw, netip.AddrFrom4(address))
			}
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Hostname() != host || again.Port() != u.Port() {
			t.Fatalf("%q is %q, and that leads to %v (%v)", raw, u, again, err)
		}
	})
}

// inetAton reads an address as inet_aton(3) does: one to four numbers, decimal, octal after 0, hexadecimal after 0x; the
// last fills what is left.
func inetAton(s string) (address [4]byte, ok bool) {
	parts := strings.Split(strings.TrimSuffix(s, "."), ".")
	if len(parts) > 4 {
		return address, false
	}
	for i, part := range parts {
		digits, base := strings.ToLower(part), 10
		if rest, hex := strings.CutPrefix(digits, "0x"); hex {
			digits, base = rest, 16
		} else if len(digits) > 1 && digits[0] == '0' {
			digits, base = digits[1:], 8
		}
		n, err := strconv.ParseUint(digits, base, 32)
		last := i == len(parts)-1
		if err != nil || strings.ContainsAny(digits, "+-_") || !last && n > 255 || last && n >= 1<<(8*(4-i)) {
			return address, false
		}
		if !last {
			address[i] = byte(n)
			continue
		}
		for j := 3; j >= i; j-- {
			address[j] = byte(n)
			n >>= 8
		}
	}
	return address, true
}

// FuzzGuard: no address that passes is one of this machine, this network or none, in whatever form it comes.
func FuzzGuard(f *testing.F) {
	for _, a := range []string{
		"127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "8.8.8.8", "168.63.129.16",
		"::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2001:0:7f00:1::", "2001:db8::1", "2606:4700::1111",
	} {
		f.Add(netip.MustParseAddr(a).AsSlice())
	}
	public, err := newGuard(nil)
	if err != nil {
		f.Fatal(err)
	}
	translated, err := newGuard([]netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		for _, g := range []*guard{public, translated} {
			passes := g.allows(a)
			if control := g.control("tcp", netip.AddrPortFrom(a, 443).String(), nil); (control == nil) != passes {
				t.Fatalf("%v passes: %v, and the dialer is told %v", a, passes, control)
			}
			for _, within := range embedded(a) {
				if passes && !routed(within) {
					t.Fatalf("%v passes, and leads to %v", a, within)
				}
			}
		}
		if public.allows(a) && !translated.allows(a) {
			t.Fatalf("%v passes, and does not where more is open", a)
		}
	})
}

// embedded are the addresses that one may lead to: itself, and an IPv4 address that a gateway makes of it.
func embedded(a netip.Addr) []netip.Addr {
	all := []netip.Addr{a.Unmap()}
	if !a.Is6() {
		return all
	}
	b := a.As16()
	tail := netip.AddrFrom4([4]byte(b[12:]))
	for prefix, within := range map[string]netip.Addr{
		"::/96": tail, "::ffff:0:0:0/96": tail, "64:ff9b::/96": tail, "64:ff9b:1::/48": tail,
		"2002::/16": netip.AddrFrom4([4]byte(b[2:6])), "2001::/32": netip.AddrFrom4([4]byte(b[4:8])),
	} {
		if netip.MustParsePrefix(prefix).Contains(a) {
			all = append(all, within)
		}
	}
	return all
}

// routed reports whether an address can be a public host's, as far as package netip tells, and some more.
func routed(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, prefix := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "168.63.129.16/32", "fec0::/10", "2001:db8::/32"} {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return false
		}
	}
	return true
}

// FuzzHeaders: a header that passes the check is read by a server as it was given, and adds nothing to the request.
func FuzzHeaders(f *testing.F) {
	for _, header := range [][2]string{
		{"X-Api-Key", "k"},
		{"authorization", "Bearer x"},
		{"Host", "a.example:443"},
		{"X", "a\r\nY: b"},
		{"X\r\nY", "b"},
		{"Content-Length", "0"},
		{"transfer-encoding", "chunked"},
		{"X-Ümlaut", "ü"},
		{"X", "\xff\t "},
		{"X", ""},
		{"", "x"},
		{"X:", "y"},
		{"Cookie", "a=b; c"},
		{"Accept", "*/*"},
		{"TE", "trailers"},
		{"host", "a b"},
	} {
		f.Add(header[0], header[1])
	}
	h, err := New(Options{Dialects: every})
	if err != nil {
		f.Fatal(err)
	}
	const body = "{}"
	f.Fuzz(func(t *testing.T, name, value string) {
		headers := map[string]jobs.Secret{name: jobs.Secret(value)}
		w := &jobs.Webhook{ID: "a", URL: "https://crm.example.com/x", Dialect: "smarterbot", SignKey: "key", Headers: headers}
		fault := every.CheckHeaders(w.Dialect, headers)
		if fault != nil && len(value) > 8 && strings.Contains(fault.Error(), value) && !strings.Contains(strconv.Quote(name)+textproto.CanonicalMIMEHeaderKey(name), value) {
			t.Fatalf("the error shows the value: %v", fault)
		}
		req, err := h.Request(w, [16]byte{}, []byte(body), time.Unix(1, 0))
		if (err == nil) != (fault == nil) {
			t.Fatalf("the check says %v, and the request %v", fault, err)
		}
		if err != nil {
			return
		}
		plain, err := h.Request(&jobs.Webhook{ID: "a", URL: w.URL, Dialect: w.Dialect, SignKey: w.SignKey}, [16]byte{}, []byte(body), time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		got, want := asRead(t, req), asRead(t, plain)
		key := textproto.CanonicalMIMEHeaderKey(name)
		if key == "Host" {
			want.Host = value
		} else {
			want.Header[key] = []string{strings.Trim(value, " \t")}
		}
		if got.Host != want.Host || len(got.Header) != len(want.Header) {
			t.Fatalf("read as %q %v, want %q %v", got.Host, got.Header, want.Host, want.Header)
		}
		for key := range want.Header {
			if strings.Join(got.Header[key], "\n") != strings.Join(want.Header[key], "\n") {
				t.Fatalf("%s is read as %q, want %q", key, got.Header[key], want.Header[key])
			}
		}
	})
}

// asRead is a request as a server reads it, with nothing behind its body.
func asRead(t *testing.T, req *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(&wire)
	read, err := http.ReadRequest(in)
	if err != nil {
		t.Fatalf("a server says %v", err)
	}
	body, err := io.ReadAll(read.Body)
	if err != nil || string(body) != "{}" || in.Buffered() > 0 || wire.Len() > 0 {
		t.Fatalf("a server reads the body as %q (%v), and %d bytes after it", body, err, in.Buffered()+wire.Len())
	}
	return read
}

// FuzzKey: a sign key of the whsec form stands for its bytes, and is written so again; no key is shown.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_AAAA", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\nw", "", "key", "whsec_" + strings.Repeat("A", 88)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		bytes, err := standardKey(jobs.Secret(key))
		check := every.CheckKey("standard-webhooks", jobs.Secret(key))
		if (err == nil) != (check == nil) {
			t.Fatalf("%v, and the check says %v", err, check)
		}
		if err != nil {
			if len(key) > 6 && strings.Contains(errors.Join(err, check).Error(), key) {
				t.Fatalf("the key is shown: %v", check)
			}
			return
		}
		again, err := standardKey(KeyRule{Form: KeyWhsec}.write(bytes))
		if err != nil || string(again) != string(bytes) || len(bytes) < 24 || len(bytes) > 64 {
			t.Fatalf("%d bytes, written and read again %d (%v)", len(bytes), len(again), err)
		}
	})
}
