package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A decoder walks a tree and collects what is wrong with it.
type decoder struct {
	file string // as the caller called it
	abs  string // its absolute path
	opts Options

	env  *Env     // nil: references stay as they are written
	only []string // top-level keys whose references are expanded; none: all

	mistakes Mistakes
}

func (d *decoder) err() error {
	if len(d.mistakes) == 0 {
		return nil
	}
	return d.mistakes.sorted()
}

// besides is a path of the file as it is if absolute, else in the configuration's folder.
func (d *decoder) besides(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.abs), path)
}

// A value is what stands at a path, or could.
type value struct {
	d      *decoder
	path   string
	root   string // the top-level key it is under
	n      *node  // nil where it was left out
	line   int    // of the value; where left out, of what it is missing from
	col    int
	secret bool // its text is never shown
}

func (v value) fail(format string, args ...any) {
	v.d.mistakes = append(v.d.mistakes, Mistake{
		File: v.d.file, Line: v.line, Col: v.col, Path: v.path, Text: fmt.Sprintf(format, args...),
	})
}

func (v value) given() bool { return v.n != nil }

// hidden marks a value whose text is a secret.
func (v value) hidden() value {
	v.secret = true
	return v
}

// show is the value as it may be shown: as written, so never what a reference stands for.
func (v value) show() string {
	if v.secret || v.n == nil || v.n.kind != scalar {
		return "this"
	}
	return quote(v.n.text)
}

// quote shows a text in one line, and only its beginning.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// printable is a text without what would disturb a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// is says what kind of thing stands there instead of what is wanted.
func (v value) is(wanted string) {
	switch v.n.kind {
	case null:
		v.fail("has no value; write %s", wanted)
	case list:
		v.fail("is a list; write %s", wanted)
	case mapping:
		v.fail("is a mapping; write %s", wanted)
	case scalar:
		v.fail("is a single value; write %s", wanted)
	}
}

// require reports a value that was left out.
func (v value) require(what string) bool {
	if !v.given() {
		v.fail("is missing; %s", what)
	}
	return v.given()
}

// list gives a value's entries.
func (v value) list(wanted string) (entries []value, ok bool) {
	if v.n.kind != list {
		v.is(wanted)
		return nil, false
	}
	for i, n := range v.n.items {
		entries = append(entries, value{
			d: v.d, path: fmt.Sprintf("%s[%d]", v.path, i), root: v.root, n: n, line: n.line, col: n.col, secret: v.secret,
		})
	}
	return entries, true
}

// An entry is a key with its value, in a mapping whose keys are the operator's.
type entry struct {
	name string
	key  value // for mistakes of the key itself
	value
}

// twice reports a key that was given before in a line, or in no line where it stands in no file.
func (v value) twice(line int, why string) {
	if line == 0 {
		v.fail("is given twice%s", why)
		return
	}
	v.fail("is given twice; the first is in line %d%s", line, why)
}

// entries gives a mapping's keys in the file's order, doubled ones reported and left out.
func (v value) entries(wanted string) (all []entry, ok bool) {
	if v.n.kind != mapping {
		v.is(wanted)
		return nil, false
	}
	first := map[string]int{}
	for _, p := range v.n.pairs {
		path := keyPath(v.path, p.key.text)
		root := v.root
		if v.path == "" {
			root = p.key.text
		}
		key := value{d: v.d, path: path, root: root, n: p.key, line: p.key.line, col: p.key.col}
		if line, twice := first[p.key.text]; twice {
			key.twice(line, "")
			continue
		}
		first[p.key.text] = p.key.line
		e := entry{name: p.key.text, key: key, value: key}
		e.value.n, e.value.line, e.value.col, e.value.secret = p.value, p.value.line, p.value.col, v.secret
		all = append(all, e)
	}
	return all, true
}

var showable = regexp.MustCompile(`^[\pL_][\pL\pN_.-]{0,31}$`)

// keyPath is the path of a key. A key that looks like no name may be a secret that lost its place: it is not shown.
func keyPath(path, key string) string {
	if !showable.MatchString(key) {
		key = "…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields are the values of a mapping whose keys are in the schema.
type fields struct {
	of    value
	kind  string
	known map[string]value
}

// fields reads a mapping of this kind of the schema; what is no mapping was reported, and is as one without keys.
func (v value) fields(kind string) (fields, bool) {
	f := fields{of: v, kind: kind, known: map[string]value{}}
	if v.n.kind == broken {
		return f, false
	}
	all, ok := v.entries("KEY: VALUE lines, such as " + schema[kind][0] + ": …")
	var guesses []entry
	for _, e := range all {
		if slices.Contains(schema[kind], e.name) {
			f.known[e.name] = e.value
			continue
		}
		text := "unknown key"
		if len(v.d.mistakes) <= maxMistakes { // else it is not shown: spare the search
			place, meant := elsewhere(e.name, kind), near(e.name, schema[kind])
			switch {
			case place != "" && (meant == "" || !strings.HasPrefix(kind, inDialect)):
				text += "; it belongs to " + place
			case meant != "":
				text += "; did you mean " + meant + "?"
				guesses = append(guesses, entry{name: meant, value: e.value})
			}
		}
		e.key.fail("%s", text)
	}
	for _, g := range guesses { // judged as what was meant, so that it is not missed too
		if _, given := f.known[g.name]; !given {
			g.value.root = f.root(g.name)
			f.known[g.name] = g.value
		}
	}
	return f, ok
}

// at is the value of a key, given or not.
func (f fields) at(key string) value {
	if !slices.Contains(schema[f.kind], key) {
		panic("config: " + f.kind + " has no key " + key + " in the schema")
	}
	if v, ok := f.known[key]; ok {
		return v
	}
	return value{d: f.of.d, path: keyPath(f.of.path, key), root: f.root(key), line: f.of.line, col: f.of.col}
}

func (f fields) root(key string) string {
	if f.of.path == "" {
		return key
	}
	return f.of.root
}
