package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

func newDemoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on embedded parts: SQLite tables, a CRM on 127.0.0.1, four chatbots",
		Long: `Make a SQLite database with the leads and appointments of four chatbots, start a CRM on 127.0.0.1 that accepts,
refuses and lies, push everything to it, and show what became of it. All of it is in a temporary folder that is removed in the end.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
}

// A demoBot is a chatbot of the demo: what it collected, and how its customer's CRM behaves at first.
type demoBot struct {
	id, key, crm, story string
	leads, appointments int
}

var demoBots = []demoBot{
	{"bakery", "key-of-the-bakery", "success", "accepts everything", 3, 2},
	{"dentist", "key-of-the-dentist", "http-500,wrong-case,success", "fails, then answers in the wrong case, then accepts", 2, 1},
	{"garage", "key-of-the-garage", "test-answer", "takes records for tests", 2, 0},
	{"florist", "key-of-the-florist", "html", "answers with a web page", 1, 1},
}

// A demonstration is the demo's stage.
type demonstration struct {
	app    *app
	dir    string
	config string
	url    string

	mu  sync.Mutex
	crm http.Handler
}

func (a *app) demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "leadrelay-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demonstration{app: a, dir: dir, config: filepath.Join(dir, "config.yaml")}
	closed, err := d.startCRM()
	if err != nil {
		return err
	}
	defer closed()
	if err := d.makeTables(ctx); err != nil {
		return fmt.Errorf("make the demo's tables: %w", err)
	}
	if err := d.writeConfig(); err != nil {
		return err
	}
	for _, act := range []func(context.Context) error{d.first, d.second, d.atOnce} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	d.say("That was leadrelay. Next: copy config.example.yaml, name your tables and webhooks, then leadrelay check.")
	return nil
}

func (d *demonstration) first(ctx context.Context) error {
	d.say("Four chatbots have collected leads and appointments in SQL tables. Each has a CRM:")
	t := tabwriter.NewWriter(d.app.stdout, 0, 0, 2, ' ', 0)
	for _, b := range demoBots {
		fmt.Fprintf(t, "  %s\tleads: %d, appointments: %d\tits CRM %s\n", b.id, b.leads, b.appointments, b.story)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	d.say("$ leadrelay run-now          (retry_at: [1s, 3s] here; 1 and 3 minutes are the default)")
	if err := d.run(ctx, exitPending, "run-now"); err != nil {
		return err
	}
	if err := d.table(ctx); err != nil {
		return err
	}
	d.say("The florist's records are not delivered, and stay owed. Why?\n$ leadrelay delivery list --state pending")
	return d.run(ctx, exitDone, "delivery", "list", "--state", "pending")
}

func (d *demonstration) second(ctx context.Context) error {
	d.say("The florist's CRM is mended. Nothing is gathered twice, what was owed is carried over:\n$ leadrelay run-now")
	if err := d.setCRM(nil); err != nil {
		return err
	}
	if err := d.run(ctx, exitDone, "run-now"); err != nil {
		return err
	}
	return d.table(ctx)
}

// atOnce runs the daemon and shows how soon a new lead is at its CRM.
func (d *demonstration) atOnce(ctx context.Context) error {
	d.say("The bakery wants its leads at once.\n$ leadrelay serve &")
	arrived := make(chan time.Time, 1)
	if err := d.setCRM(func() {
		select {
		case arrived <- time.Now():
		default:
		}
	}); err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	quiet := newApp(d.app.stdin, d.app.stdout, io.Discard)
	quiet.configPath = d.config
	quiet.log = slog.New(slog.DiscardHandler)
	go func() { ended <- quiet.serve(serving) }()
	rest := time.NewTimer(time.Second) // the daemon is up
	select {
	case <-rest.C:
	case err := <-ended:
		return fmt.Errorf("serve ended: %w", err)
	}
	committed := time.Now()
	if err := d.insert(ctx, "leads", "bakery", 1); err != nil {
		return err
	}
	select {
	case at := <-arrived:
		fmt.Fprintf(d.app.stdout, "a new lead was committed, and %d ms later it was at the CRM\n", at.Sub(committed).Milliseconds())
	case err := <-ended:
		return fmt.Errorf("serve ended: %w", err)
	case <-time.After(15 * time.Second):
		return errors.New("the new lead did not come to the CRM within 15 s")
	}
	stop()
	return <-ended
}

func (d *demonstration) say(text string) { fmt.Fprintf(d.app.stdout, "\n%s\n", text) }

// run is the program itself with these arguments, which must end with this exit code.
func (d *demonstration) run(ctx context.Context, want int, args ...string) error {
	args = append(args, "--config", d.config, "--log-level", "error")
	if code := run(ctx, args, d.app.stdin, d.app.stdout, d.app.stderr); code != want && ctx.Err() == nil {
		return fmt.Errorf("leadrelay %s ended with exit code %d, not %d", args[0], code, want)
	}
	return ctx.Err()
}

// table prints, by chatbot, what the ledger says of its records.
func (d *demonstration) table(ctx context.Context) (err error) {
	l, err := ledger.Open(ctx, "sqlite:"+filepath.Join(d.dir, "ledger.db"), ledger.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	t := tabwriter.NewWriter(d.app.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHATBOT\tGATHERED\tREFUSED ANSWERS\tRETRIED\tDELIVERED\tTEST ANSWERS\tPENDING")
	for _, b := range demoBots {
		deliveries, _, err := l.Deliveries(ctx, ledger.Filter{Webhooks: []string{b.id}, Limit: 100})
		if err != nil {
			return err
		}
		var refused, retried, delivered, tests, pending int
		for _, one := range deliveries {
			refused += one.Attempts
			if one.Attempts > 1 {
				retried++
			}
			switch {
			case one.State == jobs.Delivered && one.TestAnswer:
				refused--
				tests++
			case one.State == jobs.Delivered:
				refused--
				delivered++
			case one.State == jobs.Pending:
				pending++
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", b.id, len(deliveries), refused, retried, delivered, tests, pending)
	}
	return t.Flush()
}

// startCRM starts the demo's CRM on a free port.
func (d *demonstration) startCRM() (closed func(), err error) {
	behaviours := make([]string, len(demoBots))
	for i, b := range demoBots {
		behaviours[i] = b.id + "=" + b.crm
	}
	answer, err := receiver.Parse(behaviours)
	if err != nil {
		return nil, err
	}
	if err := d.serveWith(answer); err != nil {
		return nil, err
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.url = "http://" + socket.Addr().String()
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		crm := d.crm
		d.mu.Unlock()
		crm.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(socket) }()
	return func() { _ = server.Close() }, nil
}

// setCRM makes every CRM accept everything; came is called at each request.
func (d *demonstration) setCRM(came func()) error {
	return d.serveWith(func(w http.ResponseWriter, r *http.Request, req *receiver.Request) {
		if came != nil {
			came()
		}
		receiver.Success(w, r, req)
	})
}

func (d *demonstration) serveWith(answer receiver.Behaviour) error {
	keys := make([]jobs.Secret, len(demoBots))
	for i, b := range demoBots {
		keys[i] = jobs.Secret(b.key)
	}
	crm, err := receiver.New(receiver.Options{SignKeys: keys, Answer: answer, Tolerance: 5 * time.Minute, Log: indented{d.app.stdout}})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crm = crm
	return nil
}

// indented sets the CRM's lines off from ours.
type indented struct {
	to interface{ Write([]byte) (int, error) }
}

func (w indented) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(w.to, "    CRM: %s\n", strings.TrimRight(string(p), "\n"))
	return len(p), err
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
