package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

func newDemoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on embedded parts: SQLite tables, a CRM on 127.0.0.1, four chatbots",
		Long: `Make a SQLite database with the leads and appointments of four chatbots, start a CRM on 127.0.0.1 that accepts,
refuses and lies, push everything to it, and show what became of it. It takes five seconds. All of it is in a temporary
folder that is removed in the end. With --json only what each chatbot came to is printed.`,
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
	{"dentist", "key-of-the-dentist", "http-500,wrong-case,success", "fails, then says Success for success, then accepts", 2, 1},
	{"garage", "key-of-the-garage", "test-answer", "takes every record for a test", 2, 0},
	{"florist", "key-of-the-florist", "html", "answers 200 OK with a login page", 1, 1},
}

// demoResult is what a chatbot's records came to, as `demo --json` prints it.
type demoResult struct {
	Chatbot        string `json:"chatbot"`
	Gathered       int    `json:"gathered"`
	RefusedAnswers int    `json:"refused_answers"`
	Retried        int    `json:"retried"`
	Delivered      int    `json:"delivered"`
	TestAnswers    int    `json:"test_answers"`
	Pending        int    `json:"pending"`
}

func (a *app) demo(ctx context.Context) (err error) {
	signal.Ignore(syscall.SIGPIPE) // `leadrelay demo | head` would end it with its folder left behind
	defer signal.Reset(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // a terminal that is closed does the same
	defer stop()
	dir, err := os.MkdirTemp("", "leadrelay-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demonstration{app: a, out: raw(a.stdout), dir: dir, config: filepath.Join(dir, "config.yaml")}
	if a.json {
		d.out = io.Discard
	}
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
	for _, act := range []func(context.Context) error{d.collected, d.pushed, d.request, d.owed, d.mended, d.atOnce} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(map[string]any{"chatbots": d.results})
	}
	d.say("\nThat was leadrelay, and nothing of it is left here. With your own tables: the README's ten minutes.")
	return nil
}

func (d *demonstration) collected(context.Context) error {
	d.title("Four chatbots have collected leads and appointments, in two SQL tables")
	t := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  CHATBOT\tLEADS\tAPPOINTMENTS\tITS CUSTOMER'S CRM")
	for _, b := range demoBots {
		fmt.Fprintf(t, "  %s\t%d\t%d\t%s\n", b.id, b.leads, b.appointments, b.story)
	}
	return t.Flush()
}

func (d *demonstration) pushed(ctx context.Context) error {
	d.title("Gather them, push each as one signed request, retry what is refused")
	d.say("$ leadrelay run-now            # retries after 1 and 3 s here; the default is 1 and 3 minutes")
	if err := d.watched(ctx, exitPending, "run-now"); err != nil {
		return err
	}
	d.say("\nOnly the exact words count: neither a 200 OK with a page nor a 500 with {\"status\":\"success\"} is a delivery.")
	return nil
}

// request shows one of the requests as it came to the CRM, and verifies it as a CRM's developer would.
func (d *demonstration) request(ctx context.Context) error {
	r := d.sample
	if r == nil {
		return errors.New("the bakery's CRM got no lead")
	}
	d.title("One of these requests, in full (its body is one line; it is folded here)")
	fmt.Fprintf(d.out, "  POST %s HTTP/1.1\n", r.path)
	for _, name := range []string{"Content-Type", "User-Agent", sinks.IDHeader, sinks.SignatureHeader} {
		fmt.Fprintf(d.out, "  %s: %s\n", name, r.header.Get(name))
	}
	fmt.Fprintln(d.out)
	for line := range strings.SplitSeq(fold(string(r.body), 90), "\n") {
		d.say("  " + line)
	}
	body := filepath.Join(d.dir, "body.json")
	if err := os.WriteFile(body, r.body, 0o600); err != nil {
		return err
	}
	d.say("\n$ leadrelay verify --key key-of-the-bakery --header 't=…,v1=…' body.json")
	return d.run(ctx, exitDone, "verify", "--key", demoBots[0].key, "--header", r.header.Get(sinks.SignatureHeader), body)
}

func (d *demonstration) owed(ctx context.Context) error {
	d.title("The florist's records are not delivered. They stay owed, with the reason")
	d.say("$ leadrelay delivery list --state pending")
	return d.run(ctx, exitDone, "delivery", "list", "--state", "pending")
}

func (d *demonstration) mended(ctx context.Context) error {
	d.title("The florist's CRM is mended: what is owed goes, and nothing is sent twice")
	d.say("$ leadrelay run-now")
	d.answer(receiver.Success)
	if err := d.watched(ctx, exitDone, "run-now"); err != nil {
		return err
	}
	d.say("\nSo, by chatbot:\n")
	return d.table(ctx)
}

// atOnce runs the daemon and shows how soon a new lead is at its CRM.
func (d *demonstration) atOnce(ctx context.Context) error {
	d.title("The bakery is set to immediate: true, so the daemon does not wait for the schedule")
	d.say("$ leadrelay serve &\n$ sqlite3 chatbots.db \"insert into leads (chatbot_id, first_name, …) values ('bakery', 'Ann', …)\"")
	arrived := make(chan time.Time, 1)
	d.answer(func(w http.ResponseWriter, r *http.Request, req *receiver.Request) {
		select {
		case arrived <- time.Now():
		default:
		}
		receiver.Success(w, r, req)
	})
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	quiet := newApp(d.app.stdin, io.Discard, io.Discard)
	quiet.configPath = d.config
	quiet.log = slog.New(slog.DiscardHandler)
	go func() { ended <- quiet.serve(serving) }()
	rest := time.NewTimer(time.Second) // the daemon is up
	select {
	case <-rest.C:
	case err := <-ended:
		return cmp.Or(ctx.Err(), err, errors.New("serve ended by itself"))
	}
	committed := time.Now()
	if err := d.insert(ctx, "leads", "bakery", 1); err != nil {
		return err
	}
	select {
	case at := <-arrived:
		d.say(fmt.Sprintf("a new lead was committed, and %d ms later it was at the CRM", at.Sub(committed).Milliseconds()))
	case err := <-ended:
		return cmp.Or(ctx.Err(), err, errors.New("serve ended by itself"))
	case <-time.After(15 * time.Second):
		return errors.New("the new lead did not come to the CRM within 15 s")
	}
	stop()
	return <-ended
}

func (d *demonstration) say(text string) { fmt.Fprintln(d.out, text) }

// title begins an act.
func (d *demonstration) title(text string) {
	d.acts++
	fmt.Fprintf(d.out, "\n%s\n\n", d.paint(bold, fmt.Sprintf("%d. %s", d.acts, text)))
}

// run is the program itself with these arguments, which must end with this exit code.
func (d *demonstration) run(ctx context.Context, want int, args ...string) error {
	return d.runTo(ctx, d.out, want, args...)
}

func (d *demonstration) runTo(ctx context.Context, to io.Writer, want int, args ...string) error {
	args = append(args, "--config", d.config, "--log-level", "error")
	var faults bytes.Buffer // in a buffer there is no progress bar, which would stand in the demo's way
	if code := run(ctx, args, d.app.stdin, to, &faults); code != want && ctx.Err() == nil {
		return fmt.Errorf("leadrelay %s ended with exit code %d, not %d: %s", args[0], code, want, bytes.TrimSpace(faults.Bytes()))
	}
	return ctx.Err()
}

// watched runs the program while what the CRMs answer is shown; its own output comes after that.
func (d *demonstration) watched(ctx context.Context, want int, args ...string) error {
	var output bytes.Buffer
	d.watch()
	err := d.runTo(ctx, &output, want, args...)
	d.watchEnds()
	if err == nil {
		_, err = fmt.Fprintf(d.out, "\n%s", &output)
	}
	return err
}

// table prints, by chatbot, what the ledger says of its records.
func (d *demonstration) table(ctx context.Context) (err error) {
	l, err := ledger.Open(ctx, "sqlite:"+filepath.Join(d.dir, "ledger.db"), ledger.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	t := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHATBOT\tGATHERED\tREFUSED ANSWERS\tRETRIED\tDELIVERED\tTEST ANSWERS\tPENDING")
	for _, b := range demoBots {
		deliveries, _, err := l.Deliveries(ctx, ledger.Filter{Webhooks: []string{b.id}, Limit: 100})
		if err != nil {
			return err
		}
		r := demoResult{Chatbot: b.id, Gathered: len(deliveries)}
		for _, one := range deliveries {
			r.RefusedAnswers += one.Attempts
			if one.Attempts > 1 {
				r.Retried++
			}
			switch {
			case one.State == jobs.Delivered && one.TestAnswer:
				r.RefusedAnswers--
				r.TestAnswers++
			case one.State == jobs.Delivered:
				r.RefusedAnswers--
				r.Delivered++
			case one.State == jobs.Pending:
				r.Pending++
			}
		}
		d.results = append(d.results, r)
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", b.id, r.Gathered, r.RefusedAnswers, r.Retried, r.Delivered, r.TestAnswers, r.Pending)
	}
	return t.Flush()
}

// fold breaks a text behind commas into lines of at most width bytes, where it can.
func fold(text string, width int) string {
	var b strings.Builder
	line := 0
	for i, part := range strings.Split(text, `,"`) {
		if i > 0 {
			b.WriteByte(',')
			part = `"` + part
		}
		if line > 0 && line+len(part) >= width {
			b.WriteByte('\n')
			line = 0
		}
		b.WriteString(part)
		line += len(part)
	}
	return b.String()
}
