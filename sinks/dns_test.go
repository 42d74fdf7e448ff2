package sinks

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// names is a DNS server: it says which addresses a name has when it is asked for the nth time.
type nameServer struct {
	mu    sync.Mutex
	zone  func(name string, n int) []netip.Addr // nil: there is no such name
	asked map[string]int
}

// newResolver starts a DNS server and returns a resolver that asks it, and it alone.
func newResolver(t *testing.T, zone func(name string, n int) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{zone: zone, asked: map[string]int{}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve(conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve(conn net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		if answer := s.answer(b[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// answer answers one question (RFC 1035, 4): A and AAAA are one and the same here, so that both find what a name has.
func (s *nameServer) answer(query []byte) []byte {
	const header, typeA, typeAAAA = 12, 1, 28
	if len(query) < header {
		return nil
	}
	var labels []string
	at := header
	for at < len(query) && query[at] != 0 {
		labels = append(labels, string(query[at+1:at+1+int(query[at])]))
		at += 1 + int(query[at])
	}
	question := query[header : at+5]
	kind := binary.BigEndian.Uint16(question[len(question)-4:])
	name := strings.ToLower(strings.Join(labels, "."))
	s.mu.Lock()
	if kind == typeA {
		s.asked[name]++
	}
	addresses := s.zone(name, max(1, s.asked[name]))
	s.mu.Unlock()
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	if addresses == nil {
		answer[3] |= 3 // no such name
	}
	for _, a := range addresses {
		if of := map[bool]uint16{true: typeA, false: typeAAAA}[a.Is4()]; of != kind {
			continue
		}
		answer[7]++
		raw := a.AsSlice()
		answer = append(answer, 0xc0, header, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
		answer = append(answer, raw...)
	}
	return answer
}

func addresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// at listens on this address, and on 127.0.0.1 and ::1 at the same port, where nobody may come.
func trapped(t *testing.T, address string) (url string, port string, trapped *atomic.Int64) {
	t.Helper()
	trapped = new(atomic.Int64)
	for range 20 {
		good, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(good.Addr().String())
		trap, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			_ = good.Close()
			continue
		}
		crm := newHostileAt(t, good, nil, well)
		newHostileAt(t, trap, nil, func(c *peer) {
			trapped.Add(1)
			well(c)
		})
		return crm.url, port, trapped
	}
	t.Fatal("no port is free on both addresses")
	return "", "", nil
}
