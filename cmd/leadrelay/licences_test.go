package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLicences: the README names the licence of every module that is in the binary, as the module's own file has it.
func TestLicences(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "\n## Licences\n")
	text, _, _ = strings.Cut(text, "\n## ")
	named := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?s)- \*\*(.+?)\*\*: (.+?)\.(?:\n|$)`).FindAllStringSubmatch(text, -1) {
		named[m[1]] = regexp.MustCompile(`,\s+`).Split(m[2], -1)
	}

	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", ".")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string][]string{}
	modules := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			modules[path] = dir
		}
	}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		licence := licenceOf(t, modules[path])
		linked[licence] = append(linked[licence], path)
	}
	if diff := cmp.Diff(linked, named); diff != "" {
		t.Errorf("licences (-in the binary +in the README):\n%s", diff)
	}
}

// licenceOf tells a module's licence from the words of its file.
func licenceOf(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		words := strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", "")), " "))
		for _, l := range []struct{ name, has string }{
			{"Apache 2.0", "apache license version 2.0"},
			{"BSD, 3 clauses", "neither the name"},
			{"MIT", "permission is hereby granted, free of charge"},
		} {
			if strings.Contains(words, l.has) {
				return l.name
			}
		}
	}
	t.Errorf("no licence is found in %s", filepath.Base(dir))
	return "unknown"
}
