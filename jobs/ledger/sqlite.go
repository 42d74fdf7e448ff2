package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A transaction that waits for another process's gives up after this.
const busyTimeout = 10 * time.Second

func (l *Ledger) openSQLite(ctx context.Context, path string, opts Options) error {
	if l.clock == nil {
		l.clock = time.Now
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := claimFile(path, opts.Create); err != nil {
		return err
	}
	// synchronous=full: a commit is on the disk when it returns. With `normal` a power cut takes back the last
	// commits, many settled batches, and more would be sent again than what was in flight. It costs one fsync a
	// batch.
	address := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_txlock=immediate" +
		"&_pragma=busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")" +
		"&_pragma=journal_mode(wal)&_pragma=secure_delete(fast)&_pragma=synchronous(full)&_pragma=foreign_keys(1)&_pragma=temp_store(memory)" +
		"&_pragma=journal_size_limit(67108864)"
	if l.write, err = sql.Open("sqlite", address); err != nil {
		return err
	}
	l.write.SetMaxOpenConns(1)
	l.at = address + "&_pragma=query_only(1)"
	if l.read, err = sql.Open("sqlite", l.at); err != nil {
		return err
	}
	l.read.SetMaxOpenConns(4)
	ours, others, err := l.made(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("open the ledger %s: %w", path, err)
	case !ours && others:
		return fmt.Errorf("%s: %w", path, ErrNotLedger)
	case !ours && !opts.Create:
		return fmt.Errorf("%s: %w", path, ErrNoLedger)
	}
	if err := l.migrate(ctx); err != nil {
		return fmt.Errorf("bring the ledger %s up to date: %w", path, err)
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	file, err := os.Stat(path) // last: on some file systems opening it for writing makes another file of it
	if err != nil {
		return err
	}
	l.path, l.file = path, file
	return nil
}

// there makes sure that path still leads to the file that is open. What is written to one that was deleted or replaced is
// gone when this process ends, and whoever opens the ledger next sends it all again or, with `from: now`, never.
func (l *Ledger) there() error {
	if l.file == nil {
		return nil
	}
	now, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, l.file) {
		return fmt.Errorf("%s: %w", l.path, errReplaced)
	}
	return nil // a path that cannot be looked at says nothing
}

// claimFile makes sure that the file is there and ours. SQLite gives -wal and -shm the file's own mode, so a file
// that is made here with 0600 keeps all three private.
func claimFile(path string, create bool) error {
	info, err := os.Stat(path)
	if err == nil {
		return owned(path, info)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !create {
		return fmt.Errorf("%s: %w", path, ErrNoLedger)
	}
	folder := filepath.Dir(path)
	if info, err = os.Stat(folder); err != nil {
		return fmt.Errorf("make the ledger %s: its folder: %w", path, err)
	}
	// Root could make a file in a service's folder that the service then cannot open.
	if os.Geteuid() == 0 {
		if err := owned(folder, info); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) { // another process came first
		return claimFile(path, false)
	}
	if err != nil {
		return fmt.Errorf("make the ledger: %w", err)
	}
	return f.Close()
}

func owned(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	owner := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return &OwnerError{Path: path, Owner: owner}
}
