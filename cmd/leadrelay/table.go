package main

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A column of a table that is made to fit.
type column struct {
	name     string
	cell     func(*webhookReport) string
	turn     int  // when it gives way in a table that is too wide, the lowest first; 0: never
	shortest int  // it is cut in the middle to this many characters before it goes; 0: it is not cut
	stays    bool // it is cut, and never goes
	zero     bool // with no number in it but 0 it goes before all others
}

type table struct {
	columns []column
	cells   [][]string // by column
}

func tableOf(columns []column, rows []webhookReport) *table {
	t := &table{columns: columns, cells: make([][]string, len(columns))}
	for i, c := range columns {
		for j := range rows {
			t.cells[i] = append(t.cells[i], shown(c.cell(&rows[j])))
		}
	}
	return t
}

const between = "  "

func (t *table) columnWidth(i int) int {
	width := utf8.RuneCountInString(t.columns[i].name)
	for _, cell := range t.cells[i] {
		width = max(width, utf8.RuneCountInString(cell))
	}
	return width
}

func (t *table) width() int {
	width := len(between) * (len(t.columns) - 1)
	for i := range t.columns {
		width += t.columnWidth(i)
	}
	return width
}

// fit makes the table at most this wide, as far as that goes, and names the columns that held something and had to go;
// 0: any width will do.
func (t *table) fit(width int) (gone []string) {
	if width == 0 {
		return nil
	}
	for i := len(t.columns) - 1; i >= 0 && t.width() > width; i-- {
		if t.columns[i].zero && !slices.ContainsFunc(t.cells[i], func(cell string) bool { return cell != "0" }) {
			t.remove(i)
		}
	}
	turns := slices.DeleteFunc(slices.Clone(t.columns), func(c column) bool { return c.turn == 0 })
	slices.SortFunc(turns, func(a, b column) int { return a.turn - b.turn })
	for _, c := range turns {
		i := slices.IndexFunc(t.columns, func(other column) bool { return other.name == c.name })
		if over := t.width() - width; over > 0 && c.shortest > 0 {
			limit := max(c.shortest, t.columnWidth(i)-over)
			for j := range t.cells[i] {
				t.cells[i][j] = cutMiddle(t.cells[i][j], limit)
			}
		}
		if t.width() > width && !c.stays {
			t.remove(i)
			gone = append(gone, c.name)
		}
	}
	return gone
}

func (t *table) remove(i int) {
	t.columns = slices.Delete(t.columns, i, i+1)
	t.cells = slices.Delete(t.cells, i, i+1)
}

func (t *table) print(out io.Writer) error {
	var b strings.Builder
	widths := make([]int, len(t.columns))
	for i := range widths {
		widths[i] = t.columnWidth(i)
	}
	line := func(cell func(i int) string) {
		var padded strings.Builder
		for i, width := range widths {
			text := cell(i)
			padded.WriteString(text + strings.Repeat(" ", width-utf8.RuneCountInString(text)) + between)
		}
		b.WriteString(strings.TrimRight(padded.String(), " ") + "\n")
	}
	line(func(i int) string { return t.columns[i].name })
	for j := range t.cells[0] {
		line(func(i int) string { return t.cells[i][j] })
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// cutMiddle keeps the beginning and the end of a text that is longer than limit.
func cutMiddle(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	end := (limit - 1) / 2
	return string(runes[:limit-1-end]) + "…" + string(runes[len(runes)-end:])
}

// joined words a list of names.
func joined(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
