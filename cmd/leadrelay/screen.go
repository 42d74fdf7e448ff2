package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A harmless writer lets nothing through that a terminal would obey but line breaks and tabs. Rows, CRMs and customers may
// hold escape sequences, and what is printed of them comes to an operator's terminal, perhaps by way of a pipe. Each
// Write must end where a character does.
type harmless struct {
	to   io.Writer
	json bool // what is written is JSON, which stays what it means
}

func (h harmless) Write(p []byte) (int, error) {
	form := `\u{%x}`
	if h.json {
		form = `\u%04x`
	}
	if _, err := io.WriteString(h.to, escaped(string(p), form)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// raw is the writer behind a harmless one, for what is our own: colours, progress, questions about the terminal.
func raw(w io.Writer) io.Writer {
	if h, ok := w.(harmless); ok {
		return h.to
	}
	return w
}

// escaped writes control characters, and those that turn the direction of what follows, by form.
func escaped(text, form string) string {
	obeyed := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
	}
	if !strings.ContainsFunc(text, obeyed) {
		return strings.ToValidUTF8(text, "\ufffd")
	}
	var b strings.Builder
	for _, r := range text { // what is no UTF-8 becomes U+FFFD
		if obeyed(r) {
			fmt.Fprintf(&b, form, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shown is a text that others wrote, in one line and in printable characters: in a table, a line break would begin a
// line of its own.
func shown(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n', r == '\r', r == '\t':
			b.WriteByte(' ')
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// printRow prints a line of a table, its texts as they are shown.
func printRow(t io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = shown(fmt.Sprint(cell))
	}
	fmt.Fprintln(t, strings.Join(texts, "\t"))
}
