package sinks

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestNames: it is the address that is connected to that counts, whatever a name has led to before. 127.0.0.2 stands in
// for the public network; at 127.0.0.1, on the same port, there is what nobody may reach.
func TestNames(t *testing.T) {
	_, port, trapped := trapped(t, "127.0.0.2")
	const public, private = "127.0.0.2", "127.0.0.1"
	for _, tt := range []struct {
		name string
		zone func(n int) []netip.Addr // at the nth look
		want []string                 // of pushes one after another, on a connection of its own each
	}{
		{"a public one", func(int) []netip.Addr { return addresses(public) }, []string{"", ""}},
		{"a private one", func(int) []netip.Addr { return addresses(private) }, []string{ReasonPrivateAddress, ReasonPrivateAddress}},
		{"public at first", func(n int) []netip.Addr {
			if n == 1 {
				return addresses(public)
			}
			return addresses(private)
		}, []string{"", ReasonPrivateAddress, ReasonPrivateAddress}},
		{"now this, now that", func(n int) []netip.Addr {
			if n%2 == 1 {
				return addresses(private)
			}
			return addresses(public)
		}, []string{ReasonPrivateAddress, "", ReasonPrivateAddress, ""}},
		{"both, the private one first", func(int) []netip.Addr { return addresses(private, public) }, []string{"", ""}},
		{"both, the public one first", func(int) []netip.Addr { return addresses(public, private) }, []string{"", ""}},
		{"many private ones", func(int) []netip.Addr {
			return addresses(private, "127.0.0.3", "10.0.0.1", "192.168.0.1", "169.254.169.254")
		}, []string{ReasonPrivateAddress}},
		{"IPv6 loopback", func(int) []netip.Addr { return addresses("::1") }, []string{ReasonPrivateAddress}},
		{"IPv6 loopback beside a public one", func(int) []netip.Addr { return addresses("::1", public) }, []string{""}},
		{"a private one mapped", func(int) []netip.Addr { return addresses("::ffff:127.0.0.1") }, []string{ReasonPrivateAddress}},
		{"the public one mapped", func(int) []netip.Addr { return addresses("::ffff:127.0.0.2") }, []string{""}},
		{"a private one through NAT64", func(int) []netip.Addr { return addresses("64:ff9b::127.0.0.1") }, []string{ReasonPrivateAddress}},
		{"one of 6to4 and of Teredo", func(int) []netip.Addr { return addresses("2002:7f00:1::", "2001::7f00:1") }, []string{ReasonPrivateAddress}},
		{"one of a link", func(int) []netip.Addr { return addresses("fe80::1") }, []string{ReasonPrivateAddress}},
		{"no address", func(int) []netip.Addr { return []netip.Addr{} }, []string{ReasonDNS}},
		{"no name", func(int) []netip.Addr { return nil }, []string{ReasonDNS}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, host := range []string{"crm.example.com", "crm.example.com."} {
				o := Options{AllowHTTP: true, Timeout: 10 * time.Second, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
				o.resolver = newResolver(t, func(name string, n int) []netip.Addr {
					if name != "crm.example.com" {
						return nil
					}
					return tt.zone(n)
				})
				h := newSink(t, o)
				var got []string
				for range tt.want {
					got = append(got, reason(push(t, h, webhook("http://"+host+":"+port))))
					h.Close()
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", host, diff)
				}
			}
			if n := trapped.Load(); n > 0 {
				t.Fatalf("%d connections came to the private address", n)
			}
		})
	}
}

// TestNameServerHangs: the name's servers have no more time than the rest of the attempt. (The resolver's own questions go
// on for some seconds: others may want to know too.)
func TestNameServerHangs(t *testing.T) {
	t.Parallel()
	asking, answer := context.WithCancel(context.Background())
	defer answer()
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		if asking.Err() != nil {
			return nil, asking.Err()
		}
		ours, theirs := net.Pipe()
		context.AfterFunc(asking, func() { _ = theirs.Close() })
		return ours, nil
	}}
	for _, proxy := range []string{"", "http://" + nobody(t)} {
		began := time.Now()
		h := newSink(t, Options{Timeout: impatient, Proxy: proxy, resolver: resolver})
		if err := push(t, h, webhook("https://crm.example.com/")); reason(err) != ReasonTimeout && reason(err) != ReasonDNS {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > impatient+3*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}
