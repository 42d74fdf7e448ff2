package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// program is the binary under test, built once, with the race detector where the tests have it.
var program struct {
	sync.Once
	dir string
	err error
}

func binary(t testing.TB) string {
	t.Helper()
	program.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "leadrelay-e2e-"); program.err != nil {
			return
		}
		args := []string{"build", "-buildvcs=false", "-o", filepath.Join(program.dir, "leadrelay")}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			program.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "leadrelay")
}

// A site is one installation: a folder with a configuration, and the program run there.
type site struct {
	t   *testing.T
	ctx context.Context // ends when the test has taken too long
	dir string
	env []string // beside the test's own

	through []string // a command that runs the program's, where they are run in namespaces of their own
}

// newSite writes the configuration into a folder of its own. The test fails when it takes longer than limit.
func newSite(t *testing.T, limit time.Duration, config string) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	s := &site{t: t, ctx: ctx, dir: t.TempDir()}
	s.configure(config)
	return s
}

func (s *site) configure(config string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "config.yaml"), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// local is the part of a configuration that lets CRMs be on this machine.
const local = "http: {allow_http: true, allow_private: true}\n"

// command makes a command of the program, which is sent SIGKILL when the site's time is up.
func (s *site) command(args ...string) *exec.Cmd {
	s.t.Helper()
	args = append(append(slices.Clone(s.through), binary(s.t)), args...)
	cmd := exec.CommandContext(s.ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs the program to its end, which must come with this exit code, and returns what it printed.
func (s *site) run(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, got := s.try(args...)
	if got != code {
		s.t.Fatalf("leadrelay %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stdout, stderr
}

// try runs the program to its end; code is -1 where it could not be run, or not to its end.
func (s *site) try(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || s.ctx.Err() != nil {
			s.t.Errorf("leadrelay %s: %v (%v)", strings.Join(args, " "), err, s.ctx.Err())
			return out.String(), errs.String(), -1
		}
		code = exit.ExitCode()
	}
	return out.String(), errs.String(), code
}

// runNow is `run-now --json`, which must end with this exit code.
func (s *site) runNow(code int, args ...string) (r runResult) {
	s.t.Helper()
	s.document(&r, code, append([]string{"run-now"}, args...)...)
	return r
}

// document reads the JSON document that a command prints.
func (s *site) document(v any, code int, args ...string) {
	s.t.Helper()
	stdout, stderr := s.run(code, append(args, "--json")...)
	if err := json.Unmarshal([]byte(stdout), v); err != nil {
		s.t.Fatalf("leadrelay %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
}

// deliveries lists all deliveries that the ledger has.
func (s *site) deliveries(args ...string) (all []deliveryItem) {
	s.t.Helper()
	for after := ""; ; {
		var page struct {
			Items []deliveryItem `json:"items"`
			Next  string         `json:"next"`
		}
		s.document(&page, 0, append([]string{"delivery", "list", "--limit", "5000", "--after", after}, args...)...)
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return all
		}
	}
}

// A process is the program at work in the background.
type process struct {
	site   *site
	cmd    *exec.Cmd
	errs   *journal
	ended  chan struct{} // closed when it has ended
	waited error
}

// start starts the program; the test ends it where it has not ended.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	p := &process{site: s, cmd: s.command(args...), errs: &journal{}, ended: make(chan struct{})}
	p.cmd.Stderr = p.errs
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		p.waited = p.cmd.Wait()
		close(p.ended)
	}()
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // by then it has ended, or the test failed
		<-p.ended
		if text := p.errs.String(); s.t.Failed() || strings.Contains(text, "DATA RACE") {
			s.t.Errorf("leadrelay %s said:\n%s", strings.Join(args, " "), text)
		}
	})
	return p
}

// serve starts the daemon and waits until it serves.
func (s *site) serve() *process {
	s.t.Helper()
	p := s.start("serve")
	p.says("msg=serving")
	return p
}

// says waits until the program has logged this text so many times, once where times is left out.
func (p *process) says(text string, times ...int) {
	p.site.t.Helper()
	want := 1
	if len(times) > 0 {
		want = times[0]
	}
	p.site.until(func() bool {
		select {
		case <-p.ended:
			p.site.t.Fatalf("it ended (%v) and did not say %q", p.waited, text)
		default:
		}
		return strings.Count(p.errs.String(), text) >= want
	}, "it says %q", text)
}

func (p *process) signal(sig syscall.Signal) {
	p.site.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.site.t.Fatal(err)
	}
}

// stop sends SIGTERM and waits for the end, which must come with exit code 0.
func (p *process) stop() {
	p.site.t.Helper()
	p.signal(syscall.SIGTERM)
	p.end()
}

func (p *process) end() {
	p.site.t.Helper()
	select {
	case <-p.ended:
		if p.waited != nil {
			p.site.t.Fatalf("it ended badly: %v", p.waited)
		}
	case <-p.site.ctx.Done():
		p.site.t.Fatal("it does not end")
	}
}

// until waits for a condition, as long as the site's time lasts.
func (s *site) until(f func() bool, format string, args ...any) {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("the test's time is up, and not yet: "+format, args...)
		}
	}
}

// soon is until for what nothing stands in the way of: a lease's end (30 s) or a minute's wait would be a fault.
func (s *site) soon(f func() bool, format string, args ...any) {
	s.t.Helper()
	const limit = 20 * time.Second
	began := time.Now()
	s.until(f, format, args...)
	if took := time.Since(began); took > limit {
		s.t.Errorf("it took %v until "+format, append([]any{took.Round(time.Millisecond)}, args...)...)
	}
}

// A journal is a buffer that may be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// startServer serves a handler on a free port of 127.0.0.1 and returns its URL.
func startServer(t testing.TB, h http.Handler, closing func()) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // broken connections are among what is tried
	server.Start()
	t.Cleanup(func() {
		closing()
		server.Close()
	})
	return server.URL
}

// startCRM starts a CRM that checks signatures by crmKey and keeps what comes.
func startCRM(t testing.TB, answer receiver.Behaviour) (*receiver.Receiver, string) {
	t.Helper()
	crm, err := receiver.New(receiver.Options{SignKeys: []jobs.Secret{signKey}, Tolerance: time.Minute, Answer: answer, Keep: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	return crm, startServer(t, crm, crm.Close)
}

// signKey is every webhook's in these tests.
const signKey = "key/of the+CRM"

// exactlyOnce checks that a CRM got and acknowledged every one of these rows' records, each of them once.
func exactlyOnce(t testing.TB, crm *receiver.Receiver, webhook, typ string, rows []int64) {
	t.Helper()
	want := make(map[string]int64, len(rows))
	for _, row := range rows {
		key := jobs.Key{Webhook: webhook, Type: typ, Row: fmt.Sprint(row), Action: jobs.ActionCreate}
		want[key.ID().String()] = row
	}
	times := map[string]int{}
	strangers := 0
	for _, r := range crm.Kept() {
		if r.Acked {
			times[r.ID]++
		}
		if _, ok := want[r.ID]; !ok {
			strangers++
		}
	}
	var missing, twice []int64
	for id, row := range want {
		switch n := times[id]; {
		case n == 0:
			missing = append(missing, row)
		case n > 1:
			twice = append(twice, row)
		}
	}
	slices.Sort(missing)
	slices.Sort(twice)
	if len(missing)+len(twice)+strangers > 0 {
		t.Errorf("of %d rows %d never came (%v), %d came more than once (%v); %d requests were for none of them",
			len(rows), len(missing), missing, len(twice), twice, strangers)
	}
	if c := crm.Counts(); c.Unverified > 0 {
		t.Errorf("%d requests did not verify: %v", c.Unverified, crm.Unverified())
	}
}
