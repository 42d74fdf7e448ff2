package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// peakMost is what the program may take at its peak however large rows are, in bytes. Of ordinary ones it takes a fifth.
const peakMost = 300_000_000

// weigh runs the program to its end, which must come with this exit code and without having taken more than peakMost.
// The race detector takes several times what the program does, so path names one that is built without it.
func (s *site) weigh(path string, code int, args ...string) (stdout string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(s.ctx, path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &out, &errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	peak := 0
	for {
		select {
		case <-tick.C: // what the kernel says of the time before never goes back
			peak = max(peak, highWater(cmd.Process.Pid))
			continue
		case err := <-ended:
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || code != cmd.ProcessState.ExitCode() {
				s.t.Fatalf("leadrelay %s: %v, want exit code %d\n%s%s", strings.Join(args, " "), err, code, excerpt(out.String()), excerpt(errs.String()))
			}
		}
		break
	}
	s.t.Logf("leadrelay %s took %d MB at its peak", strings.Join(args, " "), peak/1_000_000)
	if peak == 0 || peak > peakMost {
		s.t.Errorf("leadrelay %s took %d MB at its peak", strings.Join(args, " "), peak/1_000_000)
	}
	return out.String()
}

// highWater is the most memory that a process has had, in bytes; 0 where it is gone.
func highWater(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kib, _ := strconv.Atoi(strings.TrimSpace(line))
	return kib * 1024
}

func excerpt(text string) string { return text[:min(len(text), 4000)] }

// plainBinary builds the program as it is shipped.
func plainBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "leadrelay")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// A counter is a CRM that keeps no body, only how often each record was acknowledged and how large it was.
type counter struct {
	mu     sync.Mutex
	refuse bool
	bodies map[string][]int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.refuse {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	id := r.Header.Get("X-Webhook-Id")
	c.bodies[id] = append(c.bodies[id], int(n))
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"status":"success"}`)
}

func (c *counter) set(refuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
}

// acked checks that so many records were acknowledged, each once.
func (c *counter) acked(t *testing.T, want int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bodies) != want {
		t.Errorf("%d records were acknowledged, want %d", len(c.bodies), want)
	}
	for id, sizes := range c.bodies {
		if len(sizes) != 1 {
			t.Errorf("%s was acknowledged %d times", id, len(sizes))
		}
	}
}

// insertLarge commits n leads whose content has so many bytes.
func (a *application) insertLarge(chatbot string, n, size int) {
	a.t.Helper()
	text := map[string]string{"sqlite": "substr(hex(zeroblob($2)), 1, $2)", "postgres": "repeat('x', $2)"}[a.engine]
	a.exec("insert into leads (chatbot_id, first_name, content) values ($1, 'large', "+text+")", chatbot, size)
	for range n - 1 {
		a.exec(`insert into leads (chatbot_id, first_name, content)
			select chatbot_id, first_name, content from leads where id = (select max(id) from leads)`)
	}
}

// TestLargeRows: twenty rows of 60 MB stand among fifty small ones. No command reads them: they are dead and each says how
// large it is, the small ones are delivered, and so is one whose body is the largest there may be.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	binary := plainBinary(t)
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm := &counter{bodies: map[string][]int{}}
			app := newApplication(t, engine)
			s := newSite(t, 5*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks: [{id: w, chatbot: a, url: %q, sign_key: %q, from: beginning}]
`, app.source, newLedger(t, engine), local, startServer(t, crm, func() {}), signKey))
			app.insertMany("a", 25)
			app.insertLarge("a", 20, 60_000_000)
			app.insertMany("a", 25)
			const around = len(`{"SerialNumber":"a","Type":"Lead","FirstName":"large","LastName":"","Email":"","PhoneNumber":"","CreateTime":"2023-11-23T18:36:21.512302Z","Content":"","SessionID":0,"URI":""}`)
			app.insertLarge("a", 1, 5<<20-around)

			const why = "its fields take 60000005 bytes, more than push.max_body, 5MiB"
			if out := s.weigh(binary, exitFailed, "check"); strings.Count(out, why) != 5 || !strings.Contains(out, "20 of the latest 71 records cannot be sent") {
				t.Errorf("check says:\n%s", excerpt(out))
			}
			if out := s.weigh(binary, exitDone, "run-now", "--dry-run"); strings.Count(out, why) != 20 || strings.Count(out, "POST ") != 51 {
				t.Errorf("run-now --dry-run plans %d requests, and says %d times why not", strings.Count(out, "POST "), strings.Count(out, why))
			}
			s.weigh(binary, exitPending, "run-now")
			crm.acked(t, 51)
			dead := s.deliveries("--state", "dead")
			for _, d := range dead {
				if d.Reason != "rejected" || !strings.Contains(d.LastError, why) {
					t.Errorf("row %s is dead, %s: %s", d.Row, d.Reason, d.LastError)
				}
			}
			if len(dead) != 20 {
				t.Errorf("%d are dead", len(dead))
			}
			s.weigh(binary, exitDone, "reconcile")
		})
	}
}

// TestManyLargeRows: rows that are just small enough take no more memory for being many, whether they are pushed when
// they are read or are read again for a retry.
func TestManyLargeRows(t *testing.T) {
	t.Parallel()
	binary := plainBinary(t)
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm := &counter{refuse: true, bodies: map[string][]int{}}
			app := newApplication(t, engine)
			url := startServer(t, crm, func() {})
			s := newSite(t, 5*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: v, chatbot: a, url: "%s/v", sign_key: k, from: beginning, retry_at: []}
  - {id: w, chatbot: a, url: "%[4]s/w", sign_key: k, from: beginning, retry_at: []}
`, app.source, newLedger(t, engine), local, url))
			app.insertLarge("a", 40, 4_900_000)
			app.insertMany("a", 50)
			s.weigh(binary, exitPending, "run-now")
			if left := s.deliveries("--state", "pending"); len(left) != 180 {
				t.Errorf("%d of 180 are pending once they were refused", len(left))
			}
			crm.set(false)
			s.weigh(binary, exitDone, "run-now")
			crm.acked(t, 180)
		})
	}
}
