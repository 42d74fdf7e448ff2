package sinks

import (
	"bytes"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxWord     = 80  // runes of an answer's status word that are kept
	maskWindow  = 512 // runes of it that are looked at
	shortValue  = 3   // runes; a shorter value of the record is masked where it stands alone, not inside a word
	minToken    = 4   // runes; parts of a value at least this long are masked by themselves
	minDigits   = 5   // digits in a row that, punctuation aside, a value of the record also has
	maskedRunes = "…"
)

// mask makes an answer's status word fit to be kept: bounded, printable, and with every value of the record that was
// sent (the strings and numbers of body, but for the public top-level members) blotted out, whole or in part, in
// whatever case; so is everything with an @ in it. It rather blots out a harmless word than keep a name.
func mask(word string, body []byte, public []string) string {
	runes := []rune(word)
	if len(runes) > maskWindow {
		runes = runes[:maskWindow]
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = ' '
		}
	}
	m := masker{runes: runes, folded: fold(runes), hidden: make([]bool, len(runes))}
	for _, value := range values(body, public) {
		m.hideValue(value)
	}
	m.hideMails()
	return m.String()
}

type masker struct {
	runes, folded []rune
	hidden        []bool
}

// fold makes what is compared alike in case and in what is not printed.
func fold(runes []rune) []rune {
	folded := make([]rune, len(runes))
	for i, r := range runes {
		if folded[i] = ' '; unicode.IsPrint(r) {
			folded[i] = unicode.ToLower(unicode.ToUpper(r))
		}
	}
	return folded
}

func (m *masker) hideValue(value string) {
	folded := fold([]rune(value))
	m.hide(trimSpace(folded), len(folded) < shortValue)
	start := -1
	for i := 0; i <= len(folded); i++ {
		if i < len(folded) && wordRune(folded[i]) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 && i-start >= minToken {
			m.hide(folded[start:i], false)
		}
		start = -1
	}
	m.hideDigits(digits(folded))
}

func trimSpace(runes []rune) []rune {
	for len(runes) > 0 && unicode.IsSpace(runes[0]) {
		runes = runes[1:]
	}
	for len(runes) > 0 && unicode.IsSpace(runes[len(runes)-1]) {
		runes = runes[:len(runes)-1]
	}
	return runes
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

// hide blots out every occurrence of part; alone: only where it is no part of a longer word.
func (m *masker) hide(part []rune, alone bool) {
	if len(part) == 0 || len(part) > len(m.folded) {
		return
	}
	for i := 0; i+len(part) <= len(m.folded); i++ {
		if m.folded[i] != part[0] || !slices.Equal(m.folded[i:i+len(part)], part) {
			continue
		}
		end := i + len(part)
		if alone && (i > 0 && wordRune(m.folded[i-1]) || end < len(m.folded) && wordRune(m.folded[end])) {
			continue
		}
		for j := i; j < end; j++ {
			m.hidden[j] = true
		}
	}
}

// digits are the decimal digits of a value: CRMs answer phone numbers in their own punctuation.
func digits(runes []rune) string {
	var b strings.Builder
	for _, r := range runes {
		if r >= '0' && r <= '9' {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hideDigits blots out runs of digits, with single punctuation between them, that a value has too.
func (m *masker) hideDigits(value string) {
	if len(value) < minDigits {
		return
	}
	for i := 0; i < len(m.runes); i++ {
		if !isDigit(m.runes[i]) {
			continue
		}
		run, end := []rune{m.runes[i]}, i+1
		for j := i + 1; j < len(m.runes) && j-end < 3; j++ {
			if isDigit(m.runes[j]) {
				run, end = append(run, m.runes[j]), j+1
			} else if !strings.ContainsRune(" -./()+", m.runes[j]) {
				break
			}
		}
		if len(run) >= minDigits && (strings.Contains(value, string(run)) || strings.Contains(string(run), value)) {
			for j := i; j < end; j++ {
				m.hidden[j] = true
			}
		}
		i = end - 1
	}
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// hideMails blots out what has an @ in it, up to the next space on either side.
func (m *masker) hideMails() {
	for i := 0; i < len(m.runes); i++ {
		if m.runes[i] != '@' {
			continue
		}
		for j := i; j >= 0 && !unicode.IsSpace(m.runes[j]); j-- {
			m.hidden[j] = true
		}
		for ; i < len(m.runes) && !unicode.IsSpace(m.runes[i]); i++ {
			m.hidden[i] = true
		}
	}
}

func (m *masker) String() string {
	var b strings.Builder
	for i, r := range m.runes {
		switch {
		case i >= maxWord:
			if !m.hidden[i-1] {
				b.WriteString(maskedRunes)
			}
			return b.String()
		case m.hidden[i]:
			if i == 0 || !m.hidden[i-1] {
				b.WriteString(maskedRunes)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// values are the texts and numbers of a body that we encoded ourselves.
func values(body []byte, public []string) []string {
	var all []string
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	name := ""
	for {
		token, err := d.ReadToken()
		if err != nil {
			return all // the end: what we encoded has no faults
		}
		kind, length := d.StackIndex(d.StackDepth())
		member := kind == '{' && length%2 == 1
		switch token.Kind() {
		case '"', '0':
			switch {
			case member && token.Kind() == '"':
				if d.StackDepth() == 1 {
					name = token.String()
				}
			case d.StackDepth() == 1 && slices.Contains(public, name):
			default:
				all = append(all, token.String())
			}
		}
	}
}
