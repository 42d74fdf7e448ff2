package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Standby makes a hot standby of s, which follows it by streaming replication and answers queries; end it with Remove.
func (s *Server) Standby() (*Server, error) {
	root, err := os.MkdirTemp("", "leadrelay-pg-")
	if err != nil {
		return nil, err
	}
	standby := &Server{bin: s.bin, cred: s.cred, data: filepath.Join(root, "data")}
	fail := func(err error) (*Server, error) { return nil, errors.Join(err, os.RemoveAll(root)) }
	if s.cred != nil {
		if err := os.Chown(root, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return fail(err)
		}
	}
	out, err := standby.command("pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "postgres",
		"-D", standby.data, "-R", "-X", "stream", "-c", "fast", "--no-sync").CombinedOutput()
	if err != nil {
		return fail(fmt.Errorf("pg_basebackup: %w: %s", err, out))
	}
	if standby.port, err = freePort(); err != nil {
		return fail(err)
	}
	if err := standby.Run(); err != nil {
		return fail(err)
	}
	return standby, nil
}
