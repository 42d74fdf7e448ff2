package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/sinks"
)

func newVerifyCommand(a *app) *cobra.Command {
	var (
		dialect   string
		keys      keyFlags
		headers   []string
		tolerance time.Duration
	)
	cmd := &cobra.Command{
		Use:   "verify --key-file F --header H [--dialect D] FILE|-",
		Short: "Check the signature of a body",
		Long: `Check a request's signature, such as an X-Webhook-Signature header, against its body, byte for byte as it came over
the wire. Any v1 of the header may match. Exit codes: 0 it verifies; 1 it does not, and why.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			registry, d, secrets, err := a.signedDialect(dialect, &keys)
			if err != nil {
				return err
			}
			if tolerance < 0 {
				return usageErrorf("--tolerance: must not be negative")
			}
			h, err := givenHeaders(d, headers)
			if err != nil {
				return err
			}
			v, err := registry.NewVerifier(dialect, secrets, tolerance)
			if err != nil {
				return usageErrorf("the sign key: %w", err)
			}
			body, err := a.readBody(args[0])
			if err != nil {
				return err
			}
			return a.printVerified(verifyBody(v, h, body))
		},
	}
	f := cmd.Flags()
	keys.register(f, "key", "repeatable: any of them verifies")
	f.StringArrayVar(&headers, "header", nil, "the `HEADER`, its value alone or with its name; repeatable, with their names, for standard-webhooks' three")
	f.StringVar(&dialect, "dialect", sinks.DefaultDialect, "the format: "+strings.Join(sinks.BuiltIn().Names(), ", ")+", or one of the configuration's")
	f.DurationVar(&tolerance, "tolerance", 0, "how far the signature's time may be from now, as a receiver should check; 0: any")
	_ = cmd.MarkFlagRequired("header")
	return cmd
}

// givenHeaders reads the headers that sign a request, of a dialect that has one also its value alone.
func givenHeaders(d *sinks.Dialect, texts []string) (http.Header, error) {
	h, names := http.Header{}, d.SignatureHeaders()
	for _, text := range texts {
		name, value, _ := strings.Cut(text, ":")
		i := slices.IndexFunc(names, func(own string) bool { return strings.EqualFold(own, strings.TrimSpace(name)) })
		switch {
		case i >= 0:
			h[names[i]] = append(h[names[i]], strings.TrimSpace(value))
		case len(names) == 1:
			h[names[0]] = append(h[names[0]], text)
		default:
			return nil, usageErrorf("--header: write NAME: VALUE for each of %s", strings.Join(names, ", "))
		}
	}
	return h, nil
}

// verifyBody checks one body, and says so where it is only the line break that an editor or echo puts behind it.
func verifyBody(v *sinks.Verifier, h http.Header, body []byte) error {
	now := time.Now()
	err := v.Verify(h, body, now)
	if errors.Is(err, sinks.ErrSignatureMismatch) {
		if cut := bytes.TrimRight(body, "\r\n"); len(cut) < len(body) {
			if again := v.Verify(h, cut, now); again == nil || errors.Is(again, sinks.ErrSignatureTime) {
				return fmt.Errorf("%w; without the line break at its end it would verify", err)
			}
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
