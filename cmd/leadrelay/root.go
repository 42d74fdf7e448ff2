package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes, as `leadrelay help` states them.
const (
	exitDone    = 0
	exitFailed  = 1 // database, network; a signature that does not verify
	exitUsage   = 2 // usage or configuration
	exitPending = 3 // ended, and something of it is not delivered, a test failed, or rows were missing
)

// An exitError ends the program with a code. Without an error nothing more is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageErrorf is an error in how the program was called or configured.
func usageErrorf(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// app is what every command gets: its streams, the common flags and the log.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer // harmless ones

	configPath string
	json       bool
	logLevel   string
	logFormat  string

	log        *slog.Logger
	logTo      *stderrLog
	journalled bool // standard error is systemd's journal
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	to := &stderrLog{to: stderr}
	return &app{
		stdin: stdin, stdout: harmless{to: stdout}, stderr: harmless{to: stderr},
		log: slog.New(slog.NewTextHandler(to, nil)), logTo: to, journalled: journalled(stderr, os.Getenv("JOURNAL_STREAM")),
	}
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "leadrelay",
		Short: "Delivers chatbots' leads and appointments to CRMs, and proves it",
		Long: `leadrelay gathers the new leads and appointments of every chatbot from your SQL tables and pushes each
as one signed JSON POST to the CRM configured for that chatbot. Only a matching answer counts as delivered.

leadrelay demo shows it all in five seconds. Then write a config.yaml, the smallest being

  source: sqlite:chatbots.db      # or postgres://USER:PASSWORD@HOST/DATABASE
  webhooks: [{chatbot: CHATBOT_ID, url: "https://crm.example.com/hook"}]

and type leadrelay check, run-now --dry-run, run-now, serve.

Exit codes: 0 done, nothing owed; 1 something failed (database, network; a signature that does not verify);
2 usage or configuration; 3 ended, and something of it is not delivered, a test failed, or rows were missing.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.openLog() },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErrorf("unknown command %q; see leadrelay help", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "configuration `FILE` (default $LEADRELAY_CONFIG, ./config.yaml, /etc/leadrelay/config.yaml)")
	flags.BoolVar(&a.json, "json", false, "print one JSON document on standard output, and nothing else there")
	flags.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&a.logFormat, "log-format", "text", "text or json; logs go to standard error")
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{code: exitUsage, err: err} })
	root.AddCommand(
		newServeCommand(a), newRunNowCommand(a), newStatusCommand(a), newCheckCommand(a), newSQLCommand(a),
		newStreamCommand(a), newWebhookCommand(a), newTokenCommand(a), newDeliveryCommand(a), newBackfillCommand(a), newReconcileCommand(a),
		newDemoCommand(a), newReceiveCommand(a), newSignCommand(a), newVerifyCommand(a), newVersionCommand(a),
	)
	root.InitDefaultCompletionCmd()
	refuseStrayArguments(root)
	refuseUnknownTopics(root)
	return root
}

// refuseStrayArguments makes wrong arguments a usage error in every command: cobra's own come without a code, and a
// command that only holds others would answer a wrong one with its help and exit code 0.
func refuseStrayArguments(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usageErrorf("unknown command %q of %s; see %[2]s --help", args[0], c.CommandPath())
				}
				return c.Help()
			}
		}
		check := c.Args
		if check == nil {
			check = cobra.NoArgs
		}
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageErrorf("%s: %w", c.CommandPath(), err)
			}
			return nil
		}
		refuseStrayArguments(c)
	}
}

// refuseUnknownTopics makes help about a command that there is not a usage error: cobra prints the help of what stands
// before it.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return
	}
	show := help.Run
	help.Run, help.RunE = nil, func(c *cobra.Command, args []string) error {
		if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
			return usageErrorf("unknown command %q; see leadrelay help", strings.Join(args, " "))
		}
		show(c, args)
		return nil
	}
}

func (a *app) openLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usageErrorf("--log-level %q: write debug, info, warn or error", a.logLevel)
	}
	options := slog.HandlerOptions{Level: level}
	var handler func(io.Writer) slog.Handler
	switch a.logFormat {
	case "text":
		if a.journalled {
			options.ReplaceAttr = withoutTime
		}
		handler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, &options) }
	case "json": // each line a document that is whole without the journal, the time included
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(harmless{w, true}, &options) }
	default:
		return usageErrorf("--log-format %q: write text or json", a.logFormat)
	}
	if a.journalled {
		a.log = slog.New(newJournalHandler(a.logTo, handler))
	} else {
		a.log = slog.New(handler(a.logTo))
	}
	return nil
}

// exitCode says what an error means to the caller's shell, and prints it.
func (a *app) exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitFailed
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
		if exit.err == nil {
			return code
		}
	case strings.HasPrefix(err.Error(), "required flag"), strings.HasPrefix(err.Error(), "if any flags in the group"):
		code = exitUsage // cobra has no type for these
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	to := a.stderr
	if a.journalled {
		to = prefixed{to, priorityError}
	}
	fmt.Fprintf(to, "leadrelay: %v\n", err)
	return code
}

// printJSON prints v as the one document on standard output.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(harmless{raw(a.stdout), true})
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// countOf words a number of things whose plural ends in s.
func countOf(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// are is the verb after countOf.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// terminal reports whether w is a terminal, and colours are wanted there.
func terminal(w io.Writer) bool {
	f, ok := raw(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// coloured reports whether w gets colours.
func coloured(w io.Writer) bool {
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
