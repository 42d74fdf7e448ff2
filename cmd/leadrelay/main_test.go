package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

// TestMain lets scripts call this test binary as leadrelay: with the race detector where the tests have it.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" { // else every process that was built with the race detector rests a second before it exits
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(suite{m}, map[string]func(){"leadrelay": main})
}

// A suite is all tests of the package, with the cluster and the binary that they share, and no goroutine left behind.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	// Most of these tests wait for other processes most of the time.
	flag.Parse()
	if !given("test.parallel") {
		_ = flag.Set("test.parallel", "6")
	}
	code := pgtest.Main(s.m)
	if program.dir != "" {
		if err := os.RemoveAll(program.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// given reports whether a flag was set on the command line.
func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}
