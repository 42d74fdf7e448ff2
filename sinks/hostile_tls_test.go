package sinks

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// after greets nobody: it waits for the other side's first bytes and does f.
func after(f func(c *peer)) talk {
	return func(c *peer) {
		if _, err := c.in.Peek(1); err == nil {
			f(c)
		}
	}
}

var noTLS = []string{ReasonTLS}

// misdeedsTLS are what servers do in place of a handshake.
var misdeedsTLS = []misdeed{
	{name: "hangs before the handshake", talk: (*peer).hang, reasons: timeouts},
	{name: "hangs in the handshake", talk: after(func(c *peer) { c.say("\x16\x03\x03\x00\x7a\x02\x00"); c.hang() }), reasons: timeouts},
	{name: "a byte at a time", talk: after(func(c *peer) { c.drip("\x16\x03\x03\x00\x7a"+strings.Repeat("\x02", 0x7a), 50*time.Millisecond) }), reasons: timeouts},
	{name: "endless handshake", talk: after(func(c *peer) { c.endless("\x16\x03\x03\x40\x00\x02\xff\xff\xff" + strings.Repeat("x", 1<<14-4)) }), reasons: noTLS, bytes: socketBuffers},
	{name: "endless alerts", talk: after(func(c *peer) { c.endless("\x15\x03\x03\x00\x02\x01\x5a") }), reasons: noTLS, bytes: socketBuffers},
	{name: "endless text", talk: after(func(c *peer) { c.endless("220 mail.example.com ESMTP\r\n") }), reasons: noTLS, bytes: socketBuffers},
	{name: "resets in the handshake", talk: after(func(c *peer) { c.say("\x16\x03\x03\x00\x7a\x02\x00"); c.reset() }), reasons: noTLS},
	{name: "closes in the handshake", talk: after(func(c *peer) { c.say("\x16\x03\x03\x00\x7a\x02\x00") }), reasons: noTLS},
	{name: "closes before the handshake", talk: after(func(*peer) {}), reasons: noTLS},
	{name: "refuses the handshake", talk: after(func(c *peer) { c.say("\x15\x03\x03\x00\x02\x02\x28") }), reasons: noTLS},
	{name: "speaks HTTP", talk: after(func(c *peer) { c.say("HTTP/1.1 400 X\r\n\r\n") }), reasons: noTLS},
}

func TestMisdeedsTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	secure := &tls.Config{Certificates: []tls.Certificate{a.issue(nil)}}
	var all errgroup.Group
	all.SetLimit(8)
	for _, m := range misdeedsTLS {
		all.Go(func() error {
			t.Run(m.name, func(t *testing.T) {
				o := local()
				o.CAFile = a.file
				if o.Timeout = time.Minute; slices.Equal(m.reasons, timeouts) {
					o.Timeout = impatient
				}
				h, crm := newSink(t, o), newHostile(t, nil, m.talk)
				crm.url = strings.Replace(crm.url, "http:", "https:", 1)
				judgeMisdeed(t, h, crm, m)
				crm.recovers(h, func(c *peer) {
					c.Conn = tls.Server(c.Conn, secure)
					c.in.Reset(c.Conn)
					well(c)
				})
			})
			return nil
		})
	}
	_ = all.Wait()
}
