package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what mistakes are found into testdata")

// canary is part of every secret in testdata: no mistake may show it.
const canary = "hunter2"

// mistakesOf gives the lines for a file; with references they are what Resolve says too.
func mistakesOf(text []byte, env *Env) string {
	c, err := Parse("c.yaml", text, options())
	if err == nil && env != nil {
		_, err = c.Resolve(*env)
	}
	if err == nil {
		return ""
	}
	dir, _ := os.Getwd()
	return strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
}

// TestMistakes judges every NAME.yaml of testdata/*.txtar by its NAME.want.
func TestMistakes(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	cases := 0
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var env *Env
		if filepath.Base(path) == "resolve.txtar" {
			env = testEnv()
		}
		var updated []txtar.File
		for i, f := range a.Files {
			name, isCase := strings.CutSuffix(f.Name, ".yaml")
			if !isCase {
				continue
			}
			cases++
			got := mistakesOf(f.Data, env)
			updated = append(updated, f, txtar.File{Name: name + ".want", Data: []byte(got)})
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar")+"/"+name, func(t *testing.T) {
				if strings.Contains(got, canary) {
					t.Errorf("a secret is shown:\n%s", got)
				}
				if got == "" {
					t.Error("no mistake was found")
				}
				if *update {
					return
				}
				if i+1 == len(a.Files) || a.Files[i+1].Name != name+".want" {
					t.Fatalf("no %s.want after it; got\n%s", name, got)
				}
				if diff := cmp.Diff(string(a.Files[i+1].Data), got); diff != "" {
					t.Errorf("mistakes (-want +got):\n%s", diff)
				}
			})
		}
		if *update {
			a.Files = updated
			if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cases < 60 {
		t.Errorf("only %d cases", cases)
	}
}

// TestUnprintable are files that an archive of texts cannot hold.
func TestUnprintable(t *testing.T) {
	deep := strings.Repeat
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "c.yaml:1:1: the file is empty; the smallest configuration is " + smallest},
		{"a byte order mark alone", "\ufeff", "c.yaml:1:1: the file is empty; the smallest configuration is " + smallest},
		{"UTF-16", "\xff\xfes\x00o\x00", "c.yaml:1:1: the text is not UTF-8; save the file as UTF-8"},
		{"Latin-1", "source: x\ndescription: caf\xe9\n", "c.yaml:2:17: the text is not UTF-8; save the file as UTF-8"},
		{"a NUL", "source: a\x00b\n", `c.yaml:1:10: a control character (U+0000); in a text in double quotes it is written \x00`},
		{"an old Mac's lines", "source: a\rledger: b\r", "c.yaml:1:10: a carriage return inside a line; save the file with line feeds"},
		{"a tab to indent", "push:\n\tworkers: 1\n", "c.yaml:2:2: a tab cannot indent; use spaces"},
		{"a tab after a colon", "source: sqlite:a\nwebhooks:\t1\n", `c.yaml:2:11: webhooks: is a single value; write a list of webhooks, such as [{chatbot: "CHATBOT_ID", url: "https://crm.example.com/hook"}]`},
		{"too large", deep("# x\n", maxFile/4+1), "c.yaml:1:1: the file is larger than 4 MiB; this is no configuration"},
		{"deep lists", "source: " + deep("[", 100_000), "c.yaml:1:41: nested too deep"},
		{"deep mappings", deep("{a: ", 100_000), "c.yaml:1:129: nested too deep"},
		{"deep dashes", deep("- ", 100_000) + "a\n", "c.yaml:1:201: indented too far"},
		{"deep keys", staircase(1000), "c.yaml:201:201: indented too far"},
		{"question marks", deep("? ", 100_000), "c.yaml:1:1: keys with ? are not taken; write KEY: VALUE"},
		{"tags", deep("!a ", 100_000), "c.yaml:1:1: YAML tags (!) are not taken; quote a text that begins with !"},
		{"many keys", deep("a: b\n", 100_000), "c.yaml:1001:1: more than 1000 keys in one mapping"},
		{"many entries", deep("- a\n", 200_000), "c.yaml:100001:1: more than 100000 entries in one list"},
		{"many anchors", "a: [" + deep("&x y, ", 100_000) + "]", "c.yaml:1:6005: more than 1000 anchors and aliases"},
		{
			"aliases of aliases", "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n" +
				"c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n" +
				"e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
			"c.yaml:6:4: too many values (what an alias stands for counts at each use)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := mistakesOf([]byte(c.text), nil)
			got, _, _ := strings.Cut(lines, "\n")
			if !strings.Contains("\n"+lines, "\n"+c.want+"\n") {
				t.Errorf("mistakes begin\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestMistakesAreErrors(t *testing.T) {
	_, err := Parse("c.yaml", []byte("a: 1\nb: 2\n"), options())
	var all Mistakes
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("error is %v", err)
	}
	var one Mistake
	if !errors.As(err, &one) || one.Line != 1 || one.Col != 1 {
		t.Errorf("first mistake is %+v", one)
	}
}

func TestManyMistakesAreCut(t *testing.T) {
	text := bytes.NewBufferString("source: sqlite:a\nwebhooks:\n")
	for range 1000 {
		text.WriteString("  - x\n")
	}
	got := strings.Split(strings.TrimSpace(mistakesOf(text.Bytes(), nil)), "\n")
	if len(got) != maxMistakes+1 || got[maxMistakes] != "c.yaml: and 900 more" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}
