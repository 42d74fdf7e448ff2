package main

import (
	"path/filepath"
	"strings"
)

// commandLine is a command as it may be typed again.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		if i == 0 {
			arg = filepath.Base(arg)
		}
		if arg == "" || strings.ContainsAny(arg, " \t\n\"'`$&|;<>()*?[]#~\\!{}") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words[i] = arg
	}
	return strings.Join(words, " ")
}
