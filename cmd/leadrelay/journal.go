package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// journalled reports whether w leads to systemd's journal, which stands in $JOURNAL_STREAM as device:inode: a program
// that was started with another standard error has the variable too.
func journalled(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// The journal keeps a line's time by itself, and its priority where the line begins with one (man sd-daemon).
const (
	priorityError   = "<3>"
	priorityWarning = "<4>"
	priorityInfo    = "<6>"
	priorityDebug   = "<7>"
)

func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return priorityError
	case level >= slog.LevelWarn:
		return priorityWarning
	case level >= slog.LevelInfo:
		return priorityInfo
	}
	return priorityDebug
}

// A journalHandler gives each record the priority of its level: a handler of its own for each.
type journalHandler map[string]slog.Handler

// newJournalHandler makes its handlers with handler, which write a record by one Write.
func newJournalHandler(w io.Writer, handler func(io.Writer) slog.Handler) journalHandler {
	h := journalHandler{}
	for _, p := range []string{priorityError, priorityWarning, priorityInfo, priorityDebug} {
		h[p] = handler(prefixed{w, p})
	}
	return h
}

func (h journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h[priority(level)].Enabled(ctx, level)
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h[priority(r.Level)].Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(one slog.Handler) slog.Handler { return one.WithAttrs(attrs) })
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.with(func(one slog.Handler) slog.Handler { return one.WithGroup(name) })
}

func (h journalHandler) with(change func(slog.Handler) slog.Handler) slog.Handler {
	changed := journalHandler{}
	for p, one := range h {
		changed[p] = change(one)
	}
	return changed
}

// withoutTime leaves out the time of a record.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// A prefixed writer writes a text before each line.
type prefixed struct {
	to     io.Writer
	prefix string
}

func (w prefixed) Write(p []byte) (int, error) {
	lines := bytes.TrimSuffix(p, []byte("\n"))
	text := append([]byte(w.prefix), bytes.ReplaceAll(lines, []byte("\n"), []byte("\n"+w.prefix))...)
	if _, err := w.to.Write(append(text, '\n')); err != nil {
		return 0, err
	}
	return len(p), nil
}
