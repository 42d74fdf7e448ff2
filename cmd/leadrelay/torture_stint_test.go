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
	"regexp"
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
	asked  int      // requests to the API
	denied int      // of them, those that were answered with 503
	silent int      // and those that were not answered
}

func (st *stint) object(format string, args ...any) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(st.wrong) < 5 {
		st.wrong = append(st.wrong, text)
	}
}

// watch asks the daemon how it is, its API, and the command line, until the function returned is called.
func (s *siege) watch(st *stint) (end func()) {
	found := regexp.MustCompile(`msg="admin listens" address=(\S+)`).FindStringSubmatch(s.daemon.said())
	if found == nil {
		s.t.Fatal("it says no address of admin.listen")
	}
	health := repeatedly(200*time.Millisecond, func() {
		var answer struct {
			Status, Reason string
			Waiting        []string `json:"waiting_for"`
		}
		code, body, err := get("http://"+found[1]+"/healthz", 5*time.Second)
		if err != nil || code != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Status != "ok" {
			st.object("/healthz: %d %s %v", code, body, err)
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		st.waited = st.waited || len(answer.Waiting) > 0
		st.memory = max(st.memory, residentSize(s.daemon.cmd.Process.Pid))
	})
	api := repeatedly(500*time.Millisecond, func() {
		code, body, err := get("http://"+found[1]+"/api/v1/webhooks", 25*time.Second)
		st.mu.Lock()
		st.asked++
		switch {
		case err != nil:
			st.silent++
		case code == http.StatusServiceUnavailable:
			st.denied++
		}
		st.mu.Unlock()
		if err == nil && code != http.StatusOK && code != http.StatusServiceUnavailable || bytes.Contains(body, []byte("HIDDEN")) {
			st.object("the API: %d %s", code, body)
		}
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
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // such as of a lock, which it waits for
	err := cmd.Wait()
	late.Stop()
	exit, failed := errors.AsType[*exec.ExitError](err)
	said := errs.String()
	switch {
	case strings.Contains(out.String()+said, "HIDDEN"):
		st.object("status shows the password: %s%s", &out, said)
	case !failed && err != nil:
		st.object("status: %v", err)
	case failed && exit.ExitCode() == exitFailed && strings.HasPrefix(said, "leadrelay: ") && strings.Count(said, "\n") == 1:
	case failed && exit.ExitCode() >= 0:
		st.object("status: exit code %d, and it says: %s", exit.ExitCode(), said)
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

// judge demands what is to be expected of a daemon whose database failed.
func (st *stint) judge(s *siege) {
	s.t.Helper()
	for line := range strings.Lines(s.daemon.said()[st.from:]) {
		if (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")) && !strings.Contains(line, `msg="not delivered"`) {
			st.lines++
		}
	}
	lasted, resumed := st.mended.Sub(st.began), st.resumed.Sub(st.mended)
	name := st.fault.name + ", " + st.side
	s.t.Logf("%s; /healthz names a database: %v; of %d requests to the API %d had 503, %d no answer",
		strings.ReplaceAll(st.row(), "\t", ", "), st.waited, st.asked, st.denied, st.silent)
	for _, text := range st.wrong {
		s.t.Errorf("%s: %s", name, text)
	}
	if most := 12 + int(lasted/(15*time.Second)); st.lines > most {
		s.t.Errorf("%s: it logged %d lines", name, st.lines)
	}
	if limit := 20*time.Second + st.fault.heals; resumed > limit {
		s.t.Errorf("%s: it went on after %v", name, resumed)
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
