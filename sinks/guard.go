package sinks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

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
// registries: loopback, private, shared (CGNAT), link-local with the metadata services in it, unique local, mapped
// and translated IPv4 (::ffff:0:0/96, NAT64, 6to4, Teredo), documentation, multicast.
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

// control is a net.Dialer's Control: it sees the address that is about to be connected to, after DNS, so neither a
// name nor a rebinding of it gets past.
func (g *guard) control(network, address string, c syscall.RawConn) error {
	if err := g.addresses.Safe(network, address, c); err != nil {
		return errPrivate // theirs names the address
	}
	return nil
}

// proxyCheckFor is how long an answer of checkThroughProxy is believed.
const proxyCheckFor = 30 * time.Second

// checkThroughProxy checks a target that the proxy will resolve and connect to, and we shall not: its address, or all
// addresses that its name has here. A name that has none here is left to the proxy, unless it is of a kind that only
// private networks have. A proxy that resolves otherwise than we do must keep its own guard.
func (h *HTTP) checkThroughProxy(ctx context.Context, t *target) error {
	if h.guard == nil {
		return nil
	}
	t.proxyCheck.Lock()
	defer t.proxyCheck.Unlock()
	now := time.Now()
	if !t.checked.IsZero() && now.Sub(t.checked) < proxyCheckFor {
		return t.checkedErr
	}
	err := h.checkHost(ctx, t.url.Hostname())
	if ctx.Err() == nil {
		t.checked, t.checkedErr = now, err
	}
	return err
}

func (h *HTTP) checkHost(ctx context.Context, host string) error {
	addresses := make([]netip.Addr, 0, 1)
	if a, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, a)
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if privateName(host) {
			return errPrivate
		}
		return nil
	}
	for _, a := range addresses {
		if h.guard.addresses.SafeAddr(a.Unmap().WithZone("")) != nil {
			return errPrivate
		}
	}
	return nil
}

// privateName reports whether host is a name that the public DNS never has: a single label, or a domain reserved for
// private networks.
func privateName(host string) bool {
	host = "." + strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.Count(host, ".") < 2 {
		return true
	}
	for _, domain := range [...]string{".localhost", ".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp"} {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}
