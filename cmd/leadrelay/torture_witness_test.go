package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// A witness is a CRM that remembers all that it was sent, and by which process of the program: each process has it for
// its proxy, under a name of its own, which comes with every request. The path says which webhook a request is of.
type witness struct {
	url string

	mu       sync.Mutex
	requests []*request // in the order in which they came
	of       map[string][]*request
	acked    int // ids
	moods    map[string]mood
	rand     *rand.Rand
	await    []awaited
}

// An awaited moment is when so many more requests have come, or have been answered.
type awaited struct {
	answered bool
	left     int
	come     chan struct{}
}

// A request is one that a witness got.
type request struct {
	id, process, webhook string
	at, answered         time.Time // answered is zero while it is not
	acked                bool
	header               http.Header
	body                 []byte
}

// A mood is how a CRM answers: of a hundred requests so many badly.
type mood struct {
	refuse, fail, mumble, dawdle int           // 422, 503, a 200 that acknowledges nothing, a second's wait
	within                       time.Duration // answers take up to this
}

// newWitness starts a witness with these moods by webhook, or by process and webhook.
func newWitness(t *testing.T, r *rand.Rand, moods map[string]mood) *witness {
	t.Helper()
	w := &witness{of: map[string][]*request{}, moods: maps.Clone(moods), rand: rand.New(rand.NewPCG(r.Uint64(), 0))}
	w.url = startServer(t, w, func() {})
	return w
}

// proxy is what the process of this name has for its proxy.
func (w *witness) proxy(name string) string {
	return strings.Replace(w.url, "http://", "http://"+url.UserPassword(name, "x").String()+"@", 1)
}

func (w *witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // it was killed while it wrote
		http.Error(out, "the body could not be read", http.StatusBadRequest)
		return
	}
	name := ""
	if basic, ok := strings.CutPrefix(r.Header.Get("Proxy-Authorization"), "Basic "); ok {
		if text, err := base64.StdEncoding.DecodeString(basic); err == nil {
			name, _, _ = strings.Cut(string(text), ":")
		}
	}
	webhook, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	req := &request{
		id: r.Header.Get(sinks.IDHeader), process: name, webhook: webhook, at: time.Now(),
		header: r.Header, body: body,
	}
	w.mu.Lock()
	w.requests = append(w.requests, req)
	w.moved(false)
	w.of[req.id] = append(w.of[req.id], req)
	m, own := w.moods[req.process+" "+req.webhook]
	if !own {
		m = w.moods[req.webhook]
	}
	roll, takes := w.rand.IntN(100), time.Duration(w.rand.Int64N(int64(m.within)+1))
	w.mu.Unlock()

	bad := func(of int) bool { roll -= of; return roll < 0 }
	status, answer, acks := http.StatusOK, `{"status":"success"}`, false
	switch {
	case bad(m.refuse):
		status = http.StatusUnprocessableEntity
	case bad(m.fail):
		status = http.StatusServiceUnavailable
	case bad(m.mumble):
		answer = "<h1>Log in</h1>"
	case bad(m.dawdle):
		acks, takes = true, takes+time.Second
	default:
		acks = true
	}
	time.Sleep(takes)
	w.mu.Lock()
	req.answered, req.acked = time.Now(), acks
	if acks && !w.ackedBefore(req) {
		w.acked++
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moved(true)
	}()
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_, _ = io.WriteString(out, answer)
}

// set changes a mood.
func (w *witness) set(of string, m mood) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moods[of] = m
}

// underWay counts the requests of a process for a webhook that have come since and have not been answered.
func (w *witness) underWay(process, webhook string, since time.Time) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.process == process && r.webhook == webhook && r.at.After(since) && r.answered.IsZero() {
			n++
		}
	}
	return n
}

// next is closed when n more requests have come, or have been answered.
func (w *witness) next(n int, answered bool) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	come := make(chan struct{})
	w.await = append(w.await, awaited{answered, n, come})
	return come
}

// moved needs w.mu.
func (w *witness) moved(answered bool) {
	w.await = slices.DeleteFunc(w.await, func(a awaited) bool { return a.left <= 0 })
	for i := range w.await {
		if a := &w.await[i]; a.answered == answered {
			if a.left--; a.left == 0 {
				close(a.come)
			}
		}
	}
}

func (w *witness) ackedBefore(req *request) bool {
	for _, r := range w.of[req.id] {
		if r != req && r.acked {
			return true
		}
	}
	return false
}

// ackedTo are the ids that were acknowledged to a process.
func (w *witness) ackedTo(process string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.acked && r.process == process {
			ids = append(ids, r.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// count is how many ids were acknowledged, and how many requests came.
func (w *witness) count() (acked, requests int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, len(w.requests)
}

// all returns what came, by id.
func (w *witness) all() map[string][]request {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string][]request, len(w.of))
	for id, of := range w.of {
		for _, r := range of {
			all[id] = append(all[id], *r)
		}
	}
	return all
}

// write keeps what came in a file, for who looks into a failure.
func (w *witness) write(t *testing.T, path string) {
	t.Helper()
	var b strings.Builder
	w.mu.Lock()
	for _, r := range w.requests {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%v\t%v\n", r.at.UTC().Format("15:04:05.000"), r.process, r.webhook, r.id, r.acked, r.answered.Sub(r.at))
	}
	w.mu.Unlock()
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Error(err)
	}
}

// verify checks every signature against these keys, any of which may have signed, and that it was made when it was sent by
// the clock of the process that sent it.
func (w *witness) verify(o *ordeal, keys ...jobs.Secret) {
	o.t.Helper()
	v, err := (*sinks.Registry)(nil).NewVerifier(sinks.DefaultDialect, keys, 30*time.Second)
	if err != nil {
		o.t.Fatal(err)
	}
	skew := map[string]time.Duration{}
	for _, l := range o.lives {
		skew[l.name] = l.skew
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if err := v.Verify(r.header, r.body, r.at.Add(skew[r.process])); err != nil {
			o.t.Errorf("a request of %s for %s of %s: %v", r.process, r.id, r.webhook, err)
		}
	}
}
