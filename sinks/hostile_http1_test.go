package sinks

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// onRequest reads a request and goes on with f.
func onRequest(f func(c *peer)) talk {
	return func(c *peer) {
		if c.request() != nil {
			f(c)
		}
	}
}

func floods(before, again string) talk {
	return onRequest(func(c *peer) {
		if c.say(before) {
			c.endless(again)
		}
	})
}

func hangsAfter(text string) talk {
	return onRequest(func(c *peer) {
		if c.say(text) {
			c.hang()
		}
	})
}

func resetsAfter(text string) talk {
	return onRequest(func(c *peer) {
		c.say(text)
		c.reset()
	})
}

var (
	timeouts = []string{ReasonTimeout}
	resets   = []string{ReasonReset}
	noHTTP   = []string{ReasonHTTP}
)

func withLength(n int, body string) string {
	return jsonHead + "Content-Length: " + strconv.Itoa(n) + "\r\n\r\n" + body
}

const chunkedHead = jsonHead + "Transfer-Encoding: chunked\r\n\r\n"

var misdeeds = []misdeed{
	{name: "hangs before the request", talk: (*peer).hang, reasons: timeouts},
	{name: "hangs before headers", talk: hangsAfter(""), reasons: timeouts},
	{name: "hangs in the status line", talk: hangsAfter("HTTP/1."), reasons: timeouts},
	{name: "hangs in headers", talk: hangsAfter("HTTP/1.1 200 OK\r\nContent-Ty"), reasons: timeouts},
	{name: "hangs after headers", talk: hangsAfter(withLength(20, "")), reasons: timeouts, status: 200},
	{name: "hangs in the body", talk: hangsAfter(withLength(20, good[:8])), reasons: timeouts, status: 200},
	{name: "hangs in a chunk", talk: hangsAfter(chunkedHead + "14\r\n" + good[:8]), reasons: timeouts, status: 200},
	{name: "hangs before the last chunk", talk: hangsAfter(chunkedHead + "14\r\n" + good + "\r\n"), reasons: timeouts, status: 200},
	{name: "hangs in gzip", talk: hangsAfter(jsonHead + "Content-Encoding: gzip\r\n\r\n" + compressed(good)[:20]), reasons: timeouts, status: 200},
	{name: "hangs in an error page", talk: hangsAfter("HTTP/1.1 502 X\r\nContent-Length: 5000\r\n\r\n<html>"), reasons: []string{"http_502"}, status: 502},
	{name: "does not read the request", talk: (*peer).hangUnread, reasons: timeouts, body: 32 << 20},
	{name: "a byte at a time in headers", talk: onRequest(func(c *peer) { c.drip(wellSaid, 50*time.Millisecond) }), reasons: timeouts},
	{name: "a byte at a time in the body", talk: onRequest(func(c *peer) {
		c.say(withLength(20, ""))
		c.drip(good, 50*time.Millisecond)
	}), reasons: timeouts, status: 200},
	{name: "success after our timeout", talk: func(c *peer) {
		for c.request() != nil {
			time.Sleep(impatient + 200*time.Millisecond)
			c.say(wellSaid)
		}
	}, reasons: timeouts},

	{name: "endless body", talk: floods(jsonHead+"\r\n"+`{"status":"`, strings.Repeat("success ", 1024)), reasons: []string{ReasonTooLarge}, status: 200, bytes: socketBuffers},
	{name: "endless chunks", talk: floods(chunkedHead, "1\r\n \r\n"), reasons: []string{ReasonTooLarge}, status: 200, bytes: socketBuffers},
	{name: "endless chunk extension", talk: floods(chunkedHead+"14;", strings.Repeat("x", 1024)), reasons: noHTTP, status: 200, bytes: socketBuffers},
	{name: "endless chunk extensions", talk: floods(chunkedHead, "1;"+strings.Repeat("x", 1000)+"\r\n \r\n"), reasons: noHTTP, status: 200, bytes: socketBuffers},
	{name: "endless chunk size", talk: floods(chunkedHead, "0000"), reasons: noHTTP, status: 200, bytes: socketBuffers},
	{name: "endless trailer", talk: floods(chunkedHead+"14\r\n"+good+"\r\n0\r\nX: ", "x"), reasons: noHTTP, status: 200, bytes: socketBuffers},
	{name: "endless trailers", talk: floods(chunkedHead+"14\r\n"+good+"\r\n0\r\n", "X: y\r\n"), reasons: noHTTP, status: 200, bytes: socketBuffers},
	{name: "endless header", talk: floods(jsonHead+"X: ", "x"), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless headers", talk: floods(jsonHead, "X: y\r\n"), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless status line", talk: floods("HTTP/1.1 200 ", "OK "), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless continuation of a header", talk: floods(jsonHead+"X: ", "x\r\n "), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless early hints", talk: floods("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless continues", talk: floods("", "HTTP/1.1 100 Continue\r\n\r\n"), reasons: noHTTP, bytes: socketBuffers},
	{name: "endless error page", talk: floods("HTTP/1.1 500 X\r\n\r\n", "<html>"), reasons: []string{"http_500"}, status: 500, bytes: socketBuffers},
	{name: "endless redirect", talk: floods("HTTP/1.1 302 X\r\nLocation: /\r\n\r\n", "<html>"), reasons: []string{ReasonRedirect}, status: 302, bytes: socketBuffers},
	{name: "endless switched protocol", talk: floods("HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "x"), reasons: []string{"http_101"}, status: 101, bytes: socketBuffers},
	{name: "a gzip bomb", talk: floods(jsonHead+"Content-Encoding: gzip\r\n\r\n"+compressed(`{"status":"success"`), compressed(strings.Repeat(" ", 1<<20))), reasons: []string{ReasonTooLarge}, status: 200, bytes: socketBuffers},

	{name: "reset without a word", talk: resetsAfter(""), reasons: resets},
	{name: "reset in the status line", talk: resetsAfter("HTTP/1.1 20"), reasons: resets},
	{name: "reset in headers", talk: resetsAfter(jsonHead + "Content-Le"), reasons: resets},
	{name: "reset after headers", talk: resetsAfter(withLength(20, "")), reasons: resets, status: 200},
	{name: "reset in the body", talk: resetsAfter(withLength(20, good[:8])), reasons: resets, status: 200},
	{name: "reset in a chunk", talk: resetsAfter(chunkedHead + "14\r\n" + good[:8]), reasons: resets, status: 200},
	{name: "reset in gzip", talk: resetsAfter(jsonHead + "Content-Encoding: gzip\r\n\r\n" + compressed(good)[:20]), reasons: resets, status: 200},
	{name: "reset before the request is read", talk: (*peer).reset, reasons: []string{ReasonReset, ReasonConnect}},
	{name: "closed in the status line", talk: onRequest(func(c *peer) { c.say("HTTP/1.1 20") }), reasons: resets},
	{name: "closed in a header", talk: onRequest(func(c *peer) { c.say(jsonHead + "Content-Le") }), reasons: resets},
	{name: "closed in headers", talk: onRequest(func(c *peer) { c.say(jsonHead) }), reasons: resets},

	{name: "503 before the request", talk: func(c *peer) {
		c.say("HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		c.request()
	}, reasons: []string{"http_503", ReasonReset}, status: -1},
	{name: "success before the request", talk: func(c *peer) {
		c.say(wellSaid)
		time.Sleep(50 * time.Millisecond)
		c.request()
	}, reasons: []string{"", ReasonStray, ReasonReset}, status: -1, conns: 6}, // a connection that was kept and is closed costs one more
	{name: "204 with a body", talk: says("HTTP/1.1 204 X\r\nContent-Length: 20\r\n\r\n" + good), reasons: []string{ReasonEmpty, ReasonStray, ReasonHTTP}, status: -1, pushes: 4},
	{name: "304 with a body", talk: says("HTTP/1.1 304 X\r\nContent-Length: 20\r\n\r\n" + good), reasons: []string{"http_304", ReasonStray, ReasonHTTP}, status: -1, pushes: 4},
	{name: "205 with a body", talk: says("HTTP/1.1 205 X\r\nContent-Length: 20\r\n\r\n" + good), status: 205, pushes: 4},
	{name: "shorter than its length", talk: onRequest(func(c *peer) { c.say(withLength(40, good)) }), reasons: []string{ReasonTruncated}, status: 200},
	{name: "longer than its length", talk: says(withLength(20, good+good)), reasons: []string{"", ReasonStray, ReasonHTTP}, status: -1, pushes: 4},
	{name: "cut by its length", talk: says(withLength(10, good)), reasons: []string{ReasonTruncated, ReasonStray, ReasonHTTP}, status: -1, pushes: 4},
	{name: "a negative length", talk: says(jsonHead + "Content-Length: -20\r\n\r\n" + good), reasons: noHTTP},
	{name: "a signed length", talk: says(jsonHead + "Content-Length: +20\r\n\r\n" + good), reasons: noHTTP},
	{name: "a length in words", talk: says(jsonHead + "Content-Length: twenty\r\n\r\n" + good), reasons: noHTTP},
	{name: "a length beyond all numbers", talk: says(jsonHead + "Content-Length: 99999999999999999999\r\n\r\n" + good), reasons: noHTTP},
	{name: "two lengths", talk: says(jsonHead + "Content-Length: 20\r\nContent-Length: 10\r\n\r\n" + good), reasons: noHTTP},
	{name: "the same length twice", talk: says(jsonHead + "Content-Length: 20\r\nContent-Length: 20\r\n\r\n" + good)},
	{name: "a length and chunks", talk: says(jsonHead + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + good + "\r\n0\r\n\r\n")},
	{name: "trailers", talk: says(chunkedHead + "14\r\n" + good + "\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n"), pushes: 4, conns: 1},
	{name: "chunks of no number", talk: says(chunkedHead + "xyz\r\n" + good), reasons: noHTTP, status: 200},
	{name: "chunks of a negative number", talk: says(chunkedHead + "-14\r\n" + good), reasons: noHTTP, status: 200},
	{name: "a chunk beyond all numbers", talk: says(chunkedHead + "fffffffffffffffff\r\n" + good), reasons: noHTTP, status: 200},
	{name: "a chunk of 2 to the 63", talk: onRequest(func(c *peer) { c.say(chunkedHead + "7fffffffffffffff\r\n" + good) }), reasons: []string{ReasonTruncated}, status: 200},
	{name: "a chunk longer than it says", talk: says(chunkedHead + "a\r\n" + good + "\r\n0\r\n\r\n"), reasons: noHTTP, status: 200},
	{name: "a transfer encoding of its own", talk: says(jsonHead + "Transfer-Encoding: rot13\r\n\r\n" + good), reasons: noHTTP},
	{name: "deflate", talk: says(jsonHead + "Content-Encoding: deflate\r\nContent-Length: 20\r\n\r\n" + good), reasons: []string{ReasonEncoding}, status: 200},
	{name: "zstd", talk: says(jsonHead + "Content-Encoding: zstd\r\nContent-Length: 20\r\n\r\n" + good), reasons: []string{ReasonEncoding}, status: 200},
	{name: "gzip in gzip", talk: onRequest(func(c *peer) { c.say(jsonHead + "Content-Encoding: gzip\r\n\r\n" + compressed(compressed(good))) }), reasons: []string{ReasonNotUTF8}, status: 200},
	{name: "HTTP/0.9", talk: onRequest(func(c *peer) { c.say(good) }), reasons: resets},
	{name: "HTTP/3", talk: says("HTTP/3 200\r\n\r\n"), reasons: noHTTP},
	{name: "HTTP/2 in clear", talk: onRequest(func(c *peer) { c.say("\x00\x00\x00\x04\x00\x00\x00\x00\x00"); c.hang() }), reasons: timeouts},
	{name: "TLS on the plain port", talk: onRequest(func(c *peer) { c.say("\x15\x03\x01\x00\x02\x02\x46") }), reasons: []string{ReasonHTTP, ReasonReset}},
	{name: "status 99", talk: says("HTTP/1.1 99 X\r\n\r\n"), reasons: noHTTP},
	{name: "status 099", talk: says("HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"), reasons: []string{"http_99", ReasonHTTP}, status: 99},
	{name: "NULs", talk: floods("", strings.Repeat("\x00", 512)), reasons: noHTTP, bytes: socketBuffers},
	{name: "a header without a name", talk: says("HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 20\r\n\r\n" + good), reasons: noHTTP},
	{name: "blank lines before the answer", talk: floods("", "\r\n"), reasons: noHTTP, bytes: socketBuffers},
}

// hangUnread lets the request lie.
func (c *peer) hangUnread() {
	time.Sleep(2 * impatient)
}

func TestMisdeeds(t *testing.T) {
	t.Parallel()
	var all errgroup.Group
	all.SetLimit(8)
	for _, m := range misdeeds {
		all.Go(func() error {
			t.Run(m.name, func(t *testing.T) {
				o := local()
				if o.Timeout = time.Minute; slices.Equal(m.reasons, timeouts) {
					o.Timeout = impatient
				}
				h, crm := newSink(t, o), newHostile(t, nil, m.talk)
				judgeMisdeed(t, h, crm, m)
				crm.recovers(h, well)
			})
			return nil
		})
	}
	_ = all.Wait()
}

// TestFloodsTakeNoMemory: what is made in memory for an attempt is bounded, whatever its CRM sends.
func TestFloodsTakeNoMemory(t *testing.T) {
	o := local()
	o.Timeout = time.Minute
	for _, m := range misdeeds {
		if m.bytes == 0 {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			h, crm := newSink(t, o), newHostile(t, nil, m.talk)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			const pushes = 16
			for range pushes {
				_ = push(t, h, webhook(crm.url))
			}
			runtime.ReadMemStats(&after)
			if each := (after.TotalAlloc - before.TotalAlloc) / pushes; each > 2<<20 {
				t.Errorf("%d KiB an attempt", each>>10)
			} else {
				t.Logf("%d KiB an attempt", each>>10)
			}
			crm.settled(h)
		})
	}
}
