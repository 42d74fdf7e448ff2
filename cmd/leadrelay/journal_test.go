package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJournal: a line for systemd's journal has a priority and no time of its own; another standard error gets neither
// changed, also where the variable of a journal is inherited.
func TestJournal(t *testing.T) {
	said := func(t *testing.T, journal bool, args ...string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "stderr")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var stat syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		if !journal {
			stat.Ino++
		}
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
		a := newApp(strings.NewReader(""), &strings.Builder{}, f)
		root := newRootCommand(a)
		root.SetArgs(append([]string{"version", "--log-level", "debug"}, args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		log := a.log.With("stream", "Lead")
		log.Debug("one")
		log.WithGroup("g").Info("two", "time", "noon")
		log.Warn("three\nlines")
		log.Error("four")
		a.exitCode(fmt.Errorf("several\nmistakes"))
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`\d{4}-\d\d-\d\dT[^ "]+`).ReplaceAllString(string(text), "NOW")
	}
	for _, c := range []struct {
		name    string
		journal bool
		args    []string
		want    string
	}{
		{"the journal", true, nil, `<7>level=DEBUG msg=one stream=Lead
<6>level=INFO msg=two stream=Lead g.time=noon
<4>level=WARN msg="three\nlines" stream=Lead
<3>level=ERROR msg=four stream=Lead
<3>leadrelay: several
<3>mistakes
`},
		{"the journal, as JSON", true, []string{"--log-format", "json"}, `<7>{"time":"NOW","level":"DEBUG","msg":"one","stream":"Lead"}
<6>{"time":"NOW","level":"INFO","msg":"two","stream":"Lead","g":{"time":"noon"}}
<4>{"time":"NOW","level":"WARN","msg":"three\nlines","stream":"Lead"}
<3>{"time":"NOW","level":"ERROR","msg":"four","stream":"Lead"}
<3>leadrelay: several
<3>mistakes
`},
		{"a file", false, nil, `time=NOW level=DEBUG msg=one stream=Lead
time=NOW level=INFO msg=two stream=Lead g.time=noon
time=NOW level=WARN msg="three\nlines" stream=Lead
time=NOW level=ERROR msg=four stream=Lead
leadrelay: several
mistakes
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, said(t, c.journal, c.args...)); diff != "" {
				t.Errorf("what it says (-want +got):\n%s", diff)
			}
		})
	}
}
