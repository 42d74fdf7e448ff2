package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A life is one process of the program, from its start to its end.
type life struct {
	o              *ordeal
	name           string // which its requests bear
	args           []string
	cmd            *exec.Cmd
	log            string // a file
	started, ended time.Time
	killed         bool
	weighed        bool // what was in flight when it was killed was counted
	told           bool // to stop
	blows          []blow
	gone           chan struct{} // closed when it has ended
	skew           time.Duration // of its clock
	reloads        int
}

// A blow is when a process was killed, or paused; it goes on when that is over, or never.
type blow struct{ at, over time.Time }

// launch starts the program; what it logs goes to a file of its own. Its requests go through w.
func (o *ordeal) launch(w *witness, args ...string) *life {
	o.t.Helper()
	return o.launchSkewed(w, "", 0, args...)
}

// launchSkewed is launch of another binary, which has a clock that goes wrong.
func (o *ordeal) launchSkewed(w *witness, path string, skew time.Duration, args ...string) *life {
	o.t.Helper()
	l := &life{o: o, name: fmt.Sprintf("p%d", len(o.lives)+1), args: args, gone: make(chan struct{}), skew: skew}
	o.lives = append(o.lives, l)
	l.log = filepath.Join(o.logs(), l.name+"-"+args[0]+".log")
	file, err := os.Create(l.log)
	if err != nil {
		o.t.Fatal(err)
	}
	defer file.Close() // the process has it
	l.cmd = o.command(append(args, "--log-level", "debug")...)
	if path != "" {
		l.cmd.Path = path
	}
	l.cmd.Env = append(l.cmd.Env, "PROXY="+w.proxy(l.name), fmt.Sprintf("%s=%d", skewVariable, int(skew.Seconds())))
	l.cmd.Stdout, l.cmd.Stderr = file, file
	l.started = time.Now()
	if err := l.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	go func() {
		_ = l.cmd.Wait()
		l.ended = time.Now()
		close(l.gone)
	}()
	o.t.Cleanup(func() {
		_ = l.cmd.Process.Kill() // by then it has ended, or the test failed
		<-l.gone
	})
	return l
}

// bound is how many records may come twice by one blow: a request each worker, and a settle buffer. Each reload begins
// another runner.
func (l *life) bound() int { return (l.reloads + 1) * (tortureWorkers + settleBuffer) }

// lived waits at most so long for the end.
func (l *life) lived(most time.Duration) {
	select {
	case <-l.gone:
	case <-time.After(most):
	}
}

// kill sends SIGKILL and waits for the end.
func (l *life) kill() {
	l.o.t.Helper()
	_ = l.cmd.Process.Kill() // where it has not ended by itself
	<-l.gone
	if l.killed = l.code() < 0; l.killed {
		l.blows = append(l.blows, blow{at: l.ended})
		l.o.did("kills")
	}
}

func (l *life) signal(sig syscall.Signal) {
	l.told = l.told || sig == syscall.SIGINT || sig == syscall.SIGTERM
	_ = l.cmd.Process.Signal(sig) // it may have ended, which is seen elsewhere
}

// code is the exit code; -1: a signal ended it.
func (l *life) code() int { return l.cmd.ProcessState.ExitCode() }

// said is what it has logged.
func (l *life) said() string {
	l.o.t.Helper()
	text, err := os.ReadFile(l.log)
	if err != nil {
		l.o.t.Fatal(err)
	}
	return string(text)
}

// says waits until it has logged this text.
func (l *life) says(text string) {
	l.o.t.Helper()
	l.o.until(func() bool {
		select {
		case <-l.gone:
			if !strings.Contains(l.said(), text) {
				l.o.t.Fatalf("%s ended (%v) and did not say %q\n%s", l.name, l.cmd.ProcessState, text, tail(l.said()))
			}
		default:
		}
		return strings.Contains(l.said(), text)
	}, "%s says %q", l.name, text)
}

// stop sends SIGTERM and waits for the end, which must come with exit code 0.
func (l *life) stop() {
	l.o.t.Helper()
	l.signal(syscall.SIGTERM)
	l.await(exitDone)
}

// await waits for the end, which must come with one of these exit codes.
func (l *life) await(codes ...int) {
	l.o.t.Helper()
	select {
	case <-l.gone:
	case <-l.o.ctx.Done():
		l.o.t.Fatalf("%s does not end", l.name)
	}
	if !slices.Contains(codes, l.code()) {
		l.o.t.Errorf("%s (%s) ended with exit code %d, not one of %v\n%s", l.name, strings.Join(l.args, " "), l.code(), codes, tail(l.said()))
	}
}

// tail is the end of a log.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
