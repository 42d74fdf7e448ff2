//go:build booted

// Package booted_test installs leadrelay on a machine that systemd booted, by the commands that systemd/README.md gives,
// uses it as its operator does, and removes it. `make systemd-test` boots that machine, a container, and runs this in it.
package booted_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "probe" {
		probe(os.Stdout)
		return
	}
	if err := thrownAway(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: type make systemd-test\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// thrownAway reports whether this machine is one that may be used up.
func thrownAway() error {
	out, err := exec.Command("systemd-detect-virt").Output()
	if err != nil || strings.TrimSpace(string(out)) != "systemd-nspawn" || os.Getenv("BOOTED_MS") == "" {
		return errors.New("this test takes a machine of its own")
	}
	return nil
}

// TestService goes through a service's life, from its installation to its removal. Each stage finds what the one before
// left.
func TestService(t *testing.T) {
	h := newHost(t)
	h.figure("boot of the container", os.Getenv("BOOTED_MS")+" ms")
	for _, stage := range []struct {
		name string
		run  func(*host)
	}{
		{"install", (*host).install},
		{"journal", (*host).journal},
		{"schedule", (*host).schedule},
		{"users", (*host).users},
		{"reload", (*host).reload},
		{"sandbox", (*host).sandbox},
		{"credentials", (*host).credentials},
		{"stop", (*host).stop},
		{"kill", (*host).kill},
		{"upgrade", (*host).upgrade},
		{"paused", (*host).paused},
		{"stalled", (*host).stalled},
		{"sqlite", (*host).sqlite},
		{"uninstall", (*host).uninstall},
	} {
		if !t.Run(stage.name, func(t *testing.T) { h.in(t, stage.run) }) {
			t.Fatalf("the journal's end:\n%s", tail(output(t, "journalctl", "--no-pager", "--unit", "leadrelay"), 60))
		}
	}
	h.print()
}
