package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	gone           chan struct{} // closed when it has ended
}

// launch starts the program; what it logs goes to a file of its own. Its requests go through w.
func (o *ordeal) launch(w *witness, args ...string) *life {
	o.t.Helper()
	o.mu.Lock()
	l := &life{o: o, name: fmt.Sprintf("p%d", len(o.lives)+1), args: args, gone: make(chan struct{})}
	o.lives = append(o.lives, l)
	o.mu.Unlock()
	l.log = filepath.Join(o.dir, "logs", l.name+"-"+args[0]+".log")
	if err := os.MkdirAll(filepath.Dir(l.log), 0o700); err != nil {
		o.t.Fatal(err)
	}
	file, err := os.Create(l.log)
	if err != nil {
		o.t.Fatal(err)
	}
	defer file.Close() // the process has it
	l.cmd = o.command(append(args, "--log-level", "debug")...)
	l.cmd.Env = append(l.cmd.Env, "PROXY="+w.proxy(l.name))
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

// kill sends SIGKILL and waits for the end.
func (l *life) kill() {
	l.o.t.Helper()
	l.killed = l.cmd.Process.Kill() == nil // else it has ended by itself
	<-l.gone
	if l.killed = l.killed && l.code() < 0; l.killed {
		l.o.done["kills"]++
	}
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
				l.o.t.Fatalf("%s ended (%v) and did not say %q: see %s\n%s", l.name, l.cmd.ProcessState, text, l.log, tail(l.said()))
			}
		default:
		}
		return strings.Contains(l.said(), text)
	}, "%s says %q", l.name, text)
}

// stop sends SIGTERM and waits for the end, which must come with exit code 0.
func (l *life) stop() {
	l.o.t.Helper()
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
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
	for _, code := range codes {
		if l.code() == code {
			return
		}
	}
	l.o.t.Errorf("%s (%s) ended with exit code %d, not one of %v\n%s", l.name, strings.Join(l.args, " "), l.code(), codes, tail(l.said()))
}

// tail is the end of a log.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
