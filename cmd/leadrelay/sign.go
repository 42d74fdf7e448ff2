package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/sinks"
)

func newSignCommand(a *app) *cobra.Command {
	var dialect, at, id string
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "sign --key-file F [--dialect D] [--time T] FILE|-",
		Short: "Print the headers that sign a body",
		Long: `Print the headers that a webhook's requests are signed with, for a body byte for byte as the file holds it (a line
break at its end counts). Dialect smarterbot signs with X-Webhook-Signature: t is the time, v1 the hex HMAC-SHA256, under
the sign key, of t, a dot and the body.

  curl -H "$(leadrelay sign --key-file acme.key body.json)" -H 'Content-Type: application/json' --data-binary @body.json URL`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			registry, d, secrets, err := a.signedDialect(dialect, &keys)
			if err != nil {
				return err
			}
			t, err := signTime(at)
			if err != nil {
				return err
			}
			delivery := uuid.New()
			if id != "" {
				if delivery, err = uuid.Parse(id); err != nil {
					return usageErrorf("--id %q: is no UUID, as deliveries' ids are", id)
				}
			}
			body, err := a.readBody(args[0])
			if err != nil {
				return err
			}
			h, err := registry.SignHeaders(dialect, secrets, delivery, t, body, 1)
			if err != nil {
				return usageErrorf("the sign key: %w", err)
			}
			return a.printSigned(d, h)
		},
	}
	f := cmd.Flags()
	keys.register(f, "key", "given twice, the new one and the old one of a rotation")
	f.StringVar(&dialect, "dialect", sinks.DefaultDialect, "the format: "+strings.Join(sinks.BuiltIn().Names(), ", ")+", or one of the configuration's")
	f.StringVar(&at, "time", "", "`TIME` of the signature, unix seconds or RFC 3339 (default now)")
	f.StringVar(&id, "id", "", "the delivery's `ID`, which standard-webhooks signs (default: one is made)")
	return cmd
}

// printSigned prints the headers that sign a request. value is the signature, which stands in the last of them.
func (a *app) printSigned(d *sinks.Dialect, h http.Header) error {
	names, headers := d.SignatureHeaders(), map[string]string{}
	for _, name := range names {
		headers[name] = h[name][0]
	}
	if a.json {
		last := names[len(names)-1]
		return a.printJSON(map[string]any{"header": last, "value": headers[last], "headers": headers})
	}
	for _, name := range names {
		if _, err := fmt.Fprintf(a.stdout, "%s: %s\n", name, headers[name]); err != nil {
			return err
		}
	}
	return nil
}

func signTime(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds >= 0 && seconds < 1e12 {
		return time.Unix(seconds, 0), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil && t.Unix() >= 0 {
		return t, nil
	}
	return time.Time{}, usageErrorf("--time %q: write unix seconds or a time as 2023-11-23T18:36:21Z, after 1970", text)
}

// readBody reads a body as it is, from a file or, for "-", from standard input.
func (a *app) readBody(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(path)
}
