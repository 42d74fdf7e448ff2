package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
	"github.com/leadrelay/leadrelay/sinks"
)

const (
	benchRecords  = 30_000
	benchChatbots = 8
	benchKey      = "bench"
	benchRounds   = 3
)

// BenchmarkEndToEnd pushes 30,000 records of a PostgreSQL table with `run-now` to `leadrelay receive`, and posts as many
// bodies of the same length to it with a bare HTTP client that touches no database, in turns, with as many requests
// under way. It reports the records per second of each, their ratio round by round (the median), and the peak memory of
// each process.
func BenchmarkEndToEnd(b *testing.B) {
	dir := b.TempDir()
	program, bare := filepath.Join(dir, "leadrelay"), filepath.Join(dir, "bareclient")
	for out, pkg := range map[string]string{program: ".", bare: "./testdata/bareclient"} {
		build := exec.Command("go", "build", "-o", out, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	for _, where := range []string{"sqlite", "postgres"} {
		b.Run("ledger="+where, func(b *testing.B) {
			for b.Loop() {
				var ours, theirs, ratios []float64
				var ourMemory, theirMemory int64
				for round := range benchRounds {
					url := receive(b, program)
					o, om := benchOurs(b, program, url, where, filepath.Join(dir, fmt.Sprint(where, round)))
					t, tm := benchBare(b, bare, url)
					ours, theirs, ratios = append(ours, o), append(theirs, t), append(ratios, o/t)
					ourMemory, theirMemory = max(ourMemory, om), max(theirMemory, tm)
				}
				b.ReportMetric(median(ours), "records/s")
				b.ReportMetric(median(theirs), "bare-records/s")
				b.ReportMetric(median(ratios), "ratio")
				b.ReportMetric(float64(ourMemory)/1024, "MB")
				b.ReportMetric(float64(theirMemory)/1024, "bare-MB")
			}
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// receive starts the test CRM in a process of its own and returns its URL.
func receive(b *testing.B, program string) string {
	b.Helper()
	crm := exec.Command(program, "receive", "--listen", "127.0.0.1:0", "--sign-key", benchKey, "--quiet")
	logs, err := crm.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := crm.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = crm.Process.Signal(syscall.SIGTERM)
		_ = crm.Wait()
	})
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		if url := regexp.MustCompile(`http://[^/]+/`).FindString(lines.Text()); url != "" {
			return url
		}
	}
	b.Fatal("receive did not say where it listens")
	return ""
}

// benchOurs returns records per second of the run, and the peak memory in KB.
func benchOurs(b *testing.B, program, url, where, dir string) (perSecond float64, memory int64) {
	b.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	source, ledger := pgtest.Database(b), "sqlite:"+filepath.Join(dir, "ledger.db")
	if where == "postgres" {
		ledger = pgtest.Database(b)
	}
	db, err := sql.Open("postgres", source)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	benchExecute(b, db, `create table leads (id bigserial primary key, chatbot_id text not null, created_at timestamptz not null default now(),
		first_name text, last_name text, email text, phone_number text, content text, session_id bigint, uri text)`)
	var config strings.Builder
	fmt.Fprintf(&config, "source: %s\nledger: %s\nhttp: {allow_http: true, allow_private: true}\nwebhooks:\n", source, ledger)
	for i := range benchChatbots {
		fmt.Fprintf(&config, "  - {id: w%d, chatbot: bot%d, url: %q, sign_key: %s}\n", i, i, url, benchKey)
	}
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	runNow := func() (runResult, int64) {
		cmd := exec.Command(program, "run-now", "--json", "--config", path, "--log-level", "error")
		out, memory := measured(b, cmd)
		var r runResult
		if err := json.Unmarshal(out, &r); err != nil {
			b.Fatalf("run-now printed %q: %v", out, err)
		}
		return r, memory
	}
	runNow() // enters the webhooks
	benchExecute(b, db, fmt.Sprintf(`insert into leads (chatbot_id, first_name, last_name, email, phone_number, content, session_id, uri)
		select 'bot' || i %% %d, 'First' || i, 'Last' || i, 'user' || i || '@example.com', '+420 600 000 000', repeat('some words ', 20), i,
		'www.example.com/page' from generate_series(1, %d) i`, benchChatbots, benchRecords))
	benchExecute(b, db, "vacuum analyze leads")
	r, memory := runNow()
	if r.Delivered != benchRecords {
		b.Fatalf("delivered %d of %d", r.Delivered, benchRecords)
	}
	return float64(r.Delivered) / r.Seconds, memory
}

func benchExecute(b *testing.B, db *sql.DB, statement string) {
	b.Helper()
	if _, err := db.Exec(statement); err != nil {
		b.Fatal(err)
	}
}

// benchBare is benchOurs for the bare client.
func benchBare(b *testing.B, program, url string) (perSecond float64, memory int64) {
	b.Helper()
	var in bytes.Buffer
	now := time.Now()
	for i := range benchRecords {
		body := fmt.Sprintf(`{"SerialNumber":"bot%d","Type":"Lead","FirstName":"First%d","LastName":"Last%d","Email":"user%d@example.com",`+
			`"PhoneNumber":"+420 600 000 000","CreateTime":"%s","Content":"%s","SessionID":%d,"URI":"www.example.com/page"}`,
			i%benchChatbots, i, i, i, now.UTC().Format("2006-01-02T15:04:05.000000Z"), strings.Repeat("some words ", 20), i)
		fmt.Fprintf(&in, "%s\t%s\t%s\n", uuid.New(), sinks.Sign(jobs.Secret(benchKey), now, []byte(body)), body)
	}
	cmd := exec.Command(program, url, strconv.Itoa(8*benchChatbots))
	cmd.Stdin = &in
	out, memory := measured(b, cmd)
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return benchRecords / seconds, memory
}

// measured runs a command to its good end, and returns what it printed and the peak of its memory in KB. The peak is
// read while it runs: a finished process's own figure counts what its parent held when it forked.
func measured(b *testing.B, cmd *exec.Cmd) (out []byte, peak int64) {
	b.Helper()
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	high := regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // gone when it ends
		if found := high.FindSubmatch(status); found != nil {
			peak, _ = strconv.ParseInt(string(found[1]), 10, 64)
		}
		select {
		case err := <-ended:
			if err != nil {
				b.Fatalf("%s: %v", cmd.Path, err)
			}
			return printed.Bytes(), peak
		case <-time.After(20 * time.Millisecond):
		}
	}
}
