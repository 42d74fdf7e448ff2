package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/leadrelay/leadrelay/"

// TestHouse: which room may import which. jobs is the domain and imports none of the others; sources, sinks, the
// ledger and the admin listener import jobs and never each other; this program imports all.
func TestHouse(t *testing.T) {
	allowed := map[string][]string{
		"jobs":                       nil,
		"jobs/ledger":                {"jobs", "jobs/pgpool"},
		"jobs/pgpool":                nil,
		"jobs/pgtest":                nil,
		"sources":                    {"jobs", "jobs/pgpool"},
		"sinks":                      {"jobs"},
		"sinks/receiver":             {"jobs", "sinks"},
		"sinks/verify":               nil, // a recipe that others copy
		"sinks/crmtest":              nil,
		"cmd/leadrelay/admin":        {"jobs"},
		"cmd/leadrelay/config":       {"jobs", "sinks"}, // for the dialects that a configuration defines
		"cmd/leadrelay":              {"jobs", "jobs/ledger", "sources", "sinks", "sinks/receiver", "cmd/leadrelay/admin", "cmd/leadrelay/config"},
		"cmd/leadrelay/testdata/...": nil,
	}
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		room, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if strings.HasPrefix(room, "cmd/leadrelay/testdata/") {
			room = "cmd/leadrelay/testdata/..."
		}
		may, known := allowed[room]
		if !known {
			t.Errorf("%s is a new room: say here what it may import", room)
			return nil
		}
		seen[room] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if other, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(may, other) {
				t.Errorf("%s imports %s", path, other)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range allowed {
		if !seen[room] {
			t.Errorf("there is no room %s", room)
		}
	}
}

// TestTopLevel: the names that the repository's top level may have, besides dotfiles.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	agreed := []string{"cmd", "jobs", "sources", "sinks", "config.example.yaml", "systemd", "Makefile", "go.mod", "go.sum", "README.md", "bin"}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(agreed, e.Name()) {
			t.Errorf("%s is outside the agreed top level", e.Name())
		}
	}
}
