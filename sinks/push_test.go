package sinks

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// nobody is an address that refuses connections until the test ends: its port is taken, and not listened on.
func nobody(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

func TestNobodyThere(t *testing.T) {
	h := newSink(t, local())
	if err := push(t, h, webhook("http://"+nobody(t))); reason(err) != ReasonConnect {
		t.Errorf("nobody listens: %v", err)
	}
	if err := push(t, h, webhook("https://"+strings.Repeat("a", 64)+".example/")); reason(err) != ReasonDNS {
		t.Errorf("no such name: %v", err)
	}
}

// TestOurOwnLimits: running out of file descriptors is not the endpoint's fault, and says so.
func TestOurOwnLimits(t *testing.T) {
	h := newSink(t, local())
	err := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	if got := reason(h.failed(t.Context(), t.Context(), new(progress), err)); got != ReasonLocal {
		t.Errorf("got %q", got)
	}
}

// TestTimeout lets a CRM be slow at every stage; each costs the timeout and not more.
func TestTimeout(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "20")
		switch r.URL.Path {
		case "/head":
		case "/body":
			_, _ = io.WriteString(w, good[:5])
			_ = http.NewResponseController(w).Flush()
		case "/bytes":
			for _, b := range []byte(good) {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		case "/error-page":
			w.WriteHeader(http.StatusBadGateway)
			_ = http.NewResponseController(w).Flush()
		}
		<-stop
	}))
	defer server.Close()
	defer close(stop)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never says anything
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	o := local()
	o.Timeout = 400 * time.Millisecond
	h := newSink(t, o)
	for url, want := range map[string]string{
		server.URL + "/head":                ReasonTimeout,
		server.URL + "/body":                ReasonTimeout,
		server.URL + "/bytes":               ReasonTimeout,
		server.URL + "/error-page":          "http_502",
		"https://" + silent.Addr().String(): ReasonTimeout,
		"http://" + silent.Addr().String():  ReasonTimeout,
	} {
		t.Run(want+" "+url[len(url)-5:], func(t *testing.T) {
			began := time.Now()
			if err := push(t, h, webhook(url)); reason(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("called off", func(t *testing.T) {
		for _, path := range []string{"/head", "/body"} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := h.Push(ctx, jobs.Request{Webhook: webhook(server.URL + path), ID: uuid.New(), Body: []byte("{}")})
			if err != context.DeadlineExceeded {
				t.Errorf("%s: got %v, want the context's error", path, err)
			}
			cancel()
		}
	})
}

// TestConnectionsAreKept: neither acknowledgements nor refusals cost a connection each.
func TestConnectionsAreKept(t *testing.T) {
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			http.Error(w, strings.Repeat("not found ", 3000), http.StatusNotFound)
		case "/html":
			_, _ = io.WriteString(w, "<html>")
		default:
			_, _ = io.WriteString(w, good)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	h := newSink(t, local())
	const at = 16
	var group sync.WaitGroup
	for range at {
		group.Go(func() {
			for range 20 {
				for _, path := range []string{"/", "/404", "/html"} {
					_ = push(t, h, webhook(server.URL+path))
				}
			}
		})
	}
	group.Wait()
	if n := opened.Load(); n > 2*at {
		t.Errorf("%d connections were opened for %d at a time", n, at)
	}
}

// TestRedirectsAreNotFollowed: the place that a redirect names is never asked, whatever it is.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	if err := push(t, newSink(t, local()), webhook(server.URL)); reason(err) != ReasonRedirect {
		t.Error(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests came", n)
	}
}

func TestCheckHeaders(t *testing.T) {
	good := map[string]jobs.Secret{"Authorization": "Bearer x", "X-Tenant": "a\tb", "host": "crm", "user-agent": "Acme", "Content-Type": "application/json; charset=utf-8"}
	if err := builtIn.CheckHeaders("smarterbot", good); err != nil {
		t.Error(err)
	}
	bad := map[string]jobs.Secret{
		"x-webhook-signature": "s3cret", "X-Webhook-Id": "s3cret", "Content-Length": "1", "transfer-encoding": "chunked",
		"A B": "s3cret", "host": "s3cret/x", "": "s3cret", "X-Line": "s3cret\r\nX: y", "x-twice": "1", "X-Twice": "2",
	}
	err := builtIn.CheckHeaders("smarterbot", bad)
	if err == nil {
		t.Fatal("taken")
	}
	for _, says := range []string{"X-Webhook-Signature is set", "X-Webhook-Id is set", "Content-Length is set", "Transfer-Encoding is set", `"A B" is no`, `"" is no`, "X-Line has a line break", "Host is no host", "X-Twice is there twice"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not said", says)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Error("a value is shown")
	}
	w := webhook("https://crm.example.com/")
	w.Headers = map[string]jobs.Secret{"X-Webhook-Signature": "x"}
	if err := push(t, newSink(t, local()), w); reason(err) != ReasonHeader {
		t.Errorf("push: %v", err)
	}
}

// TestChangedWebhook: a webhook whose URL, key or header changes is pushed to as it is now.
func TestChangedWebhook(t *testing.T) {
	h := newSink(t, Options{})
	w := webhook("https://a.example.com/")
	now := time.Now()
	seen := map[string]bool{}
	for _, change := range []func(){
		func() {},
		func() { w.URL = "https://b.example.com/" },
		func() { w.SignKey = "other" },
		func() { w.Headers = map[string]jobs.Secret{"X": "1"} },
		func() { w.Headers = map[string]jobs.Secret{"X": "2"} },
	} {
		change()
		r, err := h.Request(w, uuid.Nil, []byte("{}"), now)
		if err != nil {
			t.Fatal(err)
		}
		seen[r.URL.Host+r.Header.Get("X")+r.Header.Get(SignatureHeader)] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different requests, want 5", len(seen))
	}
}
