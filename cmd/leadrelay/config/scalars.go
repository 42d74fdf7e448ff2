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

	"github.com/leadrelay/leadrelay/jobs"
)

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

func (v value) size(otherwise, least, most int) int {
	if !v.given() {
		return otherwise
	}
	n, ok := measure[int]{"size", "small", "large", "512KiB, 5MiB", jobs.ParseSize, jobs.SpellSize}.read(v, least, most)
	if !ok {
		return otherwise
	}
	return n
}

// span is a duration that must be there.
func (v value) span(least, most time.Duration) (time.Duration, bool) {
	return measure[time.Duration]{"duration", "short", "long", "90s, 1m, 3h", jobs.ParseDuration, jobs.SpellDuration}.read(v, least, most)
}

// A measure is a number with a unit: its name, what one is that is less or more than it may be, and examples.
type measure[T int | time.Duration] struct {
	name, little, much, examples string
	parse                        func(string) (T, bool)
	spell                        func(T) string
}

func (m measure[T]) read(v value, least, most T) (n T, ok bool) {
	s, ok := v.plain("a " + m.name + ", such as " + m.examples)
	if !ok {
		return 0, false
	}
	n, ok = m.parse(s)
	switch {
	case !ok && digits.MatchString(s):
		v.fail("%s has no unit; write %s", v.show(), m.examples)
	case !ok:
		v.fail("%s is no %s; write %s", v.show(), m.name, m.examples)
	case n < least:
		v.fail("%s is too %s; write %s or more", v.show(), m.little, m.spell(least))
	case n > most:
		v.fail("%s is too %s; write %s or less", v.show(), m.much, m.spell(most))
	default:
		return n, true
	}
	return 0, false
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
