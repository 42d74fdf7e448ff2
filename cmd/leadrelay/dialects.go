package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// dialect finds a dialect for a command that needs no configuration: a built-in one, or one that the configuration
// defines, where there is one.
func (a *app) dialect(name string) (*sinks.Registry, *sinks.Dialect, error) {
	if d, ok := sinks.BuiltIn().Lookup(name); ok {
		return sinks.BuiltIn(), d, nil
	}
	var known *sinks.Registry
	path, err := config.Find(a.configPath, environment())
	if err == nil {
		c, err := config.Load(path, configOptions())
		if err != nil {
			return nil, nil, &exitError{code: exitUsage, err: err}
		}
		known = c.Dialects
	}
	if d, ok := known.Lookup(name); ok {
		return known, d, nil
	}
	text := "write one of " + strings.Join(known.Names(), ", ")
	if err != nil {
		text += ", or name with --config the configuration that defines it"
	}
	return nil, nil, usageErrorf("--dialect %q: %s", name, text)
}

// signedDialect finds a dialect that signs, and says what is wrong with keys for it.
func (a *app) signedDialect(name string, keys []string) (*sinks.Registry, *sinks.Dialect, error) {
	registry, d, err := a.dialect(name)
	if err != nil {
		return nil, nil, err
	}
	if !d.Signed {
		return nil, nil, usageErrorf("--dialect: %s does not sign", name)
	}
	var wrong []error
	for _, key := range keys {
		if key == "" {
			wrong = append(wrong, errors.New("--key: is empty"))
		} else if err := registry.CheckKey(name, jobs.Secret(key)); err != nil {
			wrong = append(wrong, fmt.Errorf("--key: %w", err))
		}
	}
	if len(wrong) > 0 {
		return nil, nil, &exitError{code: exitUsage, err: errors.Join(wrong...)}
	}
	return registry, d, nil
}
