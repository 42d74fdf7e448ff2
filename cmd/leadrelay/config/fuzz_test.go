package config

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
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
	for _, dialect := range []string{
		`{extends: smartsurvey, signature: {header: X-Acme, prefix: "sha256="}}`,
		`{body: {topic: event, "*": data, at: {time: unix}}, signature: {form: base64, header: X-Shop-Hmac}}`,
		`{body: {v: {const: 1.5}, n: {integer: count}, author: {object: author, always: [name], chatbot: id}, data: data}, time: unix-ms, times: [seen]}`,
		`{extends: userback, names: {types: {lead: Contact}, actions: {create: "ad\"ded"}}, headers: {X-Api: "2"}, retry_at: [], one_round: true}`,
	} {
		f.Add([]byte(smallestFile + "dialects:\n  acme: " + dialect + "\n"))
	}
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
		speaks(t, r.Dialects)
		for _, s := range r.Streams {
			if s.Type == "" || (s.Table == "") == (s.Query == "") || s.ID == "" || s.Chatbot == "" || s.CreatedZone == nil || s.Cursor == "" {
				t.Errorf("an accepted stream lacks something: %+v", s)
			}
		}
	})
}

// speaks holds the dialects that a file defines to what all of them owe: a body is JSON that JSON.stringify would print so,
// and whoever has the key verifies it; or the record is refused.
func speaks(t *testing.T, dialects *sinks.Registry) {
	if len(dialects.Names()) == len(sinks.BuiltIn().Names()) {
		return
	}
	sink, err := sinks.New(sinks.Options{Dialects: dialects})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	rec := jobs.Record{
		Type: "Lead", Chatbot: "bot \"\u2028", Created: time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC), Action: jobs.ActionUpdate, Version: "2024-05-07T00:00:00Z",
		Fields: []jobs.Field{
			{Name: "email", Value: "z@example.com\xff"},
			{Name: "count", Value: "12.0"},
			{Name: "author.name", Value: nil},
			{Name: "seen", Value: "2024-05-06 00:00:00"},
			{Name: "tags", Value: jobs.JSON(`[ 1.0, {"b": 0, "1": "\u2028"} ]`)},
			{Name: "score", Value: 1e21},
			{Name: "7", Value: true},
		},
	}
	now := time.Unix(1700000000, 0)
	for _, name := range dialects.Names() {
		w := jobs.Webhook{ID: "a", URL: "https://a.example/", Dialect: name}
		if d, _ := dialects.Lookup(name); d.Signed {
			w.SignKey = dialects.NewKey(name)
		}
		body, err := sink.Encode(&w, &rec, rec.Created)
		if errors.Is(err, jobs.ErrEncode) {
			continue
		}
		if err != nil {
			t.Fatalf("dialect %s: %v", name, err)
		}
		again, err := jsontext.AppendFormat(nil, body, jsontext.CanonicalizeRawFloats(true), jsontext.CanonicalizeRawInts(true))
		if err != nil || string(again) != string(body) {
			t.Fatalf("dialect %s: %s should be %s (%v)", name, body, again, err)
		}
		request, err := sink.Request(&w, uuid.Nil, body, now)
		if err != nil {
			t.Fatalf("dialect %s: %v", name, err)
		}
		if w.SignKey != "" {
			if err := dialects.Verify(name, request.Header, body, []jobs.Secret{w.SignKey}, now, time.Minute); err != nil {
				t.Fatalf("dialect %s: %v", name, err)
			}
		}
	}
}

// FuzzReadWebhook: a webhook that comes over the API is the one that the file would have, where both take it; its secrets
// are in no mistake.
func FuzzReadWebhook(f *testing.F) {
	for _, doc := range []string{
		`{"chatbot":"bot","url":"https://crm.example.com/x"}`, `{"chatbot":["a","b"],"url":"https://a.example/?hunter22222","retry_at":["1m","3m"],"rate":"5/s"}`,
		`{"chatbot":"*","url":"https://a.example/","ack":{"path":"a.b","equals":[true,1.5,"x"]},"headers":{"X-Key":"hunter22222"},"from":"2026-01-31T00:00:00Z"}`,
		`{"chatbot":12,"url":"https://a.example/","types":["Lead"],"dialect":"smartlook","sign_key":"hunter22222","schedule":"0 6 * * *","timezone":"Europe/Prague","immediate":true}`,
		`{"chatbot":null,"url":{},"id":"x y","description":"\u2028 ${A}","retry_at":[],"ack":["success"],"sign_key_of":"other"}`,
	} {
		f.Add([]byte(doc))
	}
	c, err := Parse("/srv/c.yaml", []byte(smallestFile), Options{})
	if err != nil {
		f.Fatal(err)
	}
	settings, err := c.Resolve(*testEnv())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var doc map[string]any
		if json.Unmarshal(text, &doc) != nil {
			return
		}
		got, mistakes := settings.ReadWebhook(doc, Options{})
		for _, m := range mistakes {
			if strings.ContainsAny(m.Error(), "\n\r") || !utf8.ValidString(m.Error()) {
				t.Fatalf("%q is no line", m.Error())
			}
			for _, key := range []string{"sign_key", "url"} {
				if secret, ok := doc[key].(string); ok && len(secret) > 10 && strings.Contains(m.Error(), secret) && !names(doc, secret, key) {
					t.Fatalf("%s is shown: %v", key, m)
				}
			}
		}
		line, err := json.Marshal(doc)
		if len(mistakes) > 0 || err != nil || strings.Contains(string(line), "$") {
			return
		}
		file, err := Parse("/srv/c.yaml", []byte(strings.Replace(smallestFile, "webhooks:\n", "webhooks:\n  - "+string(line)+"\n", 1)), Options{})
		if err != nil {
			return // such as two of an id
		}
		resolved, err := file.Resolve(*testEnv())
		if err != nil {
			return
		}
		want := resolved.Webhooks[0]
		got.Origin = want.Origin
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-as in the file +got):\n%s", line, diff)
		}
	})
}

// names reports whether a text stands elsewhere in a document than in one value, where it may be shown.
func names(doc map[string]any, text, but string) bool {
	rest := maps.Clone(doc)
	delete(rest, but)
	all, _ := json.Marshal(rest)
	inside, _ := json.Marshal(text)
	return strings.Contains(string(all), strings.Trim(string(inside), `"`))
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
