package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// receiveGrace is how long answers under way may take once `receive` is told to stop.
const receiveGrace = 5 * time.Second

type receiveOptions struct {
	listen     string
	dialect    string
	keys       keyFlags
	answers    []string
	tolerance  time.Duration
	quiet      bool
	showBodies bool
}

func newReceiveCommand(a *app) *cobra.Command {
	var o receiveOptions
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "A test CRM: verify, answer and count what comes, until it is stopped",
		Long: `A CRM to try things with. It verifies every request's signature over the raw body (401 where it does not
verify), answers {"status":"success"} or what --answer says, prints a line for each request, and counts at the end.

--answer takes a name, or several with commas between: for a record's first request, its second, …; the last is for
all later ones. With CHATBOT= before it, it is for that chatbot alone. Repeatable.

  leadrelay receive --listen 127.0.0.1:9000 --key-file acme.key --answer http-500,success
  leadrelay receive --listen 127.0.0.1:9000 --key-file acme.key --answer 59001dd7=wrong-case

Names: http-NNN, wait-DURATION (then success),
` + wrap(receiver.Presets(), 100) + `.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.receive(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "`ADDRESS` to listen on, such as 127.0.0.1:9000; port 0 takes a free one")
	f.StringVar(&o.dialect, "dialect", sinks.DefaultDialect, "the format to verify: "+strings.Join(sinks.BuiltIn().Names(), ", ")+", or one of the configuration's")
	o.keys.register(f, "sign-key", "repeatable: any of them verifies; none in a dialect that does not sign")
	f.StringArrayVar(&o.answers, "answer", nil, "how to answer (default success)")
	f.DurationVar(&o.tolerance, "tolerance", 5*time.Minute, "how far a signature's time may be from now; 0: any")
	f.BoolVar(&o.quiet, "quiet", false, "print no line for each request")
	f.BoolVar(&o.showBodies, "show-bodies", false, "print bodies too; they are personal data")
	_ = cmd.MarkFlagRequired("listen")
	return cmd
}

// wrap sets words in lines of at most this many bytes.
func wrap(words []string, width int) string {
	var b strings.Builder
	line := 0
	for i, word := range words {
		switch {
		case i == 0:
		case line+len(word) > width:
			b.WriteString(",\n")
			line = 0
		default:
			b.WriteString(", ")
			line += 2
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

func (a *app) receive(ctx context.Context, o receiveOptions) error {
	answer, err := receiver.Parse(o.answers)
	if err != nil {
		return usageErrorf("--answer: %w", err)
	}
	if o.tolerance < 0 {
		return usageErrorf("--tolerance: must not be negative")
	}
	registry, d, err := a.dialect(o.dialect)
	if err != nil {
		return err
	}
	options := receiver.Options{Dialect: o.dialect, Dialects: registry, Tolerance: o.tolerance, Answer: answer, ShowBodies: o.showBodies}
	if options.SignKeys, err = a.signKeys(registry, d, &o.keys); err != nil {
		return err
	}
	if !a.json && !o.quiet {
		options.Log = a.stdout
	}
	crm, err := receiver.New(options)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		crm.Close()
		if _, wrong := errors.AsType[*net.AddrError](err); wrong {
			return usageErrorf("--listen %q: write HOST:PORT, such as 127.0.0.1:9000", o.listen)
		}
		return fmt.Errorf("--listen: %w", err)
	}
	a.log.Info("receiving", "url", "http://"+listener.Addr().String()+"/")
	server := &http.Server{
		Handler: crm, ErrorLog: log.New(io.Discard, "", 0), // broken connections are what it is there for
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
		crm.Close() // answers that hang end
		err = stopServer(ctx, server)
		<-failed
	case err = <-failed:
		crm.Close()
	}
	return errors.Join(err, a.printReceived(crm))
}

// stopServer takes no more, waits for what is being answered, then breaks it off.
func stopServer(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiveGrace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		return server.Close()
	}
	return nil
}

// received is `receive --json`.
type received struct {
	receiver.Counts
	Chatbots map[string]receiver.Counts `json:"chatbots"`
}

func (a *app) printReceived(crm *receiver.Receiver) error {
	r := received{Counts: crm.Counts(), Chatbots: crm.ByChatbot()}
	if a.json {
		return a.printJSON(r)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "requests\trecords\tacknowledged\tduplicates\trefused\tnot verified\t  chatbot")
	line := func(c receiver.Counts, chatbot string) {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t  %s\n", c.Requests, c.Unique, c.Acked, c.Duplicates, c.Refused, c.Unverified, chatbot)
	}
	for _, chatbot := range slices.Sorted(maps.Keys(r.Chatbots)) {
		line(r.Chatbots[chatbot], fmt.Sprintf("%q", chatbot))
	}
	line(r.Counts, "all")
	return t.Flush()
}
