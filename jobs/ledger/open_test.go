package ledger

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/pgtest"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv("LEDGER_TEST_DELIVER"); dsn != "" {
		if err := deliver(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // under -race a check of the model takes half a second
		if err := f.Value.Set("15"); err != nil {
			panic(err)
		}
	}
	os.Exit(pgtest.Main(m))
}

func TestNoLedger(t *testing.T) {
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			ctx, dsn := context.Background(), address(t, name)
			for range 2 { // the first look must not make one
				if _, err := Open(ctx, dsn, Options{}); !errors.Is(err, ErrNoLedger) {
					t.Errorf("open: %v", err)
				}
			}
			l, err := Open(ctx, dsn, Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.EnterStream(ctx, "Lead", "d", "b"); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if l, err = Open(ctx, dsn, Options{}); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if s, err := l.Stream(ctx, "Lead"); err != nil || s.Bookmark != "b" {
				t.Errorf("after opening again: %+v, %v", s, err)
			}
		})
	}
}

func TestBadAddresses(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	if err := os.WriteFile(text, []byte("this is no database, only some text that is long enough to be looked at as one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dsn := range map[string]string{
		"no scheme":            "ledger.db",
		"another scheme":       "mysql://x",
		"no folder":            "sqlite:" + filepath.Join(folder, "none", "ledger.db"),
		"a folder":             "sqlite:" + folder,
		"no database":          "sqlite:" + text,
		"password with a sign": "postgres://u:hunter2%zz@127.0.0.1:1/x",
		"bad port":             "postgres://u:hunter2@127.0.0.1:port/x",
		"bad option":           "postgres://u:hunter2@127.0.0.1:1/x?sslmode=hunter3",
		"nobody there":         "postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable",
	} {
		l, err := Open(context.Background(), dsn, Options{Create: true})
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = l.Close()
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
		if got, want := IsUnavailable(err), name == "nobody there"; got != want {
			t.Errorf("%s: unavailable is %v: %v", name, got, err)
		}
	}
}

func TestForeignTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("create table leads (id integer primary key)"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), "sqlite:"+path, Options{Create: true}); !errors.Is(err, ErrNotLedger) {
		t.Errorf("open a source as the ledger: %v", err)
	}
}

func TestNewerLedger(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		insert := "insert into " + versions + " (version_id, is_applied) values (99999, true)"
		if _, err := s.write.Exec(s.text(insert)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), s.dsn, Options{}); !errors.Is(err, ErrNewer) {
			t.Errorf("open a newer ledger: %v", err)
		}
	})
}

// Daemons that start at once on a new ledger all come up.
func TestMigratedAtOnce(t *testing.T) {
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := address(t, name)
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					l, err := Open(context.Background(), dsn, Options{Create: true})
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := l.Status(context.Background()); err != nil {
						t.Error(err)
					}
					if err := l.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestSchemas(t *testing.T) {
	ctx, dsn := context.Background(), pgtest.Database(t)
	plain, err := Open(ctx, dsn, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	named, err := Open(ctx, dsn+"&search_path=Second", Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if err := plain.EnterStream(ctx, "Lead", "d", "b"); err != nil {
		t.Error(err)
	}
	if _, err := named.Stream(ctx, "Lead"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("two ledgers of one database share a stream: %v", err)
	}
	var schemas string
	if err := plain.read.QueryRow("select string_agg(distinct schemaname, ' ' order by schemaname) from pg_tables where tablename = 'deliveries'").Scan(&schemas); err != nil {
		t.Fatal(err)
	}
	if schemas != "Second leadrelay" {
		t.Errorf("schemas %q", schemas)
	}
}

func TestFileModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "a b?c%d#e.db")
	l, err := Open(context.Background(), "sqlite:"+path, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.EnterStream(context.Background(), "Lead", "d", ""); err != nil {
		t.Fatal(err)
	}
	got := map[string]os.FileMode{}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimPrefix(e.Name(), filepath.Base(path))] = info.Mode()
	}
	if diff := cmp.Diff(map[string]os.FileMode{"": 0o600, "-wal": 0o600, "-shm": 0o600}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Only root can make another user's file; as anybody else the system's own files stand in for it.
func TestAnotherUsersLedger(t *testing.T) {
	path := "/etc/passwd"
	owner := "root"
	if os.Geteuid() == 0 {
		owner = "nobody"
		folder := filepath.Join(t.TempDir(), "theirs")
		path = filepath.Join(folder, "ledger.db")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("chown", owner, folder).CombinedOutput()
		if err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
		wantOwner(t, path, folder, owner) // not there yet: it would be root's
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chown", owner, path).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	wantOwner(t, path, path, owner)
}

func wantOwner(t *testing.T, open, path, owner string) {
	t.Helper()
	_, err := Open(context.Background(), "sqlite:"+open, Options{Create: true})
	var got *OwnerError
	if !errors.As(err, &got) {
		t.Fatalf("open another user's ledger: %v", err)
	}
	if diff := cmp.Diff(&OwnerError{Path: path, Owner: owner}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The server's clock is the ledger's, whatever this machine's says, and it does not go back.
func TestServersClock(t *testing.T) {
	l, err := Open(context.Background(), pgtest.Database(t), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 5 {
		var before, after time.Time
		if err := l.read.QueryRow("select clock_timestamp()").Scan(&before); err != nil {
			t.Fatal(err)
		}
		now := l.Now()
		if err := l.read.QueryRow("select clock_timestamp()").Scan(&after); err != nil {
			t.Fatal(err)
		}
		if now.Before(before.Add(-50*time.Millisecond)) || now.After(after.Add(50*time.Millisecond)) {
			t.Errorf("now %v, the server's clock %v to %v", now, before, after)
		}
		if now != now.Truncate(time.Microsecond).UTC() {
			t.Errorf("now %v is not UTC to the microsecond", now)
		}
	}
}

// deliver claims and acknowledges, as a process of its own, until its standard input ends, and prints the rows.
func deliver(dsn string) error {
	ctx := context.Background()
	l, err := Open(ctx, dsn, Options{Create: true})
	if err != nil {
		return err
	}
	s := &stage{Ledger: l}
	lease, err := l.TakeLease(ctx, "child", time.Minute)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	for {
		claimed, err := l.Claim(ctx, jobs.Claim{Lease: lease, Each: 3, Limit: 5})
		if err != nil {
			return err
		}
		var outcomes []jobs.Outcome
		for _, d := range claimed {
			fmt.Println(d.Row)
			outcomes = append(outcomes, s.acked(d))
		}
		if _, err := l.Settle(ctx, outcomes); err != nil {
			return err
		}
		select {
		case <-ended:
			return l.Close()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Processes side by side on one ledger: each record is had by one of them.
func TestProcesses(t *testing.T) {
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stage{t: t, dsn: address(t, name), clock: &clock{now: time.Now()}}
			l, err := Open(context.Background(), s.dsn, Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s.Ledger = l
			s.webhooks("a", "b")
			const children, rows = 2, 200
			lines := make(chan string, rows)
			var stdins []io.Closer
			var reading sync.WaitGroup
			var processes []*exec.Cmd
			for range children {
				c := exec.Command(os.Args[0])
				c.Env = append(os.Environ(), "LEDGER_TEST_DELIVER="+s.dsn)
				c.Stderr = os.Stderr
				in := must[io.WriteCloser](t)(c.StdinPipe())
				out := must[io.ReadCloser](t)(c.StdoutPipe())
				s.must(c.Start())
				stdins, processes = append(stdins, in), append(processes, c)
				reading.Go(func() {
					for scan := bufio.NewScanner(out); scan.Scan(); {
						lines <- scan.Text()
					}
				})
			}
			go func() { reading.Wait(); close(lines) }()
			for range rows / 10 {
				var page []jobs.Delivery
				for i := range 10 {
					page = append(page, s.record([]string{"a", "b"}[i%2], jobs.Pending))
				}
				s.enter("", page...)
			}
			seen, timeout := map[string]int{}, time.After(30*time.Second)
			for len(seen) < rows {
				select {
				case row := <-lines:
					seen[row]++
					continue
				case <-timeout:
					t.Errorf("%d of %d rows after 30 s", len(seen), rows)
				}
				break
			}
			for _, in := range stdins {
				s.must(in.Close())
			}
			for row := range lines {
				seen[row]++
			}
			for _, c := range processes {
				s.must(c.Wait())
			}
			for row, n := range seen {
				if n != 1 {
					t.Errorf("row %s was had %d times", row, n)
				}
			}
			if got := s.status("a").Delivered + s.status("b").Delivered; got != rows {
				t.Errorf("%d delivered, want %d", got, rows)
			}
		})
	}
}
