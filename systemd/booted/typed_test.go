//go:build booted

package booted_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	operator = "ops"
	checkout = "/home/ops/leadrelay" // the folder that the operator types in
)

// A block is a piece of code in README.md.
type block struct{ section, language, text string }

// readBlocks reads the pieces of code of systemd/README.md.
func readBlocks(t *testing.T) (blocks []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/opt/booted/checkout/systemd/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b *block
	section := ""
	for line := range strings.Lines(string(text)) {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && b == nil:
			b = &block{section: section, language: strings.TrimSpace(language)}
		case fence:
			blocks = append(blocks, *b)
			b = nil
		case b != nil:
			b.text += line
		case strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[3:])
		}
	}
	return blocks
}

// block is the n-th piece of code of a section, from 0.
func (h *host) block(section string, n int) string {
	h.t.Helper()
	for _, b := range h.blocks {
		if b.section == section {
			if n == 0 {
				return b.text
			}
			n--
		}
	}
	h.t.Fatalf("README.md has no more code under %q", section)
	return ""
}

// line is the command of README.md that begins so, with what it says behind it left out.
func (h *host) line(begin string) string {
	h.t.Helper()
	for _, b := range h.blocks {
		text := strings.ReplaceAll(b.text, "\\\n", "")
		for line := range strings.Lines(text) {
			if b.language == "sh" && strings.HasPrefix(line, begin) {
				return regexp.MustCompile(`\s+# .*`).ReplaceAllString(strings.TrimSpace(line), "")
			}
		}
	}
	h.t.Fatalf("README.md has no command %q", begin)
	return ""
}

// types types lines in the operator's shell, in the checkout. They must succeed.
func (h *host) types(lines string) string {
	h.t.Helper()
	out, code := h.tries(lines)
	if code != 0 {
		h.t.Fatalf("exit code %d from\n%s\n%s", code, lines, out)
	}
	return out
}

// tries types lines, and returns what is printed on either output, and the exit code.
func (h *host) tries(lines string) (out string, code int) {
	h.t.Helper()
	cmd := exec.Command("runuser", "--user", operator, "--", "bash", "-euo", "pipefail", "-c", lines)
	cmd.Dir = checkout
	cmd.Env = []string{"HOME=/home/" + operator, "USER=" + operator, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER="}
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// typesAtTerminal is types for a command that asks whether it is at a terminal.
func (h *host) typesAtTerminal(line string) string {
	h.t.Helper()
	return h.types("script --quiet --return --command '" + strings.ReplaceAll(line, "'", `'\''`) + "' /dev/null")
}

// output runs a command as root and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &errs)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// write makes a file of the operator's in the checkout.
func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(checkout, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	output(h.t, "chown", operator+":", path)
}
