package receiver

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// wait ends after d, when the client goes away, or when the Receiver is closed; d below 0 is for ever. It reports
// whether the whole time passed.
func wait(r *http.Request, req *Request, d time.Duration) bool {
	var after <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
		return true
	case <-req.closed:
	case <-r.Context().Done():
	}
	return false
}

var (
	success    = []byte(`{"status":"success"}`)
	jsonHeader = []string{"application/json"}
)

// acknowledgement is the body of an answer that acknowledges: the dialect's, else success.
func (r *Request) acknowledgement() []byte {
	if len(r.success) > 0 {
		return r.success
	}
	return success
}

// Success is the acknowledgement.
func Success(w http.ResponseWriter, _ *http.Request, req *Request) {
	req.Acked = true
	w.Header()["Content-Type"] = jsonHeader
	_, _ = w.Write(req.acknowledgement())
}

// Body answers 200 with body, which is no acknowledgement.
func Body(body string) Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ *Request) {
		w.Header()["Content-Type"] = jsonHeader
		_, _ = io.WriteString(w, body)
	}
}

// Status answers with an HTTP status and, where it has a body, one that acknowledges if the status is a 2xx.
func Status(code int) Behaviour {
	empty := code == http.StatusNoContent || code == http.StatusResetContent || code == http.StatusNotModified
	return func(w http.ResponseWriter, r *http.Request, req *Request) {
		req.Acked = code <= 299 && !empty
		if code >= 300 && code <= 399 {
			w.Header().Set("Location", r.URL.Path+"/moved")
		}
		w.Header()["Content-Type"] = jsonHeader
		w.WriteHeader(code)
		if !empty {
			_, _ = w.Write(req.acknowledgement())
		}
	}
}

// Each answers a record's first request with the first of steps, its second with the second, and so on; the last is
// for all later ones.
func Each(steps ...Behaviour) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, req *Request) {
		steps[min(max(req.Try, 1), len(steps))-1](w, r, req)
	}
}

// ByChatbot answers each chatbot in its own way, and others by otherwise.
func ByChatbot(of map[string]Behaviour, otherwise Behaviour) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, req *Request) {
		if b, ok := of[req.Chatbot]; ok {
			b(w, r, req)
			return
		}
		otherwise(w, r, req)
	}
}

// After answers by b when d has passed.
func After(d time.Duration, b Behaviour) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, req *Request) {
		if wait(r, req, d) {
			b(w, r, req)
		}
	}
}

// TestAnswer acknowledges with the word for test requests.
func TestAnswer(w http.ResponseWriter, r *http.Request, req *Request) {
	req.Acked = true
	Body(`{"status":"Success: test request received"}`)(w, r, req)
}

// hang never answers.
func hang(_ http.ResponseWriter, r *http.Request, req *Request) { wait(r, req, -1) }

// hangBody sends the headers and half a body, and no more.
func hangBody(w http.ResponseWriter, r *http.Request, req *Request) {
	answer := req.acknowledgement()
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer[:len(answer)/2])
	_ = http.NewResponseController(w).Flush()
	wait(r, req, -1)
}

// hangHeaders sends some headers, and no more.
func hangHeaders(w http.ResponseWriter, _ *http.Request, req *Request) {
	onWire(w, req, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: appl")
		_, _ = io.Copy(io.Discard, conn) // until the client has had enough
	})
}

// floodHeaders sends headers without an end.
func floodHeaders(w http.ResponseWriter, _ *http.Request, req *Request) {
	onWire(w, req, func(conn net.Conn) {
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for headers := bytes.Repeat([]byte("X-Flood: header\r\n"), 100); err == nil; {
			_, err = conn.Write(headers)
		}
	})
}

// silentClose acknowledges, and closes the connection that it has not said it would close.
func silentClose(w http.ResponseWriter, _ *http.Request, req *Request) {
	req.Acked = true
	onWire(w, req, func(conn net.Conn) {
		answer := req.acknowledgement()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	})
}

// onWire lets f have the connection, which is closed when it is done or the Receiver is closed.
func onWire(w http.ResponseWriter, req *Request, f func(conn net.Conn)) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	done := make(chan struct{})
	defer close(done)
	defer conn.Close()
	go func() {
		select {
		case <-req.closed:
			_ = conn.Close()
		case <-done:
		}
	}()
	f(conn)
}

// slow acknowledges at one byte a second.
func slow(w http.ResponseWriter, r *http.Request, req *Request) {
	answer := req.acknowledgement()
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	for _, b := range answer {
		_, _ = w.Write([]byte{b})
		_ = http.NewResponseController(w).Flush()
		if !wait(r, req, time.Second) {
			return
		}
	}
	req.Acked = true
}

// reset breaks the connection off without an answer.
func reset(w http.ResponseWriter, _ *http.Request, _ *Request) { cut(w, "") }

// resetBody breaks the connection off in the middle of an acknowledgement.
func resetBody(w http.ResponseWriter, _ *http.Request, _ *Request) {
	cut(w, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\"")
}

// cut writes raw bytes to the connection and resets it; HTTP/2 has no such thing, there the stream is reset.
func cut(w http.ResponseWriter, raw string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(conn, raw)
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw != "" {
			time.Sleep(20 * time.Millisecond) // a reset may throw away what the other side has not read
		}
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// wireBytes answers with raw bytes in place of an HTTP answer, and closes.
func wireBytes(raw string) Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ *Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}

// flood answers without an end.
func flood(w http.ResponseWriter, r *http.Request, req *Request) {
	w.Header()["Content-Type"] = jsonHeader
	_, _ = io.WriteString(w, `{"status":"`)
	chunk := bytes.Repeat([]byte("success "), 1024)
	for wait(r, req, 0) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
