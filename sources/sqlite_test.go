package sources

import (
	"context"
	"errors"
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

	"github.com/jmoiron/sqlx"

	"github.com/leadrelay/leadrelay/jobs"
)

// The application writes without waiting for locks (no busy_timeout) while pages are read and the version is watched,
// and after; and no file is left that is not its own.
func TestApplicationStillWrites(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			applicationWrites(t, path, mode, func(stop <-chan struct{}) {
				readWhile(t, path, stop)
			})
		})
	}
}

// applicationWrites runs read while an application inserts, and checks that it could go on all the while and after.
func applicationWrites(t *testing.T, path, mode string, read func(stop <-chan struct{})) {
	t.Helper()
	timeout := 0
	if mode == "DELETE" { // there a reader's lock keeps a writer out for a moment
		timeout = 2000
	}
	dsn := fmt.Sprintf("file:%s?_journal_mode=%s&_busy_timeout=%d&_synchronous=OFF", path, mode, timeout)
	app, err := sqlx.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { app.Close() }()
	app.SetMaxOpenConns(1)
	insert := func(when string) {
		if _, err := app.Exec(addLead); err != nil {
			t.Errorf("%s: the application's insert fails: %v", when, err)
		}
	}
	if _, err := app.Exec(liteLeads); err != nil {
		t.Fatal(err)
	}
	insert("before")
	app.Close() // so that the reader is the one that makes the -wal and -shm files
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Add(1)
	go func() { defer reading.Done(); read(stop) }()
	time.Sleep(300 * time.Millisecond)
	if app, err = sqlx.Open("sqlite", dsn); err != nil {
		t.Fatal(err)
	}
	app.SetMaxOpenConns(1)
	for range 200 {
		insert("while reading")
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	reading.Wait()
	insert("after reading")
	owner := func(name string) uint32 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if owner(name) != owner(path) {
			t.Errorf("%s belongs to another user than the database", name)
		}
	}
	app.Close()
	if app, err = sqlx.Open("sqlite", dsn); err != nil {
		t.Fatal(err)
	}
	insert("opened again")
	var check string
	if err := app.Get(&check, "pragma integrity_check"); err != nil || check != "ok" {
		t.Errorf("integrity_check: %s, %v", check, err)
	}
	var rows int
	if err := app.Get(&rows, "select count(*) from leads"); err != nil || rows != 203 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// readWhile reads pages and waits for more until stop.
func readWhile(t testing.TB, path string, stop <-chan struct{}) {
	ctx := context.Background()
	db, err := Open(ctx, "sqlite:"+path, Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	s, err := db.Stream(ctx, leads())
	if err != nil {
		t.Error(err)
		return
	}
	at := jobs.Bookmark("")
	for {
		select {
		case <-stop:
			return
		default:
		}
		p, err := s.After(ctx, at, 10)
		if err != nil {
			t.Error(err)
			return
		}
		at = p.Bookmark
		if p.Drained {
			_ = s.Wait(ctx, 20*time.Millisecond)
		}
	}
}

// Another user's file is refused, by root too, with the command that works; and run as that user, all is well.
func TestAnotherUsersFile(t *testing.T) {
	t.Parallel()
	if os.Getenv("LEADRELAY_TEST_READER") != "" {
		stop := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(stop) }()
		readWhile(t, os.Getenv("LEADRELAY_TEST_READER"), stop)
		return
	}
	if os.Geteuid() != 0 { // then only root can give a file away: /etc/passwd stands in
		if _, err := Open(context.Background(), "sqlite:/etc/passwd", Options{}); err == nil || !strings.Contains(err.Error(), "sudo -u root leadrelay") {
			t.Errorf("error %v", err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "leadrelay-other-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	for _, f := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return os.Mkdir(dir+"/app", 0o755) },
		func() error { return os.Chown(dir+"/app", nobody, nobody) },
		func() error { return copyFile(os.Args[0], dir+"/reader.test") },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	path := dir + "/app/app.db"
	app, err := sqlx.Open("sqlite", "file:"+path+"?_journal_mode=WAL")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Exec("create table other (id integer)"); err != nil {
		t.Fatal(err)
	}
	app.Close()
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), "sqlite:"+path, Options{})
	if err == nil || !strings.Contains(err.Error(), "sudo -u nobody leadrelay") || IsUnavailable(err) {
		t.Errorf("error %v, want one that names the command", err)
	}
	if left, _ := filepath.Glob(path + "-*"); left != nil {
		t.Errorf("refusing it left %v", left)
	}
	applicationWrites(t, path, "WAL", func(stop <-chan struct{}) {
		c := exec.Command(dir+"/reader.test", "-test.run=^TestAnotherUsersFile$")
		c.Dir = dir
		c.Env = append(os.Environ(), "LEADRELAY_TEST_READER="+path)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		stdin, err := c.StdinPipe()
		if err != nil {
			t.Error(err)
			return
		}
		go func() { <-stop; stdin.Close() }()
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("the reader as nobody: %v\n%s", err, out)
		}
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// A restored file is put in the old one's place while we have that open.
func TestFileReplaced(t *testing.T) {
	t.Parallel()
	b := newSQLite(t, liteLeads)
	b.exec(addLead)
	s := b.stream(leads())
	at := b.end(s)
	wantKeys(t, "nothing new", b.drain(s, &at, 10))
	path := strings.TrimPrefix(b.dsn, "sqlite:")
	other := newSQLite(t, liteLeads)
	other.exec(addLead)
	other.exec(addLead)
	other.db.Close()
	other.exec("pragma journal_mode = delete")
	other.app.Close()
	b.app.Close()
	b.quiet(s, &at)
	for _, old := range []string{path + "-wal", path + "-shm"} { // as SQLite asks for whenever a file is replaced
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.Rename(strings.TrimPrefix(other.dsn, "sqlite:"), path); err != nil {
		t.Fatal(err)
	}
	woken(t, s, "another file")
	wantKeys(t, "its rows", b.drain(s, &at, 10), "2")
}

func TestSQLiteOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/text", []byte("this is no database, however long it may be, however it goes on and on"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"sqlite:":                 "a source is sqlite:PATH",
		"sqlite:" + dir:           "is a folder",
		"sqlite:" + dir + "/no":   "no such file",
		"sqlite:" + dir + "/text": "not a database",
		"mysql://x":               "a source is postgres://… or sqlite:PATH",
	} {
		_, err := Open(context.Background(), dsn, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || IsUnavailable(err) {
			t.Errorf("%s: error %v, want %q", dsn, err, want)
		}
	}
	if _, err := os.Stat(dir + "/no"); err == nil {
		t.Error("opening a missing file made one")
	}
}

func TestSQLiteOddPathAndReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "50% off? #1 ä.db")
	app, err := sqlx.Open("sqlite", path[:len(path)-len(filepath.Base(path))]+"plain.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Exec(liteLeads); err != nil {
		t.Fatal(err)
	}
	app.Close()
	if err := os.Rename(filepath.Join(filepath.Dir(path), "plain.db"), path); err != nil {
		t.Fatal(err)
	}
	db, err := Open(context.Background(), "sqlite:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Stream(context.Background(), leads()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.eng.(*sqlite).db.Exec(addLead); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a write through the source: %v", err)
	}
}

func TestSQLiteBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	app, err := sqlx.Open("sqlite", "file:"+path+"?_busy_timeout=0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if _, err := app.Exec(liteLeads); err != nil {
		t.Fatal(err)
	}
	db, err := Open(context.Background(), "sqlite:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := db.Stream(context.Background(), leads())
	if err != nil {
		t.Fatal(err)
	}
	pool := db.eng.(*sqlite).db
	pool.SetMaxOpenConns(1)
	if _, err := pool.Exec("pragma busy_timeout = 50"); err != nil { // not five seconds
		t.Fatal(err)
	}
	conn, err := app.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(context.Background(), "begin exclusive"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.After(context.Background(), "", 10); !IsUnavailable(err) {
		t.Errorf("error %v for a locked file", err)
	}
}
