package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// keyVariable is the environment variable with a sign key, for commands that are given none by a flag.
const keyVariable = "LEADRELAY_SIGN_KEY"

// keyFlags are the sign keys that a command is given.
type keyFlags struct {
	flag  string // takes the keys themselves
	keys  []string
	files []string
}

func (k *keyFlags) register(f *pflag.FlagSet, flag, usage string) {
	k.flag = "--" + flag
	f.StringArrayVar(&k.files, "key-file", nil, "a `FILE` that holds the webhook's sign key; "+usage+" (default $"+keyVariable+")")
	f.StringArrayVar(&k.keys, flag, nil, "the sign `KEY` itself, for trials: other users of the machine see what is on a command line")
}

// signKeys reads the keys that a command is given, and says which are none of the dialect's.
func (a *app) signKeys(registry *sinks.Registry, d *sinks.Dialect, k *keyFlags) (keys []jobs.Secret, err error) {
	var wrong []error
	take := func(where, key string) {
		if key == "" {
			wrong = append(wrong, fmt.Errorf("%s: is empty", where))
		} else if err := registry.CheckKey(d.Name, jobs.Secret(key)); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", where, err))
		}
		keys = append(keys, jobs.Secret(key))
	}
	for _, key := range k.keys {
		take(k.flag, key)
	}
	for _, file := range k.files {
		key, err := readKeyFile("--key-file", file)
		if err != nil {
			return nil, err
		}
		take("--key-file "+file, key)
	}
	if key, set := os.LookupEnv(keyVariable); set && d.Signed && keys == nil {
		take("$"+keyVariable, key)
	}
	if len(wrong) > 0 {
		return nil, &exitError{code: exitUsage, err: errors.Join(wrong...)}
	}
	if keys == nil && d.NeedsKey() {
		return nil, usageErrorf("no sign key: --key-file, $%s and %s are not set, and dialect %s signs every request", keyVariable, k.flag, d.Name)
	}
	if len(k.keys) > 0 {
		a.log.Warn("other users of this machine see a key that is on a command line, and the shell's history keeps it", "instead", "--key-file FILE or $"+keyVariable)
	}
	return keys, nil
}

// signedDialect finds a dialect that signs, and the keys to sign or verify with.
func (a *app) signedDialect(name string, k *keyFlags) (*sinks.Registry, *sinks.Dialect, []jobs.Secret, error) {
	registry, d, err := a.dialect(name)
	if err != nil {
		return nil, nil, nil, err
	}
	if !d.Signed {
		return nil, nil, nil, usageErrorf("--dialect: %s does not sign", name)
	}
	keys, err := a.signKeys(registry, d, k)
	if err == nil && keys == nil {
		err = usageErrorf("no sign key: --key-file, $%s and %s are not set", keyVariable, k.flag)
	}
	return registry, d, keys, err
}

// readKeyFile reads a key from a file, which may end in a line break.
func readKeyFile(flag, path string) (string, error) {
	text, err := environment().ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return withoutLineBreak(text), nil
}

func withoutLineBreak(text []byte) string {
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
}
