// Package pgtest starts a real PostgreSQL for tests: a cluster in a temporary folder, on a free port of 127.0.0.1, as
// an unprivileged user, gone when the test binary ends.
//
// The binaries come from $PG_BIN, PATH or /usr/lib/postgresql/*/bin. Where there are none the test fails; it does not
// skip.
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // pgtest makes databases through it
)

// A Server is a running cluster. Its methods may be called from several goroutines.
type Server struct {
	bin, data string
	port      int
	cred      *syscall.Credential

	mu  sync.Mutex
	cmd *exec.Cmd
	log bytes.Buffer
}

var (
	shared struct {
		sync.Mutex
		server *Server
		pooler *Pooler
	}
	databases atomic.Int64
)

// Main runs a package's tests and ends the cluster that Database started, if one did:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m interface{ Run() int }) int {
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.pooler != nil {
			shared.pooler.Remove()
		}
		if shared.server != nil {
			shared.server.Remove()
		}
	}()
	return m.Run()
}

// Database makes an empty database on the test binary's shared cluster, which the first call starts, and returns its
// URL. The test package must have Main.
func Database(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := Start()
		if err != nil {
			t.Fatalf("start PostgreSQL: %v", err)
		}
		shared.server = s
	}
	url, err := shared.server.Create()
	if err != nil {
		t.Fatalf("create database: %v", err)
	}
	return url
}

// Start makes a cluster of its own, for what needs one that can be stopped, and for programs; end it with Remove.
func Start() (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	root, err := os.MkdirTemp("", "leadrelay-pg-")
	if err != nil {
		return nil, err
	}
	s.data = filepath.Join(root, "data")
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.cred, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(root, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return nil, err
		}
	}
	if out, err := s.command("initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(root))
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := s.Run(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	return s, nil
}

// Run starts the cluster's server, again after Kill too, on the same port, and waits until it answers.
func (s *Server) Run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = s.command("postgres", "-D", s.data,
		"-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(s.port), "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "max_prepared_transactions=10", "-c", "fsync=off", "-c", "shared_buffers=128MB")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	if err := s.cmd.Start(); err != nil {
		return err
	}
	db, err := sql.Open("postgres", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
}

// Stop ends the server with sig (SIGINT: fast shutdown, SIGQUIT: as a crash) and waits for its end.
func (s *Server) Stop(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		return err
	}
	_ = s.cmd.Wait() // its exit status says nothing after a signal
	s.cmd = nil
	return nil
}

// Remove ends the server and removes the cluster.
func (s *Server) Remove() {
	_ = s.Stop(syscall.SIGQUIT)
	_ = os.RemoveAll(filepath.Dir(s.data))
}

// URL is the address of a database of the cluster.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Create makes an empty database of a new name and returns its URL.
func (s *Server) Create() (string, error) {
	db, err := sql.Open("postgres", s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer db.Close()
	name := fmt.Sprintf("t%d_%d", os.Getpid(), databases.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, "create database "+name); err != nil {
		return "", err
	}
	return s.URL(name), nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = filepath.Dir(s.data)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return c
}

// binaries finds the folder that holds initdb and postgres.
func binaries() (string, error) {
	dirs := []string{os.Getenv("PG_BIN")}
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(found) // the newest first
	for _, dir := range append(dirs, found...) {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no PostgreSQL server binaries: install Debian's postgresql, or set PG_BIN to their folder")
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run PostgreSQL as")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
