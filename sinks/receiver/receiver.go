// Package receiver is leadrelay's test CRM: an http.Handler that verifies signatures over the raw body, counts what
// comes and what comes twice, and answers well or as badly as it is told. `leadrelay receive`, the demo, the tests
// and the benchmarks all use it. It keeps no record's content unless it is asked to.
package receiver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// Options of a Receiver.
type Options struct {
	Dialect    string           // "": sinks.DefaultDialect
	Dialects   *sinks.Registry  // where it is looked up; nil: the built-in ones
	SignKeys   []jobs.Secret    // any of them verifies; none: signatures are not checked
	Tolerance  time.Duration    // a signature's time may be this far from now; 0: any
	Clock      func() time.Time // nil: time.Now
	Answer     Behaviour        // to what verifies; nil: Success
	Log        io.Writer        // a line for each request; nil: none
	ShowBodies bool             // those lines show bodies, which are personal data
	Keep       int              // the last so many verified requests are kept with their bodies: see Kept
	MaxBody    int64            // bytes; a longer body is answered 413; 0: 16 MiB
	MaxIDs     int              // ids told apart; beyond, all others count as new; 0: 5 million
}

// A Behaviour answers one request. It sets Acked when its answer is an acknowledgement.
type Behaviour func(w http.ResponseWriter, r *http.Request, req *Request)

// A Request is what came.
type Request struct {
	At      time.Time
	ID      string // X-Webhook-Id
	Chatbot string // such as SerialNumber, or smartlook's project; "" in dialects that do not say it
	Type    string // or event, in dialects that have events
	Header  http.Header
	Body    []byte // only valid while it is answered, unless it is kept
	Try     int    // how often this id has come by now, 1 for the first time
	Err     error  // why it does not verify; then it is answered 401
	Acked   bool   // it was answered with an acknowledgement

	closed  <-chan struct{} // the Receiver's
	success []byte          // an answer that acknowledges
}

// A Receiver is the test CRM. Its methods are safe for concurrent use.
type Receiver struct {
	options  Options
	any2xx   bool            // the dialect takes any 2xx for an acknowledgement
	success  []byte          // an answer that acknowledges
	label    string          // the body's member that says what came
	owner    []string        // that says whose it is: one, or one within another; none
	verifier *sinks.Verifier // nil: signatures are not checked
	closed   chan struct{}
	bodies   sync.Pool
	printing sync.Mutex // of Log: who reads slowly must not stop the counting

	mu       sync.Mutex
	ids      map[uuid.UUID]seen
	total    Counts
	chatbots map[string]*Counts
	kept     []*Request
	next     int // of kept, where the next goes once it is full
	last     error
}

// New makes a Receiver. Close it to end answers that hang.
func New(o Options) (*Receiver, error) {
	if o.Dialect == "" {
		o.Dialect = sinks.DefaultDialect
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Answer == nil {
		o.Answer = Success
	}
	if o.MaxBody == 0 {
		o.MaxBody = 16 << 20
	}
	if o.MaxIDs == 0 {
		o.MaxIDs = 5_000_000
	}
	r := &Receiver{options: o, closed: make(chan struct{}), ids: map[uuid.UUID]seen{}, chatbots: map[string]*Counts{}}
	r.bodies.New = func() any { return new(bytes.Buffer) }
	d, ok := o.Dialects.Lookup(o.Dialect)
	if !ok {
		return nil, fmt.Errorf("no dialect is called %q", o.Dialect)
	}
	r.any2xx, r.success = slices.Equal(d.Ack, []string{jobs.Ack2xx}), []byte(d.Example())
	r.label, r.owner = d.Labels()
	if len(o.SignKeys) > 0 {
		var err error
		if r.verifier, err = o.Dialects.NewVerifier(o.Dialect, o.SignKeys, o.Tolerance); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Close ends the answers that hang. Call it once.
func (r *Receiver) Close() { close(r.closed) }

// errNoID says that a request names no delivery: nothing can be told apart without it.
var errNoID = errors.New("no X-Webhook-Id, or it is no UUID")

func (r *Receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	if hr.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this is a test CRM: POST to it", http.StatusMethodNotAllowed)
		return
	}
	buf := r.bodies.Get().(*bytes.Buffer)
	defer r.bodies.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, hr.Body, r.options.MaxBody)); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the body could not be read", status)
		return
	}
	req := Request{At: r.options.Clock(), ID: hr.Header.Get(sinks.IDHeader), Header: hr.Header, Body: buf.Bytes(), closed: r.closed, success: r.success}
	if r.options.Dialect == sinks.DefaultDialect {
		req.Chatbot, req.Type = subject(req.Body)
	} else {
		req.Chatbot, req.Type = r.event(req.Body)
	}
	id, err := uuid.Parse(req.ID)
	if err != nil {
		req.Err = errNoID
	}
	if r.verifier != nil && req.Err == nil {
		req.Err = r.verifier.Verify(hr.Header, req.Body, req.At)
	}
	kept := r.arrived(id, &req)
	if req.Err != nil {
		r.log(&req)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"status":"error"}`)
		return
	}
	// Whatever a behaviour does, even a panic that resets the connection, the request is counted and printed.
	var status *statusWriter
	defer func() {
		if status != nil {
			req.Acked = status.code >= 200 && status.code <= 299
		}
		r.answered(id, &req, kept)
		r.log(&req)
	}()
	if r.any2xx {
		status = &statusWriter{ResponseWriter: w}
		w = status
	}
	r.options.Answer(w, hr, &req)
}

// statusWriter remembers the HTTP status that was answered with; 0: none was.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets a behaviour flush and hijack.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// subject reads SerialNumber and Type, which come first; "" where they do not.
func subject(body []byte) (chatbot, typ string) {
	d := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(body), jsontext.AllowInvalidUTF8(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return "", ""
	}
	for range 2 {
		name, err := d.ReadToken()
		if err != nil || name.Kind() != '"' {
			return chatbot, typ
		}
		key := name.String()
		value, err := d.ReadToken()
		if err != nil || value.Kind() != '"' {
			return chatbot, typ
		}
		switch key {
		case "SerialNumber":
			chatbot = value.String()
		case "Type":
			typ = value.String()
		}
	}
	return chatbot, typ
}

// event reads what the bodies of the other dialects say of themselves.
func (r *Receiver) event(body []byte) (chatbot, typ string) {
	d := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(body), jsontext.AllowInvalidUTF8(true))
	path := make([]string, 2) // the names that lead to what is read
	for {
		t, err := d.ReadToken()
		if err != nil {
			return chatbot, typ
		}
		depth := d.StackDepth()
		if t.Kind() != '"' || depth < 1 || depth > 2 {
			continue
		}
		if kind, length := d.StackIndex(depth); kind != '{' || length%2 == 0 {
			continue
		}
		path[depth-1] = t.String()
		text := d.PeekKind() == '"'
		var into *string
		switch here := path[:depth]; {
		case text && depth == 1 && here[0] == r.label:
			into = &typ
		case text && slices.Equal(here, r.owner):
			into = &chatbot
		case depth == 1 && len(r.owner) == 2 && here[0] == r.owner[0]:
			continue // it lies within
		}
		if into == nil {
			err = d.SkipValue()
		} else if t, err = d.ReadToken(); err == nil {
			*into = t.String()
		}
		if err != nil {
			return chatbot, typ
		}
	}
}

func (r *Receiver) log(req *Request) {
	if r.options.Log == nil {
		return
	}
	said := "acknowledged"
	switch {
	case req.Err != nil:
		said = "401: " + req.Err.Error()
	case !req.Acked:
		said = "not acknowledged"
	}
	line := fmt.Appendf(nil, "%s %q chatbot=%q id=%q try=%d %s", req.At.UTC().Format("15:04:05.000"), req.Type, req.Chatbot, req.ID, req.Try, said)
	if r.options.ShowBodies {
		line = append(append(line, ' '), bytes.ReplaceAll(req.Body, []byte("\n"), []byte(" "))...)
	}
	line = append(line, '\n')
	r.printing.Lock()
	defer r.printing.Unlock()
	_, _ = r.options.Log.Write(line)
}
