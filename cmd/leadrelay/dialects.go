package main

import (
	"strings"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
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
