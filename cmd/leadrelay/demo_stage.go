package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// A demonstration is the demo's stage: a SQLite file with two tables, and a CRM whose answers are seen.
type demonstration struct {
	app     *app
	out     io.Writer // standard output, or nowhere with --json
	dir     string
	config  string
	url     string
	acts    int
	results []demoResult

	mu       sync.Mutex
	answers  receiver.Behaviour
	sample   *demoRequest // the first lead that came to the bakery's CRM
	watching bool
	began    time.Time
	seen     []exchange // not yet shown
	pause    *time.Timer
}

// A demoRequest is a request as it came.
type demoRequest struct {
	path   string
	header http.Header
	body   []byte
}

// An exchange is a request and what the CRM made of it.
type exchange struct {
	chatbot, typ string
	try          int
	answer       string
	acked        bool
	at           time.Duration
}

// lull is how long no request comes before those that came together are shown.
const lull = 250 * time.Millisecond

func (d *demonstration) watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watching, d.began = true, time.Now()
	fmt.Fprintf(d.out, "\n  %5s  %-8s %-23s %3s  %s\n", "AFTER", "CHATBOT", "RECORDS", "TRY", "THE CRM'S ANSWER")
}

func (d *demonstration) watchEnds() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watching = false
	if d.pause != nil {
		d.pause.Stop()
	}
	d.show()
}

// answer is how all CRMs answer from now on.
func (d *demonstration) answer(b receiver.Behaviour) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = b
}

// respond answers a request, and notes both.
func (d *demonstration) respond(w http.ResponseWriter, r *http.Request, req *receiver.Request) {
	d.mu.Lock()
	answers := d.answers
	d.mu.Unlock()
	heard := &overheard{ResponseWriter: w, status: http.StatusOK}
	answers(heard, r, req)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sample == nil && req.Chatbot == demoBots[0].id && req.Type == "Lead" {
		d.sample = &demoRequest{path: r.URL.Path, header: r.Header.Clone(), body: bytes.Clone(req.Body)}
	}
	if !d.watching {
		return
	}
	d.seen = append(d.seen, exchange{
		chatbot: req.Chatbot, typ: req.Type, try: req.Try, acked: req.Acked, at: time.Since(d.began),
		answer: fmt.Sprintf("%d %s", heard.status, shorten(heard.body.String(), 46)),
	})
	if d.pause == nil {
		d.pause = time.AfterFunc(lull, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.show()
		})
		return
	}
	d.pause.Reset(lull)
}

// An overheard answer is kept as it is given.
type overheard struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (o *overheard) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

func (o *overheard) Write(p []byte) (int, error) {
	o.body.Write(p)
	return o.ResponseWriter.Write(p)
}

// show prints what was seen, a line for each chatbot's records that were answered alike.
func (d *demonstration) show() {
	type alike struct {
		chatbot string
		try     int
		answer  string
		acked   bool
	}
	counts := map[alike]map[string]int{}
	first := map[alike]time.Duration{}
	for _, e := range d.seen {
		k := alike{e.chatbot, e.try, e.answer, e.acked}
		if counts[k] == nil {
			counts[k] = map[string]int{}
			first[k] = e.at
		}
		counts[k][e.typ]++
	}
	d.seen = nil
	lines := make([]alike, 0, len(counts))
	for k := range counts {
		lines = append(lines, k)
	}
	order := func(chatbot string) int {
		return slices.IndexFunc(demoBots, func(b demoBot) bool { return b.id == chatbot })
	}
	slices.SortFunc(lines, func(a, b alike) int {
		return cmp.Or(cmp.Compare(order(a.chatbot), order(b.chatbot)), cmp.Compare(a.try, b.try), cmp.Compare(a.answer, b.answer))
	})
	for _, k := range lines {
		verdict := d.paint(red, "refused")
		switch {
		case k.acked && strings.Contains(k.answer, "test request"):
			verdict = d.paint(yellow, "a test answer")
		case k.acked:
			verdict = d.paint(green, "delivered")
		}
		fmt.Fprintf(d.out, "  %3.1f s  %-8s %-23s %3d  %-50s  %s\n", first[k].Seconds(), k.chatbot,
			records(counts[k]["Lead"], counts[k]["Appointment"]), k.try, k.answer, verdict)
	}
}

// records words a number of leads and one of appointments.
func records(leads, appointments int) string {
	var words []string
	for _, of := range []struct {
		n    int
		word string
	}{{leads, "lead"}, {appointments, "appointment"}} {
		if of.n > 0 {
			words = append(words, countOf(of.n, of.word))
		}
	}
	return strings.Join(words, ", ")
}

// shorten keeps the beginning of a text.
func shorten(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// SGR parameters.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours a text where the demo's output is a terminal that wants colours.
func (d *demonstration) paint(colour, text string) string {
	if !coloured(d.app.stdout) {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// startCRM starts the demo's CRM on a free port.
func (d *demonstration) startCRM() (closed func(), err error) {
	behaviours := make([]string, len(demoBots))
	keys := make([]jobs.Secret, len(demoBots))
	for i, b := range demoBots {
		behaviours[i] = b.id + "=" + b.crm
		keys[i] = jobs.Secret(b.key)
	}
	answers, err := receiver.Parse(behaviours)
	if err != nil {
		return nil, err
	}
	d.answer(answers)
	crm, err := receiver.New(receiver.Options{SignKeys: keys, Answer: d.respond, Tolerance: 5 * time.Minute})
	if err != nil {
		return nil, err
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.url = "http://" + socket.Addr().String()
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: crm}
	go func() { _ = server.Serve(socket) }()
	return func() {
		crm.Close()
		_ = server.Close()
	}, nil
}

func (d *demonstration) makeTables(ctx context.Context) error {
	columns := `(id integer primary key autoincrement, chatbot_id text not null, created_at text not null,
		first_name text, last_name text, email text, phone_number text, content text, session_id integer, uri text)`
	if err := d.execute(ctx, "create table leads "+columns, "create table appointments "+columns); err != nil {
		return err
	}
	for _, b := range demoBots {
		if err := errors.Join(d.insert(ctx, "leads", b.id, b.leads), d.insert(ctx, "appointments", b.id, b.appointments)); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) insert(ctx context.Context, table, chatbot string, n int) error {
	var statements []string
	for i := range n {
		statements = append(statements, fmt.Sprintf(`insert into %s (chatbot_id, created_at, first_name, last_name, email, content, session_id, uri)
			values ('%s', '%s', 'Ann', 'Example %d', 'ann%d@example.com', 'Zwölf Brötchen, bitte 🥐', %d, 'www.example.com/%[2]s')`,
			table, chatbot, time.Now().UTC().Format("2006-01-02 15:04:05.000000"), i, i, 1000+i))
	}
	return d.execute(ctx, statements...)
}

// execute is the application that owns the tables.
func (d *demonstration) execute(ctx context.Context, statements ...string) (err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.dir, "chatbots.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) writeConfig() error {
	var b strings.Builder
	fmt.Fprintf(&b, "source: %q\nhttp: {allow_http: true, allow_private: true}\nwebhooks:\n", "sqlite:"+filepath.Join(d.dir, "chatbots.db"))
	for _, bot := range demoBots {
		fmt.Fprintf(&b, "  - {id: %s, chatbot: %s, url: %s/%s, sign_key: %s, from: beginning, retry_at: [1s, 3s], immediate: %v}\n",
			bot.id, bot.id, d.url, bot.id, bot.key, bot.id == "bakery")
	}
	return os.WriteFile(d.config, []byte(b.String()), 0o600)
}
