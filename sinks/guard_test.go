package sinks

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

func push(t *testing.T, h *HTTP, w *jobs.Webhook) error {
	t.Helper()
	_, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: uuid.New(), Body: []byte(exampleBody), Attempt: 1})
	return err
}

// TestPrivateAddresses pushes to addresses that no customer may make us reach.
func TestPrivateAddresses(t *testing.T) {
	o := Options{AllowHTTP: true, Timeout: 3 * time.Second}
	h := newSink(t, o)
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "localhost", "LOCALHOST", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
		"192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "168.63.129.16",
		"192.0.2.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.88.99.1",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:a00:1]",
		"[fd00::1]", "[fd00:ec2::254]", "[fc00::1]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]", "[ff02::1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::1]", "[2002:a00:1::]", "[2001::1]",
		"[2001:db8::1]", "[100::1]", "[::ffff:0:127.0.0.1]", "[5f00::1]",
		"100.127.255.255", "192.0.0.8", "192.0.0.170", "198.19.255.255", "198.51.100.1", "203.0.113.1", "239.255.255.250",
		"[0000:0000:0000:0000:0000:0000:0000:0001]", "[::ffff:6440:1]", "[::FFFF:127.0.0.1]", "[ff0e::1]", "[fe80::1%251]",
		"[2001:0:7f00:1::]", "[2001:20::1]", "[2002:c0a8:101::1]", "[3fff::1]", "[fd20:ce::254]",
		"8.8.8.8@127.0.0.1", "crm.example.com:443@127.0.0.1", "crm.example.com%2f@127.0.0.1", "a%40b@[::1]",
	} {
		t.Run(host, func(t *testing.T) {
			for _, scheme := range []string{"http://", "https://"} {
				if err := push(t, h, webhook(scheme+host+":9/latest/meta-data")); reason(err) != ReasonPrivateAddress {
					t.Errorf("%s: %v", scheme, err)
				}
			}
		})
	}
}

// TestOddAddresses: spellings that some resolvers take for an address are refused before any does.
func TestOddAddresses(t *testing.T) {
	h := newSink(t, Options{AllowHTTP: true, Timeout: 3 * time.Second})
	for _, host := range []string{
		"2130706433", "0x7f000001", "0x7F.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "127.0.0.01", "0", "0x",
		"1.2.3.4.5", "256.256.256.256", "a.0x7f", "example.1", "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "ⓛocalhost", ".", "..",
		"0x7f.0x0.0x0.0x1", "0X7F000001.", "00000177.1", "127.0.0.0x1", "+127.0.0.1", "127.0.0.1..", "0.0.0.0.", "4294967295",
		"%31%32%37.0.0.1", "127.0.0.1%00.example.com", "127.0.0.1%2eexample.com", "127.0.0.1\\@8.8.8.8", "[127.0.0.1", "[::1", "[::1].example.com",
		"[v1.127]", "127.0.0.1 .example.com", "127.0.0.1\t", "loc\u00adalhost", "\u200blocalhost",
	} {
		t.Run(host, func(t *testing.T) {
			if err := push(t, h, webhook("http://"+host+":9/")); reason(err) != ReasonURL {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	for _, raw := range []string{
		"https://crm.example.com", "https://crm.example.com:8443/a?b=c", "https://u:p@crm.example.com/", "https://8.8.8.8/", "https://[2606:4700::1111]/",
		"https://xn--bcher-kva.example/", "https://a_b.example.com./x", "HTTPS://crm.example.com/",
	} {
		if _, err := ParseURL(jobs.Secret(raw), false); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for raw, says := range map[string]string{
		"":                              "https://",
		"crm.example.com/x":             "https://",
		"/x":                            "https://",
		"ftp://crm.example.com/":        "https://",
		"file:///etc/passwd":            "https://",
		"javascript:alert(1)":           "https://",
		"https:crm.example.com":         "no host",
		"https:///secret":               "no host",
		"https://:443/secret":           "no host",
		"http://crm.example.com/":       "allow_http",
		"https://bücher.example/":       "xn--",
		"https://crm.example.com:0/":    "port",
		"https://crm.example.com:/":     "port",
		"https://crm.example.com:99999": "port",
		"https://crm.example.com:x/":    "no URL",
		"https://a b/secret":            "no URL",
		"https://a/\x00secret":          "no URL",
		"https://a/secret\r\nX: y":      "no URL",
		"https://[::1/secret":           "no URL",
		"https://127.1/secret":          "unusual",
	} {
		_, err := ParseURL(jobs.Secret(raw), false)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want an error that says %q", raw, err, says)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "example.com") {
			t.Errorf("the error shows the URL: %v", err)
		}
	}
}

func TestAllowedNetworks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(good))
	}))
	t.Cleanup(server.Close)
	tests := []struct {
		name  string
		o     Options
		wants string
	}{
		{"none", Options{}, ReasonPrivateAddress},
		{"another", Options{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, ReasonPrivateAddress},
		{"this", Options{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}}, ""},
		{"all", Options{AllowPrivate: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.AllowHTTP = true
			h := newSink(t, tt.o)
			if err := push(t, h, webhook(server.URL)); reason(err) != tt.wants {
				t.Errorf("got %v, want %q", err, tt.wants)
			}
			// An IPv4 network that is let in lets in none of its IPv6 forms.
			if tt.name == "this" {
				if err := push(t, h, webhook("http://[64:ff9b::7f00:1]/")); reason(err) != ReasonPrivateAddress {
					t.Errorf("NAT64: %v", err)
				}
			}
		})
	}
	if _, err := New(Options{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}); err == nil {
		t.Error("a mapped prefix would let nothing in, and is taken")
	}
}

// TestAllowedAddresses: allow_cidrs opens what it names, and nothing else.
func TestAllowedAddresses(t *testing.T) {
	for _, tt := range []struct {
		allow, address string
		want           bool
	}{
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "::ffff:10.1.2.3", true}, // the same address
		{"10.0.0.0/8", "64:ff9b::10.1.2.3", false},
		{"10.0.0.0/8", "2002:a01:203::", false},
		{"10.0.0.0/8", "::10.1.2.3", false},
		{"10.0.0.0/8", "172.16.0.1", false},
		{"10.1.0.0/16", "10.2.0.1", false},
		{"0.0.0.0/0", "127.0.0.1", true},
		{"0.0.0.0/0", "::1", false},
		{"168.63.129.16/32", "168.63.129.16", true},
		{"::1/128", "::1", true},
		{"::1/128", "127.0.0.1", false},
		{"fd00::/8", "fd00:ec2::254", true},
		{"fd00::/8", "fc00::1", false},
		{"fe80::/10", "fe80::1%lo", true},
		{"fe80::/10", "fe80::1", true},
		{"64:ff9b::/96", "64:ff9b::8.8.8.8", true},
		{"64:ff9b::/96", "64:ff9b::127.0.0.1", false},
		{"64:ff9b::/96", "64:ff9b::169.254.169.254", false},
		{"64:ff9b::/96 127.0.0.0/8", "64:ff9b::127.0.0.1", true},
		{"64:ff9b::/96 127.0.0.0/8", "64:ff9b::10.0.0.1", false},
		{"::/0", "64:ff9b::127.0.0.1", false},
		{"::/0", "::ffff:127.0.0.1", false},
	} {
		var allow []netip.Prefix
		for text := range strings.FieldsSeq(tt.allow) {
			allow = append(allow, netip.MustParsePrefix(text))
		}
		g, err := newGuard(allow)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.allows(netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%s, where %s is open: %v", tt.address, tt.allow, got)
		}
	}
	// Whatever is let in, all else is as it was.
	none, err := newGuard(nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		address := func(label string) netip.Addr {
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)
			if rapid.Bool().Draw(t, label+" is IPv4") {
				return netip.AddrFrom4([4]byte(b[:4]))
			}
			return netip.AddrFrom16([16]byte(b)).Unmap()
		}
		of, a := address("a network's"), address("address")
		open, err := of.Prefix(rapid.IntRange(0, of.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := newGuard([]netip.Prefix{open})
		if err != nil {
			return // a mapped one, which is refused
		}
		if want := none.allows(a) || open.Contains(a); g.allows(a) != want && !ssrf.IPv6NAT64Prefix.Contains(a) {
			t.Errorf("%v, where %v is open: %v", a, open, !want)
		}
	})
}

func TestPlainHTTPIsRefused(t *testing.T) {
	h := newSink(t, Options{AllowPrivate: true})
	if err := push(t, h, webhook("http://127.0.0.1:9/")); reason(err) != ReasonPlainHTTP {
		t.Error(err)
	}
}

// TestEnvironmentProxyIsNotUsed: a proxy of the environment would look up and reach what the guard refuses.
func TestEnvironmentProxyIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:9")
	if h := newSink(t, Options{}); h.transport.Proxy != nil {
		t.Error("a proxy is set")
	}
}

// TestErrorsAreMute: whatever goes wrong, an error shows neither URL nor key nor header.
func TestErrorsAreMute(t *testing.T) {
	h := newSink(t, Options{AllowHTTP: true, Timeout: time.Second})
	for _, raw := range []string{"http://127.0.0.1:9/s3cret", "https://s3cret.invalid/", "http://s3cret@[::1]/", "s3cret", "https://a/\x01s3cret"} {
		w := webhook(raw)
		w.SignKey, w.Headers = "s3cret", map[string]jobs.Secret{"X": "s3cret"}
		err := push(t, h, w)
		var refusal *jobs.RefusedError
		if !errors.As(err, &refusal) {
			t.Fatalf("%v", err)
		}
		if strings.Contains(err.Error()+refusal.Hint+refusal.Word, "s3cret") {
			t.Errorf("%+v", refusal)
		}
		if u := (*url.Error)(nil); errors.As(err, &u) {
			t.Error("a url.Error came through")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Push(ctx, jobs.Request{Webhook: webhook("https://s3cret.invalid/")}); err != context.Canceled {
		t.Errorf("called off: %v", err)
	}
}
