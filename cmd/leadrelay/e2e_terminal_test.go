package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// openTerminal makes a pseudo-terminal: what is written to tty can be read from screen.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// TestTerminal: a terminal gets progress, and a result that is read from standard output stays free of it. Colours come
// only where NO_COLOR does not forbid them; with --json there is no progress.
func TestTerminal(t *testing.T) {
	t.Parallel()
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, c := range []struct {
		name     string
		env      []string
		args     []string
		progress bool
	}{
		{"progress", []string{"TERM=xterm-256color", "NO_COLOR="}, nil, true},
		{"NO_COLOR", []string{"TERM=xterm-256color", "NO_COLOR=1"}, nil, true},
		{"JSON", []string{"TERM=xterm-256color", "NO_COLOR="}, []string{"--json"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := startCRM(t, receiver.After(60*time.Millisecond, receiver.Success))
			app := newApplication(t, "sqlite")
			s := newSite(t, time.Minute, fmt.Sprintf("source: %q\n%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]\n", app.source, local, url, signKey))
			app.insertMany("a", 120)
			screen, tty := openTerminal(t)
			var seen strings.Builder
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(&seen, screen) // ends with EIO when the last writer has closed
			}()
			s.env = c.env
			cmd := s.command(append([]string{"run-now"}, c.args...)...)
			cmd.Stderr = tty
			stdout, err := cmd.Output()
			_ = tty.Close()
			<-read
			if err != nil {
				t.Fatalf("%v; the terminal shows %q", err, seen.String())
			}
			if progress := strings.Contains(seen.String(), "\r") && regexp.MustCompile(`\d+/120`).MatchString(seen.String()); progress != c.progress {
				t.Errorf("progress: %v, want %v; the terminal shows %q", progress, c.progress, seen.String())
			}
			if strings.ContainsAny(string(stdout), "\x1b\r") {
				t.Errorf("standard output has control characters: %q", stdout)
			}
			if c.name != "progress" && colour.MatchString(seen.String()) {
				t.Errorf("the terminal gets colours: %q", seen.String())
			}
		})
	}
}
