package sinks

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Frames of HTTP/2 (RFC 9113, 6) and what is said in them, written out: what these tests send no library would.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	endStream  = 0x1
	ack        = 0x1
	endHeaders = 0x4
)

// frame is one frame.
func frame(kind, flags byte, stream uint32, payload string) string {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[5:], stream)
	return string(b) + payload
}

func number(n ...uint32) (text string) {
	for _, n := range n {
		text += string(binary.BigEndian.AppendUint32(nil, n))
	}
	return text
}

// literal is a header that is not indexed (RFC 7541, 6.2.2); name and value are shorter than 127 bytes.
func literal(name, value string) string {
	return "\x00" + string(byte(len(name))) + name + string(byte(len(value))) + value
}

const status200 = "\x88" // of HPACK's static table

func goAway(last, code uint32) string { return frame(frameGoAway, 0, 0, number(last, code)) }

func resetStream(stream, code uint32) string { return frame(frameReset, 0, stream, number(code)) }

// answer2 is an acknowledgement in HTTP/2.
func answer2(stream uint32) string {
	return frame(frameHeaders, endHeaders, stream, status200+literal("content-type", "application/json")) + frame(frameData, endStream, stream, good)
}

// speaks2 greets as an HTTP/2 server does, and calls f for each stream whose request is whole, until f has had enough.
func speaks2(settings string, f func(c *peer, stream uint32) bool) talk {
	return func(c *peer) {
		if !c.greet2(settings) {
			return
		}
		for {
			kind, flags, stream, _, err := c.frame2()
			if err != nil {
				return
			}
			if (kind == frameData || kind == frameHeaders) && flags&endStream != 0 && !f(c, stream) {
				return
			}
		}
	}
}

func (c *peer) greet2(settings string) bool {
	preface := make([]byte, 24)
	if _, err := io.ReadFull(c.in, preface); err != nil {
		return false
	}
	return c.say(frame(frameSettings, 0, 0, settings))
}

// frame2 reads one frame, and says yes to what needs that.
func (c *peer) frame2() (kind, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(c.in, head[:]); err != nil {
		return
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err = io.ReadFull(c.in, payload); err != nil {
		return
	}
	kind, flags, stream = head[3], head[4], binary.BigEndian.Uint32(head[5:])
	if kind == frameSettings && flags&ack == 0 {
		c.say(frame(frameSettings, ack, 0, ""))
	}
	if kind == framePing && flags&ack == 0 {
		c.say(frame(framePing, ack, 0, string(payload)))
	}
	return
}

// answers2 answers each request with what f makes of it, and goes on.
func answers2(f func(stream uint32) string) talk {
	return speaks2("", func(c *peer, stream uint32) bool { return c.say(f(stream)) })
}

// once2 answers a connection's first request and closes.
func once2(f func(stream uint32) string) talk {
	return speaks2("", func(c *peer, stream uint32) bool {
		c.say(f(stream))
		return false
	})
}

// hangsAfter2 says what f makes of a request, and nothing more.
func hangsAfter2(f func(stream uint32) string) talk {
	return speaks2("", func(c *peer, stream uint32) bool {
		c.say(f(stream))
		c.hang()
		return false
	})
}

// thenDoes2 acknowledges a connection's first request, and does f with the second.
func thenDoes2(f func(c *peer, stream uint32)) talk {
	return speaks2("", func(c *peer, stream uint32) bool {
		if stream == 1 {
			return c.say(answer2(stream))
		}
		f(c, stream)
		return false
	})
}

// floods2 says again and again what f makes of a request.
func floods2(before, again func(stream uint32) string) talk {
	return speaks2("", func(c *peer, stream uint32) bool {
		// What comes in meanwhile is read, or both sides would wait for each other.
		go func() { _, _ = io.Copy(io.Discard, c.in) }()
		c.say(before(stream))
		c.endless(again(stream))
		return false
	})
}

func nothing2(uint32) string { return "" }

var (
	broken       = []string{ReasonReset, ReasonHTTP}
	slowOrBroken = []string{ReasonTimeout, ReasonReset, ReasonHTTP}
)

func headers2(stream uint32) string { return frame(frameHeaders, endHeaders, stream, status200) }

// bomb is 8 MiB in gzip.
var bomb = compressed(strings.Repeat(" ", 8<<20))

var well2 = answers2(answer2)

func setting(id uint16, value uint32) string {
	return string(binary.BigEndian.AppendUint16(nil, id)) + number(value)
}

var misdeeds2 = []misdeed{
	{name: "hangs before its settings", talk: (*peer).hang, reasons: timeouts},
	{name: "hangs before headers", talk: answers2(nothing2), reasons: timeouts},
	{name: "hangs in headers", talk: hangsAfter2(func(s uint32) string { return frame(frameHeaders, 0, s, status200) }), reasons: timeouts},
	{name: "hangs in a frame", talk: hangsAfter2(func(s uint32) string { return headers2(s)[:9] }), reasons: timeouts},
	{name: "hangs after headers", talk: answers2(headers2), reasons: timeouts, status: 200},
	{name: "hangs in the body", talk: answers2(func(s uint32) string { return headers2(s) + frame(frameData, 0, s, good[:8]) }), reasons: timeouts, status: 200},
	{name: "lets no body in", talk: speaks2(setting(4, 0), func(*peer, uint32) bool { return true }), reasons: timeouts},
	{name: "takes no streams", talk: speaks2(setting(3, 0), func(*peer, uint32) bool { return true }), reasons: timeouts},
	{name: "success after our timeout", talk: speaks2("", func(c *peer, s uint32) bool {
		time.Sleep(impatient + 200*time.Millisecond)
		return c.say(answer2(s))
	}), reasons: timeouts},
	{name: "a byte at a time", talk: speaks2("", func(c *peer, s uint32) bool { c.drip(answer2(s), 50*time.Millisecond); return false }), reasons: slowOrBroken},

	{name: "endless body", talk: floods2(headers2, func(s uint32) string { return frame(frameData, 0, s, strings.Repeat(" ", 16<<10)) }), reasons: []string{ReasonTooLarge, ReasonReset, ReasonHTTP}, status: -1, bytes: socketBuffers},
	{name: "endless empty body", talk: floods2(headers2, func(s uint32) string { return frame(frameData, 0, s, "") }), reasons: slowOrBroken, status: -1, bytes: socketBuffers},
	{name: "endless headers", talk: floods2(func(s uint32) string { return frame(frameHeaders, 0, s, status200) }, func(s uint32) string { return frame(frameContinuation, 0, s, strings.Repeat(literal("x", "y"), 1000)) }), reasons: broken, bytes: socketBuffers},
	{name: "endless empty continuations", talk: floods2(func(s uint32) string { return frame(frameHeaders, 0, s, status200) }, func(s uint32) string { return frame(frameContinuation, 0, s, "") }), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless early hints", talk: floods2(nothing2, func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, literal(":status", "103")+literal("link", "</x>"))
	}), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless pings", talk: floods2(nothing2, func(uint32) string { return frame(framePing, 0, 0, "12345678") }), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless settings", talk: floods2(nothing2, func(uint32) string { return frame(frameSettings, 0, 0, setting(3, 100)) }), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless window updates", talk: floods2(nothing2, func(s uint32) string { return frame(frameWindow, 0, s, number(1)) }), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless unknown frames", talk: floods2(nothing2, func(s uint32) string { return frame(0x42, 0, s, "x") }), reasons: slowOrBroken, bytes: socketBuffers},
	{name: "endless window", talk: answers2(func(s uint32) string {
		return frame(frameWindow, 0, 0, number(1<<31-1)) + frame(frameWindow, 0, 0, number(1<<31-1))
	}), reasons: broken},

	{name: "goes away before each request", talk: answers2(func(uint32) string { return goAway(0, 0) }), reasons: slowOrBroken},
	{name: "goes away before each request and closes", talk: once2(func(uint32) string { return goAway(0, 0) }), reasons: slowOrBroken},
	{name: "goes away at once", talk: func(c *peer) {
		if c.greet2("") && c.say(goAway(0, 0)) {
			c.hang()
		}
	}, reasons: slowOrBroken},
	{name: "goes away at once and closes", talk: func(c *peer) {
		c.greet2("")
		c.say(goAway(0, 0))
	}, reasons: slowOrBroken},
	{name: "goes away behind a request and answers", talk: func(c *peer) {
		last := uint32(0)
		speaks2("", func(c *peer, s uint32) bool {
			if last == 0 {
				last = s
				c.say(goAway(s, 0))
			}
			return s > last || c.say(answer2(s))
		})(c)
	}},
	{name: "goes away behind an answer", talk: answers2(func(s uint32) string { return answer2(s) + goAway(s, 0) }), pushes: 6},
	{name: "goes away behind an answer and closes", talk: once2(func(s uint32) string { return answer2(s) + goAway(s, 0) }), pushes: 6},
	{name: "closes behind an answer", talk: once2(answer2), pushes: 6},
	{name: "goes away before the next request", talk: answers2(func(s uint32) string {
		if s > 1 {
			return goAway(1, 0)
		}
		return answer2(s)
	}), pushes: 6},
	{name: "closes when the next request comes", talk: thenDoes2(func(*peer, uint32) {}), pushes: 6},
	{name: "resets when the next request comes", talk: thenDoes2(func(c *peer, _ uint32) { c.reset() }), pushes: 6},
	{name: "goes away in a rage when the next request comes", talk: thenDoes2(func(c *peer, s uint32) { c.say(goAway(s, 0xb)) }), pushes: 6},
	{name: "goes away behind a request and closes", talk: once2(func(s uint32) string { return goAway(s, 0) }), reasons: resets},
	{name: "goes away in a rage", talk: once2(func(s uint32) string { return goAway(s, 0xb) }), reasons: resets},
	{name: "refuses each stream", talk: answers2(func(s uint32) string { return resetStream(s, 0x7) }), reasons: timeouts},
	{name: "calls each stream wrong", talk: answers2(func(s uint32) string { return resetStream(s, 0x1) }), reasons: slowOrBroken},
	{name: "resets each stream", talk: answers2(func(s uint32) string { return resetStream(s, 0x2) }), reasons: resets},
	{name: "cancels each stream", talk: answers2(func(s uint32) string { return resetStream(s, 0x8) }), reasons: resets},
	{name: "resets the stream behind the headers", talk: answers2(func(s uint32) string { return headers2(s) + resetStream(s, 0x2) }), reasons: resets, status: 200},
	{name: "resets the stream in the body", talk: answers2(func(s uint32) string { return headers2(s) + frame(frameData, 0, s, good[:8]) + resetStream(s, 0x2) }), reasons: resets, status: 200},
	{name: "resets the stream behind the answer", talk: answers2(func(s uint32) string { return answer2(s) + resetStream(s, 0x0) })},
	{name: "ends the stream with no error in the body", talk: answers2(func(s uint32) string { return headers2(s) + frame(frameData, 0, s, good[:8]) + resetStream(s, 0x0) }), reasons: resets, status: 200},
	{name: "resets the connection", talk: speaks2("", func(c *peer, s uint32) bool { c.reset(); return false }), reasons: resets},
	{name: "closes in the body", talk: once2(func(s uint32) string { return headers2(s) + frame(frameData, 0, s, good[:8]) }), reasons: []string{ReasonReset, ReasonTruncated}, status: -1},
	{name: "pushes", talk: answers2(func(s uint32) string { return frame(framePush, endHeaders, s, number(2)+status200) }), reasons: broken},
	{name: "answers a stream that there is not", talk: answers2(func(s uint32) string { return answer2(s + 100) }), reasons: broken},
	{name: "a frame beyond all sizes", talk: answers2(func(s uint32) string { return "\xff\xff\xff\x00\x00" + number(s) + strings.Repeat("x", 100) }), reasons: broken},
	{name: "speaks HTTP/1.1", talk: func(c *peer) { c.say(wellSaid); c.hang() }, reasons: broken},
	{name: "a status in words", talk: answers2(func(s uint32) string { return frame(frameHeaders, endHeaders|endStream, s, literal(":status", "ok")) }), reasons: broken},
	{name: "no status", talk: answers2(func(s uint32) string { return frame(frameHeaders, endHeaders|endStream, s, literal("x", "y")) }), reasons: broken},
	{name: "broken header compression", talk: answers2(func(s uint32) string { return frame(frameHeaders, endHeaders|endStream, s, "\xff\xff\xff\xff\xff\xff") }), reasons: broken},
	{name: "shorter than its length", talk: answers2(func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, status200+literal("content-length", "40")) + frame(frameData, endStream, s, good)
	}), reasons: []string{ReasonTruncated}, status: 200},
	{name: "longer than its length", talk: answers2(func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, status200+literal("content-length", "20")) + frame(frameData, endStream, s, good+good)
	}), reasons: []string{ReasonReset, ReasonHTTP, ReasonTruncated}, status: 200},
	{name: "a negative length", talk: answers2(func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, status200+literal("content-length", "-20")) + frame(frameData, endStream, s, good)
	})},
	{name: "204 with a body", talk: answers2(func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, "\x89") + frame(frameData, endStream, s, good)
	}), status: 204},
	{name: "trailers", talk: answers2(func(s uint32) string {
		return headers2(s) + frame(frameData, 0, s, good) + frame(frameHeaders, endHeaders|endStream, s, literal("x-sum", "1"))
	})},
	{name: "a gzip bomb", talk: answers2(func(s uint32) string {
		return frame(frameHeaders, endHeaders, s, status200+literal("content-encoding", "gzip")) + strings.Repeat(frame(frameData, 0, s, bomb), 20)
	}), reasons: []string{ReasonTooLarge}, status: 200, bytes: 1 << 20},
}

func TestMisdeedsHTTP2(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	secure := &tls.Config{Certificates: []tls.Certificate{a.issue(nil)}, NextProtos: []string{"h2"}}
	var all errgroup.Group
	all.SetLimit(8)
	for _, m := range misdeeds2 {
		all.Go(func() error {
			t.Run(m.name, func(t *testing.T) {
				o := local()
				o.CAFile = a.file
				if o.Timeout = 5 * time.Second; slices.Contains(m.reasons, ReasonTimeout) {
					o.Timeout = impatient
				}
				m.conns = 3 * maxDials // with several requests at a time, each may find the connection of another broken
				h, crm := newSink(t, o), newHostile(t, secure, m.talk)
				judgeMisdeed(t, h, crm, m)
				crm.recovers(h, well2)
			})
			return nil
		})
	}
	_ = all.Wait()
}
