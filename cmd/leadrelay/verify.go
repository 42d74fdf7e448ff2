package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

func newVerifyCommand(a *app) *cobra.Command {
	var (
		keys      []string
		header    string
		tolerance time.Duration
	)
	cmd := &cobra.Command{
		Use:   "verify --key K --header H FILE|-",
		Short: "Check the signature header of a body",
		Long: `Check an X-Webhook-Signature header against a body, byte for byte as it came over the wire. Any v1 of the header
may match. Exit codes: 0 it verifies; 1 it does not, and why.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			secrets := make([]jobs.Secret, len(keys))
			for i, key := range keys {
				if secrets[i] = jobs.Secret(key); key == "" {
					return usageErrorf("--key: is empty")
				}
			}
			if tolerance < 0 {
				return usageErrorf("--tolerance: must not be negative")
			}
			body, err := a.readBody(args[0])
			if err != nil {
				return err
			}
			return a.printVerified(verifyBody(header, body, secrets, tolerance))
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "the webhook's sign `KEY`; repeatable: any of them verifies")
	f.StringVar(&header, "header", "", "the `HEADER`, its value alone or with its name")
	f.DurationVar(&tolerance, "tolerance", 0, "how far the signature's time may be from now, as a receiver should check; 0: any")
	_ = cmd.MarkFlagRequired("key")
	_ = cmd.MarkFlagRequired("header")
	return cmd
}

// verifyBody checks one body, and says so where it is only the line break that an editor or echo puts behind it.
func verifyBody(header string, body []byte, keys []jobs.Secret, tolerance time.Duration) error {
	if name, value, ok := strings.Cut(header, ":"); ok && strings.EqualFold(strings.TrimSpace(name), sinks.SignatureHeader) {
		header = strings.TrimSpace(value)
	}
	h := http.Header{sinks.SignatureHeader: {header}}
	now := time.Now()
	err := sinks.Verify(sinks.DefaultDialect, h, body, keys, now, tolerance)
	if errors.Is(err, sinks.ErrSignatureMismatch) {
		if cut := bytes.TrimRight(body, "\r\n"); len(cut) < len(body) && sinks.Verify(sinks.DefaultDialect, h, cut, keys, now, 0) == nil {
			return fmt.Errorf("%w; without the line break at its end it would verify", err)
		}
	}
	return err
}

func (a *app) printVerified(err error) error {
	switch {
	case err != nil && !errors.Is(err, sinks.ErrSignature):
		return err
	case a.json:
		result := struct {
			OK     bool   `json:"ok"`
			Reason string `json:"reason"`
		}{OK: err == nil}
		if err != nil {
			result.Reason = err.Error()
			return errors.Join(&exitError{code: exitFailed}, a.printJSON(result))
		}
		return a.printJSON(result)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(a.stdout, "the signature verifies")
	return err
}
