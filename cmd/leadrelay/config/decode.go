package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
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

// text is a string value. settled means that it is given and is what it will be: check it. It is not settled where it
// was left out, is wrong (which was reported), or has references that are not expanded now; then s is as written.
func (v value) text(wanted string) (s string, settled bool) {
	return v.expanded(wanted, false)
}

func (v value) expanded(wanted string, databaseURL bool) (s string, settled bool) {
	if v.n == nil {
		return "", false
	}
	if v.n.kind != scalar {
		v.is(wanted)
		return "", false
	}
	pieces, found, err := references(v.n.text)
	if err != nil {
		v.fail("%v", err)
		return "", false
	}
	if found && !v.expands() {
		return v.n.text, false
	}
	var out strings.Builder
	missing := false
	for i, p := range pieces {
		if !p.reference() {
			out.WriteString(p.literal)
			continue
		}
		meant, err := v.d.env.lookUp(p, filepath.Dir(v.d.abs))
		if err != nil {
			v.fail("%v", err)
			missing = true
		}
		if databaseURL && inPassword(pieces, i) {
			meant = encodePassword(meant)
		}
		out.WriteString(meant)
	}
	if missing {
		return "", false
	}
	if found && strings.TrimSpace(out.String()) == "" {
		v.fail("is empty once its references are expanded")
		return "", false
	}
	return out.String(), true
}

func (v value) expands() bool {
	return v.d.env != nil && (len(v.d.only) == 0 || slices.Contains(v.d.only, v.root))
}

// word is a text that may not be empty nor hold control characters.
func (v value) word(wanted string) (s string, settled bool) {
	s, settled = v.text(wanted)
	switch {
	case !settled:
	case s == "":
		v.fail("is empty; write %s", wanted)
	case strings.ContainsFunc(s, unicode.IsControl):
		v.fail("holds a line break or another control character; write %s", wanted)
	default:
		return s, true
	}
	return s, false
}

// oneOf is one of a few words.
func (v value) oneOf(known []string, otherwise, what string) (s string, settled bool) {
	if !v.given() {
		return otherwise, true
	}
	s, settled = v.text("one of " + strings.Join(known, ", "))
	if settled && !slices.Contains(known, s) {
		v.fail("%s is no %s; %s", v.show(), what, choose(s, known, v))
		return s, false
	}
	return s, settled
}

// choose words what to write in place of an unknown word.
func choose(word string, known []string, v value) string {
	if meant := near(word, known); meant != "" && !strings.Contains(v.n.text, "${") {
		return "did you mean " + meant + "?"
	}
	return "write one of " + strings.Join(known, ", ")
}

// plain is the text of a value that is no string: references are not for it.
func (v value) plain(wanted string) (s string, ok bool) {
	if v.n.kind != scalar {
		v.is(wanted)
		return "", false
	}
	if strings.Contains(v.n.text, "${") {
		v.fail("${…} is expanded in texts only; write %s", wanted)
		return "", false
	}
	return v.n.text, true
}

func (v value) bool(otherwise bool) bool {
	if !v.given() {
		return otherwise
	}
	s, ok := v.plain("true or false")
	if !ok {
		return otherwise
	}
	if v.n.plain {
		switch s {
		case "true", "True", "TRUE":
			return true
		case "false", "False", "FALSE":
			return false
		}
	}
	if v.n.plain {
		v.fail("%s is neither true nor false", v.show())
	} else {
		v.fail("is a text in quotes; write true or false without them")
	}
	return otherwise
}

var digits = regexp.MustCompile(`^[0-9]{1,9}$`)

func (v value) int(otherwise, least, most int) int {
	if !v.given() {
		return otherwise
	}
	wanted := fmt.Sprintf("a whole number from %d to %d", least, most)
	s, ok := v.plain(wanted)
	if !ok {
		return otherwise
	}
	if !v.n.plain {
		v.fail("is a text in quotes; write %s without them", wanted)
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if !digits.MatchString(s) || err != nil || n < least || n > most {
		v.fail("%s is not %s", v.show(), wanted)
		return otherwise
	}
	return n
}

func (v value) duration(otherwise, least, most time.Duration) time.Duration {
	if !v.given() {
		return otherwise
	}
	d, ok := v.span(least, most)
	if !ok {
		return otherwise
	}
	return d
}

// span is a duration that must be there.
func (v value) span(least, most time.Duration) (time.Duration, bool) {
	const examples = "90s, 1m, 3h"
	s, ok := v.plain("a duration, such as " + examples)
	if !ok {
		return 0, false
	}
	d, ok := parseDuration(s)
	switch {
	case !ok && digits.MatchString(s):
		v.fail("%s has no unit; write %s", v.show(), examples)
	case !ok:
		v.fail("%s is no duration; write %s", v.show(), examples)
	case d < least:
		v.fail("%s is too short; write %s or more", v.show(), spell(least))
	case d > most:
		v.fail("%s is too long; write %s or less", v.show(), spell(most))
	default:
		return d, true
	}
	return 0, false
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

// An item is an entry of a list of words, as value.word gave it.
type item struct {
	value
	word    string
	settled bool
}

// words is a list of words, the same one twice reported and left out. It is settled if each of them is.
func (v value) words(wanted, each string) (items []item, settled bool) {
	entries, ok := v.list(wanted)
	if !ok {
		return nil, false
	}
	settled = true
	first := map[string]int{}
	for i, e := range entries {
		s, ok := e.word(each)
		settled = settled && ok
		if ok {
			if at, twice := first[s]; twice {
				e.fail("%s is %s[%d] already", e.show(), v.path, at)
				settled = false
				continue
			}
			first[s] = i
		}
		items = append(items, item{e, s, ok})
	}
	return items, settled
}

func texts(items []item) []string {
	all := make([]string, len(items))
	for i, one := range items {
		all[i] = one.word
	}
	return all
}

// An entry is a key with its value, in a mapping whose keys are the operator's.
type entry struct {
	name string
	key  value // for mistakes of the key itself
	value
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
			key.fail("is given twice; the first is in line %d", line)
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
		if len(v.d.mistakes) > maxMistakes { // not shown: spare the search
		} else if place := elsewhere(e.name, kind); place != "" {
			text += "; it belongs to " + place
		} else if meant := near(e.name, schema[kind]); meant != "" {
			text += "; did you mean " + meant + "?"
			guesses = append(guesses, entry{name: meant, value: e.value})
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
