package sinks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// Addresses that are public by their numbers and lead to a cloud's own metadata service from within.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's WireServer
}

// errPrivate says that an address, or a name that only a private network knows, must not be reached.
var errPrivate = errors.New("private address")

// A guard decides which addresses may be connected to. Nil lets all pass.
type guard struct{ addresses *ssrf.Guardian }

// newGuard lets through what is public, and what lies in allow. It refuses every prefix of the IANA special-purpose
// registries: loopback, private, shared (CGNAT), link-local with the metadata services in it, unique local, translated
// IPv4 (NAT64, 6to4, Teredo), documentation, multicast.
func newGuard(allow []netip.Prefix) (*guard, error) {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if !p.IsValid() {
			return nil, errors.New("allow_cidrs: a prefix is none")
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("allow_cidrs: %s: write the IPv4 prefix that is meant", p)
		}
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{ssrf.New(
		ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...),
		ssrf.WithDeniedV4Prefixes(metadata...),
	)}, nil
}

// allows reports whether an address may be connected to. An IPv4 address is the same in every form that leads to it; of
// NAT64's prefix, where that is let in, so is the one that lies within.
func (g *guard) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if g.addresses.SafeAddr(a) != nil {
		return false
	}
	if !ssrf.IPv6NAT64Prefix.Contains(a) {
		return true
	}
	b := a.As16()
	return g.addresses.SafeAddr(netip.AddrFrom4([4]byte(b[12:]))) == nil
}

// Barred reports whether a URL's host is an address that must not be connected to where these networks are open. Of a name
// it says nothing: that is looked up for every connection.
func Barred(host string, open []netip.Prefix) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	g, err := newGuard(open)
	return err == nil && !g.allows(a)
}

// control is a net.Dialer's Control: it sees the address that is about to be connected to, after DNS, so neither a
// name nor a rebinding of it gets past.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !g.allows(a.Addr()) {
		return errPrivate
	}
	return nil
}

// lookup returns the addresses of a host that may be connected to. The error is errPrivate where it has none but others,
// or a *net.DNSError.
func (g *guard) lookup(ctx context.Context, resolver *net.Resolver, host string) ([]netip.Addr, error) {
	all := make([]netip.Addr, 1)
	var err error
	if all[0], err = netip.ParseAddr(host); err != nil {
		if all, err = resolver.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err
		}
	}
	all = slices.DeleteFunc(all, func(a netip.Addr) bool { return !g.allows(a) })
	if len(all) == 0 {
		return nil, errPrivate
	}
	return all, nil
}

// Reachable says why a webhook's host could not be reached, as far as its addresses tell: nothing is sent. Behind a proxy
// that looks names up itself it says nothing.
func (h *HTTP) Reachable(ctx context.Context, u *url.URL) error {
	if h.transport.Proxy != nil {
		return nil
	}
	guard := h.guard
	if guard == nil {
		guard = everywhere
	}
	_, err := guard.lookup(ctx, h.resolver, u.Hostname())
	if fault, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("its host does not resolve: %s", fault.Err)
	}
	if errors.Is(err, errPrivate) {
		return errors.New("its host has only private addresses; http.allow_cidrs or http.allow_private opens them")
	}
	return err
}

// everywhere is the guard that lets all pass.
var everywhere = &guard{ssrf.New(ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("0.0.0.0/0")), ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::/0")))}
