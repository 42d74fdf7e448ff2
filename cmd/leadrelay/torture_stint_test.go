package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A stint is one fault from its beginning until the program went on.
type stint struct {
	fault         fault
	side          string
	from          int // in the daemon's log
	began, mended time.Time
	resumed       time.Time // when a record was delivered that was committed when the fault was mended
	acked         int       // records meanwhile
	lines         int       // that were logged as warnings or errors
	memory        int       // the most that the process had, in KiB

	mu     sync.Mutex
	waited bool     // /healthz named a database
	wrong  []string // what was answered that should not have been
	leaked []string // where the password was shown
	asked  int      // requests to the API
	denied int      // of them, those that were answered with 503
	silent int      // and those that were not answered
	hung   int      // commands that were killed, since they did not end
}

func (st *stint) object(format string, args ...any) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(st.wrong) < 5 {
		st.wrong = append(st.wrong, text)
	}
}

// reads looks for the password in what was printed or answered.
func (st *stint) reads(what, text string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if strings.Contains(text, "HIDDEN") && len(st.leaked) < 5 {
		st.leaked = append(st.leaked, fmt.Sprintf("%s shows the password: %s", what, text))
	}
}

// watch asks the daemon how it is, its API, and the command line, until the function returned is called.
func (s *siege) watch(st *stint) (end func()) {
	at := adminOf(s.t, s.daemon.said())
	health := repeatedly(200*time.Millisecond, func() {
		var answer struct {
			Status, Reason string
			Waiting        []string `json:"waiting_for"`
		}
		code, body, err := get(at+"/healthz", 5*time.Second)
		if err != nil || code != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Status != "ok" {
			st.object("/healthz: %d %s %v", code, body, err)
		}
		st.reads("/healthz", string(body))
		st.mu.Lock()
		defer st.mu.Unlock()
		st.waited = st.waited || len(answer.Waiting) > 0
		st.memory = max(st.memory, residentSize(s.daemon.cmd.Process.Pid))
	})
	api := repeatedly(500*time.Millisecond, func() {
		code, body, err := get(at+"/api/v1/webhooks", 25*time.Second)
		st.mu.Lock()
		st.asked++
		switch {
		case err != nil:
			st.silent++
		case code == http.StatusServiceUnavailable:
			st.denied++
		}
		st.mu.Unlock()
		if err == nil && code != http.StatusOK && code != http.StatusServiceUnavailable {
			st.object("the API: %d %s", code, body)
		}
		st.reads("the API", string(body))
	})
	asking := repeatedly(2*time.Second, func() { s.askStatus(st) })
	return func() {
		health()
		api()
		asking()
	}
}

// askStatus runs `leadrelay status`, which says in one line why it cannot tell, where it cannot, and shows no password.
func (s *siege) askStatus(st *stint) {
	cmd := s.command("status")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		st.object("status: %v", err)
		return
	}
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	late.Stop()
	exit, failed := errors.AsType[*exec.ExitError](err)
	said := errs.String()
	st.reads("status", out.String()+said)
	switch {
	case !failed && err != nil:
		st.object("status: %v", err)
	case failed && exit.ExitCode() == exitFailed && strings.HasPrefix(said, "leadrelay: ") && strings.Count(said, "\n") == 1:
	case failed && exit.ExitCode() >= 0:
		st.object("status: exit code %d, and it says: %s", exit.ExitCode(), said)
	case failed:
		st.mu.Lock()
		defer st.mu.Unlock()
		st.hung++
	}
}

func get(url string, within time.Duration) (code int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// residentSize is what a process has in memory, in KiB; 0 where it has ended.
func residentSize(pid int) (size int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &size)
		}
	}
	return size
}

// mostMemory is what a daemon may come to have while a database fails, in KiB: several times what it has else.
const mostMemory = 128 << 10

// judge demands what is to be expected of a daemon whose database failed: of the short form, which shares its machine with
// other tests and is of seconds, only that it shows no password.
func (st *stint) judge(s *siege) {
	s.t.Helper()
	for line := range strings.Lines(s.daemon.said()[st.from:]) {
		if (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")) && !strings.Contains(line, `msg="not delivered"`) {
			st.lines++
		}
	}
	lasted, resumed := st.mended.Sub(st.began), st.resumed.Sub(st.mended)
	name := st.fault.name + ", " + st.side
	s.t.Logf("%s; /healthz names a database: %v; of %d requests to the API %d had 503, %d no answer; %d commands hung",
		strings.ReplaceAll(st.row(), "\t", ", "), st.waited, st.asked, st.denied, st.silent, st.hung)
	for _, text := range st.leaked {
		s.t.Errorf("%s: %s", name, text)
	}
	if !*tortureLong {
		return
	}
	for _, text := range st.wrong {
		s.t.Errorf("%s: %s", name, text)
	}
	if most := 12 + int(lasted/(15*time.Second)); st.lines > most {
		s.t.Errorf("%s: it logged %d lines", name, st.lines)
	}
	if limit := 20*time.Second + st.fault.heals; resumed > limit {
		s.t.Errorf("%s: it went on after %v", name, resumed)
	}
	if st.silent > 0 {
		s.t.Errorf("%s: of %d requests to the API %d had no answer", name, st.asked, st.silent)
	}
	if st.hung > 0 && !st.fault.hangs {
		s.t.Errorf("%s: %d commands did not end", name, st.hung)
	}
	if st.memory > mostMemory {
		s.t.Errorf("%s: it came to have %d MiB", name, st.memory>>10)
	}
	if !st.waited && !st.fault.milder && lasted > st.fault.unnoticed {
		s.t.Errorf("%s: /healthz named no database that is waited for", name)
	}
}

// row is of the table of faults.
func (st *stint) row() string {
	return fmt.Sprintf("%s\t%s\t%.1f\t%d\t%.1f s\t%d\t%d", st.fault.name, st.side, st.mended.Sub(st.began).Seconds(), st.acked,
		st.resumed.Sub(st.mended).Seconds(), st.lines, st.memory>>10)
}
