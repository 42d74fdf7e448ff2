package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What befalls databases that are files.
var fileFaults = []fault{
	{name: "locked", unnoticed: 12 * time.Second, long: 15 * time.Second, begin: lockedFile},
	{name: "locked for long", on: []string{"both"}, long: 75 * time.Second, begin: lockedFile},
	{name: "written all the time", long: 5 * time.Second, milder: true, begin: func(h *host) func() {
		db := h.open()
		n := 0
		end := repeatedly(time.Millisecond, func() {
			n++
			_, _ = db.Exec(fmt.Sprintf("pragma user_version = %d", n))
		})
		return func() {
			end()
			_ = db.Close()
		}
	}},
	{name: "moved away", long: 5 * time.Second, short: time.Second, begin: movedAway},
	{name: "moved away for long", on: []string{"both"}, long: 75 * time.Second, begin: movedAway},
	{name: "on a full disk", long: 10 * time.Second, on: []string{"ledger"}, begin: diskFull},
	{name: "on a full disk for long", long: 75 * time.Second, on: []string{"ledger"}, begin: diskFull},
}

// open opens the file as another program.
func (h *host) open() *sql.DB {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.file+"?mode=rw&_pragma=busy_timeout(20000)")
	if err != nil {
		h.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// lockedFile has another program hold the file's locks.
func lockedFile(h *host) func() {
	db := h.open()
	if _, err := db.Exec("begin exclusive"); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		if _, err := db.Exec("rollback"); err != nil {
			h.t.Error(err)
		}
		_ = db.Close()
	}
}

func movedAway(h *host) func() {
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			h.t.Error(err)
		}
	}
	move(h.file, h.file+".away")
	return func() { move(h.file+".away", h.file) }
}

// diskFull fills the disk that the file is on to the last byte.
func diskFull(h *host) func() {
	path := filepath.Join(filepath.Dir(h.file), "junk")
	junk, err := os.Create(path)
	if err != nil {
		h.t.Fatal(err)
	}
	fill := func() {
		for size := 1 << 20; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = junk.Write(make([]byte, size))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				h.t.Error(err)
				return
			}
		}
	}
	fill()
	end := repeatedly(100*time.Millisecond, fill) // what comes free as well
	return func() {
		end()
		_ = junk.Close()
		if err := os.Remove(path); err != nil {
			h.t.Error(err)
		}
	}
}

// smallDisk makes a small file system for the ledger, which the program and its test have for themselves: as root by
// mounting one, else in namespaces of its own, which the program's commands are then run in. The file is where the test
// finds it; the program has it at path.
func smallDisk(t *testing.T, s *site, dir string) (file, path string) {
	t.Helper()
	const size = "size=24m"
	path = filepath.Join(dir, "ledger.db")
	err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, size)
	if err == nil {
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		return path, path
	}
	if !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs -o `+size+` none "$0" && echo mounted && exec cat`, dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	holder.Stderr = os.Stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = holder.Wait()
	})
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("this user may neither mount a file system nor make namespaces to do so in, and a full disk cannot be tried: %q, %v", said, err)
	}
	pid := fmt.Sprint(holder.Process.Pid)
	s.through = []string{"nsenter", "--preserve-credentials", "--user", "--mount", "--target", pid, "sh", "-c", `cd "$0" && exec "$@"`, s.dir}
	return filepath.Join("/proc", pid, "root", path), path
}
