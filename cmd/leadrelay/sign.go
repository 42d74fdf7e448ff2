package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

func newSignCommand(a *app) *cobra.Command {
	var key, at string
	cmd := &cobra.Command{
		Use:   "sign --key K [--time T] FILE|-",
		Short: "Print the signature header of a body",
		Long: `Print the X-Webhook-Signature header of a body: t is the time, v1 the hex HMAC-SHA256, under the sign key, of
t, a dot and the body, byte for byte as the file holds it (a line break at its end counts).

  curl -H "$(leadrelay sign --key K body.json)" -H 'Content-Type: application/json' --data-binary @body.json URL`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				return usageErrorf("--key: is empty")
			}
			t, err := signTime(at)
			if err != nil {
				return err
			}
			body, err := a.readBody(args[0])
			if err != nil {
				return err
			}
			value := sinks.Sign(jobs.Secret(key), t, body)
			if a.json {
				return a.printJSON(map[string]string{"header": sinks.SignatureHeader, "value": value})
			}
			_, err = fmt.Fprintf(a.stdout, "%s: %s\n", sinks.SignatureHeader, value)
			return err
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the webhook's sign `KEY`")
	cmd.Flags().StringVar(&at, "time", "", "`TIME` of the signature, unix seconds or RFC 3339 (default now)")
	_ = cmd.MarkFlagRequired("key")
	return cmd
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
