package config

import (
	"fmt"
	"slices"
	"strings"
)

// maxMistakes is how many are listed; a file of another kind would give thousands.
const maxMistakes = 100

// A Mistake is one thing wrong with a configuration, in one line.
type Mistake struct {
	File string // as the caller called it
	Line int    // from 1
	Col  int    // from 1, in characters
	Path string // of the key, such as webhooks[1].retry_at[0]; "" for the file itself
	Text string // what is wrong and what to write
}

func (m Mistake) Error() string {
	if m.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Col, m.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", m.File, m.Line, m.Col, m.Path, m.Text)
}

// Mistakes are all that is wrong with a configuration, in the file's order; Error gives a line for each.
type Mistakes []Mistake

func (m Mistakes) Error() string {
	lines := make([]string, 0, len(m))
	for i, one := range m {
		if i == maxMistakes {
			lines = append(lines, fmt.Sprintf("%s: and %d more", one.File, len(m)-i))
			break
		}
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each Mistake as an error.
func (m Mistakes) Unwrap() []error {
	all := make([]error, len(m))
	for i := range m {
		all[i] = m[i]
	}
	return all
}

// sorted puts them in the file's order. A value that is used in several places through an alias has each of its
// mistakes once.
func (m Mistakes) sorted() Mistakes {
	slices.SortStableFunc(m, func(a, b Mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	type spot struct {
		line, col int
		text      string
	}
	seen := make(map[spot]bool, len(m))
	return slices.DeleteFunc(m, func(one Mistake) bool {
		at := spot{one.Line, one.Col, one.Text}
		again := seen[at]
		seen[at] = true
		return again
	})
}
