package pgtest

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"
)

// A Pooler is a pgbouncer in transaction mode before a cluster: between two transactions a client has no connection to
// the server. It takes no start-up parameters but those that it follows by itself.
type Pooler struct {
	root string
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// Pooled makes an empty database as Database does, and returns a URL that leads to it by way of the shared cluster's
// pooler, and one that does not. The pooler has two connections to each database.
func Pooled(t testing.TB) (pooled, direct string) {
	t.Helper()
	direct = Database(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.pooler == nil {
		p, err := shared.server.Pooler(2)
		if err != nil {
			t.Fatalf("start pgbouncer: %v", err)
		}
		shared.pooler = p
	}
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	return shared.pooler.URL(u.Path[1:]), direct
}

// Pooler starts a pgbouncer before s that keeps at most size connections to each database; end it with Remove. It lets in
// postgres and these users, without asking for a password, and has theirs for the server.
func (s *Server) Pooler(size int, users ...*url.Userinfo) (*Pooler, error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil { // most users' PATH is without it
		if bin, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return nil, errors.New("no pgbouncer: install Debian's package of that name")
		}
	}
	p := &Pooler{}
	if p.root, err = os.MkdirTemp("", "leadrelay-pgbouncer-"); err != nil {
		return nil, err
	}
	if err := p.start(s, bin, size, users); err != nil {
		p.Remove()
		return nil, fmt.Errorf("%w: %s", err, p.log.String())
	}
	return p, nil
}

func (p *Pooler) start(s *Server, bin string, size int, users []*url.Userinfo) (err error) {
	if p.port, err = freePort(); err != nil {
		return err
	}
	auth, settings := filepath.Join(p.root, "users"), filepath.Join(p.root, "pgbouncer.ini")
	var known strings.Builder
	for _, u := range append(users, url.User("postgres")) {
		password, _ := u.Password()
		fmt.Fprintf(&known, "%s %s\n", pq.QuoteIdentifier(u.Username()), pq.QuoteIdentifier(password)) // quotes are doubled there, too
	}
	// Each test has a database: connections that were kept for the ended ones would use up the server's.
	ini := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
server_idle_timeout = 5
log_connections = 0
log_disconnections = 0
`, s.port, p.port, auth, size)
	for path, text := range map[string]string{auth: known.String(), settings: ini} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(p.root, 0o755); err != nil { // pgbouncer refuses to run as root
		return err
	}
	p.cmd = exec.Command(bin, settings)
	p.cmd.Dir = p.root
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	db, err := sql.Open("postgres", p.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// URL is the address of a database of the cluster, by way of the pooler.
func (p *Pooler) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", p.port, database)
}

// Remove ends the pooler, whose clients lose their connections.
func (p *Pooler) Remove() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // its exit status says nothing after a signal
	}
	_ = os.RemoveAll(p.root)
}
