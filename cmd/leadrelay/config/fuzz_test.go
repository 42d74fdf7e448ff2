package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

// FuzzParse: no bytes make it panic, mistakes lie within the file and are lines, and no secret is in one.
func FuzzParse(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, ".yaml") {
				f.Add(file.Data)
			}
		}
	}
	if text, err := os.ReadFile(examplePath); err == nil {
		f.Add(text)
	}
	f.Add([]byte(smallestFile))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		judge := func(err error) {
			var all Mistakes
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("error is no mistakes: %v", err)
			}
			for _, m := range all {
				if m.Line < 1 || m.Line > len(lines) || m.Col < 1 || m.Col > utf8.RuneCountInString(lines[m.Line-1])+1 {
					t.Errorf("%v lies outside the file", m)
				}
				if text := m.Error(); strings.ContainsAny(text, "\n\r") || !utf8.ValidString(text) || m.Text == "" {
					t.Errorf("%q is no line", text)
				}
			}
		}
		c, err := Parse("/srv/c.yaml", data, options())
		if err != nil {
			judge(err)
			return
		}
		r, err := c.Resolve(*testEnv())
		if err != nil {
			judge(err)
			return
		}
		for _, w := range r.Webhooks {
			if w.ID == "" || len(w.Chatbots) == 0 || w.URL == "" || w.Dialect == "" || w.Schedule == "" || w.Timezone == "" || w.From == "" || len(w.Ack) == 0 {
				t.Errorf("an accepted webhook lacks something: %+v", w)
			}
		}
		for _, s := range r.Streams {
			if s.Type == "" || (s.Table == "") == (s.Query == "") || s.ID == "" || s.Chatbot == "" || s.CreatedZone == nil || s.Cursor == "" {
				t.Errorf("an accepted stream lacks something: %+v", s)
			}
		}
	})
}

// FuzzReferences: what is no reference stays as it is, and the text can be put together again.
func FuzzReferences(f *testing.F) {
	for _, text := range []string{"", "a", "${A}", "$${A}", "${file:/a b}", "$$$${A}${", "a${B}c$"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pieces, _, err := references(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, p := range pieces {
			switch {
			case p.file != "":
				b.WriteString("${file:" + p.file + "}")
			case p.name != "":
				b.WriteString("${" + p.name + "}")
			default:
				b.WriteString(strings.ReplaceAll(p.literal, "${", "$${"))
			}
		}
		if b.String() != text {
			t.Errorf("%q came back as %q", text, b.String())
		}
	})
}

// TestTextsAreTheirSource: a string key has the text that stands in the file, whatever YAML would make of it.
func TestTextsAreTheirSource(t *testing.T) {
	words := rapid.OneOf(
		rapid.StringMatching(`[0-9A-Za-z][0-9A-Za-z_.+:/=~-]{0,20}[0-9A-Za-z]`),
		rapid.StringMatching(`[0-9A-Za-zäßπ語😀][0-9A-Za-zäßπ語😀 ,.()'"@*&!%|>?-]{0,20}[0-9A-Za-z]`),
		rapid.StringMatching(`0[0-9_]{1,12}|0[xob][0-9a-f]{1,8}|[+-]?[0-9]{1,25}|[0-9]{1,4}[.][0-9]{1,4}([eE][+-]?[0-9]{1,3})?|[.](inf|nan)`),
		rapid.SampledFrom([]string{
			"yes", "no", "on", "off", "true", "False", "y", "n", "2001-12-14t21:59:43.10-05:00", "12:30:45", "1e3", "0o14", "<<", "=",
			"59001dd73709417321c58b11693183a2", "1.0", "-0", "+1", "1_000", ".5", "5.", "0x1F", "NULLs", "nullable",
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		word := words.Draw(t, "word")
		for _, form := range []struct{ name, written string }{
			{"plain", word},
			{"single quotes", "'" + strings.ReplaceAll(word, "'", "''") + "'"},
			{"double quotes", `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`},
			{"literal", "|-\n      " + word},
		} {
			if form.name == "plain" && !plainForm(word) {
				continue
			}
			for _, text := range []string{
				"    description: " + form.written + "\n",
				"    description: " + form.written + " # a comment\n",
				"    description:    " + form.written + "\r\n",
				"    description: " + form.written + "\n    immediate: true\n",
				"    description: &a " + form.written + "\n",
			} {
				if form.name == "literal" && strings.Contains(text, "#") {
					continue
				}
				c, err := Parse("c.yaml", []byte(smallestFile+text), Options{})
				if err != nil {
					t.Fatalf("%s, %q: %v", form.name, text, err)
				}
				if got := c.Webhooks[0].Description; got != word {
					t.Fatalf("%s, %q: %q, want %q", form.name, text, got, word)
				}
			}
		}
	})
}

// plainForm reports whether YAML lets a text stand without quotes.
func plainForm(word string) bool {
	switch word {
	case "null", "Null", "NULL", "~":
		return false // no value
	}
	return !strings.Contains(word, ": ") && !strings.Contains(word, " #") && !strings.HasSuffix(word, ":")
}

// TestPlaces: a mistake in a value is at the value, however it is laid out.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pad := rapid.SampledFrom([]string{"", "# comment\n", "\n", "\r\n", "# ünïcödé 😀\n", "description_of: x # y\n"}).Draw(t, "pad")
		gap := rapid.SampledFrom([]string{" ", "   ", "\t", " \t "}).Draw(t, "gap")
		value := rapid.SampledFrom([]string{"soon", `"soon"`, "'soon'", "[1]", "{a: b}", "1w", "~"}).Draw(t, "value")
		before := pad + smallestFile + pad + "    retry_at: [1m]\n    description: |\n      two\n      ünes\n    immediate: false\n"
		if strings.HasPrefix(pad, "desc") {
			before = strings.ReplaceAll(before, pad, "")
		}
		_, err := Parse("c.yaml", []byte(before+"retention:"+gap+value+"\n"), Options{})
		var one Mistake
		if !errors.As(err, &one) {
			t.Fatalf("no mistake: %v", err)
		}
		line, col := strings.Count(before, "\n")+1, len("retention:"+gap)+1
		if one.Path != "retention" || one.Line != line || one.Col != col {
			t.Fatalf("%v, want it at %d:%d", one, line, col)
		}
	})
}
