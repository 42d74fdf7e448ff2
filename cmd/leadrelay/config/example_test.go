package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/sinks"
)

const examplePath = "../../../config.example.yaml"

func TestExampleLoads(t *testing.T) {
	c, err := Load(examplePath, options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(Env{}); err != nil {
		t.Errorf("the example needs secrets: %v", err)
	}
}

// TestExampleHasEveryKey: each key of the schema stands in the example, in its own mapping, if only in a comment.
func TestExampleHasEveryKey(t *testing.T) {
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	root, mistakes := readTree(examplePath, text)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	sections := map[string]string{"": string(text)}
	top := regexp.MustCompile(`(?m)^[a-z_]+:`).FindAllStringIndex(string(text), -1)
	for i, at := range top {
		end := len(text)
		if i+1 < len(top) {
			end = top[i+1][0]
		}
		sections[strings.TrimSuffix(string(text[at[0]:at[1]]), ":")] = string(text[at[0]:end])
	}
	for place, keys := range schema {
		name, _, _ := strings.Cut(strings.Replace(place, "[", ".", 1), ".")
		for _, key := range keys {
			pattern := `(?m)^[ #-]*` + key + `:`
			if place == "" {
				pattern = `(?m)^` + key + `:`
			}
			section := sections[name]
			if name == "dialects" { // shown in a comment above the key
				section, pattern = string(text), `(?m)^#   .*[ {]`+key+`:`
			}
			if place == "streams[].fields.*" {
				pattern = `\{` + key + `:`
			}
			if !regexp.MustCompile(pattern).MatchString(section) {
				t.Errorf("%s has no %s", place, key)
			}
		}
	}
	for _, p := range root.pairs {
		if !slices.Contains(schema[""], p.key.text) {
			t.Errorf("unknown key %s", p.key.text)
		}
	}
}

// TestExampleSaysTheDefaults: taking out everything with a default changes nothing, but for what the example's
// comments say is no default.
func TestExampleSaysTheDefaults(t *testing.T) {
	whole := mustResolve(t, mustParse(t, "/etc/leadrelay/config.yaml", readExample(t)), noEnv)
	least := mustResolve(t, mustParse(t, "/etc/leadrelay/config.yaml", `
source: sqlite:/var/lib/chatbots/chatbots.db
webhooks:
  - id: acme
    chatbot: 59001dd73709417321c58b11693183a2
    url: https://crm.example.com/hooks/leads
    types: [Lead, Appointment]
    schedule: "@hourly"
    timezone: Europe/Prague
admin: {listen: 127.0.0.1:8787}
`), noEnv)
	for i := range least.Streams {
		least.Streams[i].Optional = false
	}
	least.StreamsGiven = true
	uri := &least.Streams[1].Fields[6]
	uri.Column, uri.Const = "", "www.example.com"
	if diff := cmp.Diff(least, whole, plain, emptyIsNil); diff != "" {
		t.Errorf("defaults (-without +example):\n%s", diff)
	}
}

// TestExampleDialects: the dialects that the example shows in comments are good ones.
func TestExampleDialects(t *testing.T) {
	text := readExample(t)
	begin, end := strings.Index(text, "#   acme:"), strings.Index(text, "dialects: {}")
	if begin < 0 || end < begin {
		t.Fatal("the example shows no dialects")
	}
	shown := "dialects:\n"
	for line := range strings.Lines(text[begin:end]) {
		if inner, ok := strings.CutPrefix(line, "#   "); ok {
			shown += "  " + inner
		}
	}
	c := mustParse(t, "/etc/leadrelay/config.yaml", text[:end]+shown+text[end+len("dialects: {}"):])
	builtIn := len(sinks.BuiltIn().Names())
	if got := len(c.Dialects.Names()); got != builtIn+2 {
		t.Errorf("there are %d dialects, want two besides the %d built-in ones", got, builtIn)
	}
}

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
