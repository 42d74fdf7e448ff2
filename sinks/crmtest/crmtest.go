// Package crmtest starts CRMs that are not written in Go, for tests: processes that verify what comes with the recipes in
// sinks/verify, or as the vendor's page says. They need node, python3 and php on PATH; where one is not there the test
// fails, it does not skip.
//
// A CRM is told in $KEYS, as JSON, which keys each path has, {"DIALECT/WHICH": [key, …]}, and writes a line for each
// request that verifies into the file $TAKEN: {"path", "id", "body" in base64}. It answers those {"status":"success"}. A
// CRM by the vendor's page writes one for what it refuses too, with "refused": true.
package crmtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Language is what a CRM is written in, and by what it verifies.
type Language string

const (
	Node   Language = "node"   // by verify.js, as Express's middleware; refuses with 401
	Python Language = "python" // by verify.py; refuses with 401
	PHP    Language = "php"    // by verify.php, under PHP's own web server; refuses with 401
	Vendor Language = "vendor" // in Node, by the recipe on smarterbot's page, and a body must be what JSON.stringify makes of it; refuses with another status word
)

// A CRM is a running one.
type CRM struct {
	URL   string // ends with a slash; a path of keys comes behind it
	t     testing.TB
	taken string
}

// A Taken request is one that verified.
type Taken struct {
	Path string `json:"path"` // as in keys
	ID   string `json:"id"`   // X-Webhook-Id
	Body []byte `json:"body"`
}

type line struct {
	Taken
	Refused bool `json:"refused"`
}

// Start starts a CRM with these keys by path, which ends with the test.
func Start(t testing.TB, language Language, keys map[string][]string) *CRM {
	t.Helper()
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	c := &CRM{t: t, taken: filepath.Join(t.TempDir(), "taken")}
	env := append(os.Environ(), "KEYS="+string(text), "TAKEN="+c.taken)
	here := filepath.Join(root(t), "sinks", "crmtest")
	switch language {
	case Node:
		c.URL = serve(t, env, "node", filepath.Join(here, "recipe.js"))
	case Python:
		c.URL = serve(t, env, "python3", filepath.Join(here, "recipe.py"))
	case PHP:
		c.URL = servePHP(t, env, filepath.Join(here, "recipe.php"))
	case Vendor:
		c.URL = serve(t, env, "node", filepath.Join(here, "vendor.js"))
	default:
		t.Fatalf("there is no CRM in %q", language)
	}
	return c
}

// Taken returns what verified until now, in the order in which it came.
func (c *CRM) Taken() (all []Taken) {
	c.t.Helper()
	for _, l := range c.lines() {
		if !l.Refused {
			all = append(all, l.Taken)
		}
	}
	return all
}

// Refused counts the requests that a CRM by the vendor's page refused.
func (c *CRM) Refused() (n int) {
	c.t.Helper()
	for _, l := range c.lines() {
		if l.Refused {
			n++
		}
	}
	return n
}

func (c *CRM) lines() (all []line) {
	c.t.Helper()
	text, err := os.ReadFile(c.taken)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	for text := range bytes.Lines(text) {
		if !bytes.HasSuffix(text, []byte("\n")) {
			break // it is being written
		}
		var one line
		if err := json.Unmarshal(text, &one); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// root finds the repository from a test's folder.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// serve starts a server that prints its port and ends with its standard input, so that it ends with the test binary,
// whatever becomes of that.
func serve(t testing.TB, env []string, name string, args ...string) (url string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is needed to run a CRM: %v", name, err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port) + "/"
}

// servePHP starts PHP's own web server, which has to be told its port.
func servePHP(t testing.TB, env []string, script string) (url string) {
	t.Helper()
	for range 5 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		_ = free.Close()
		cmd := exec.Command("php", "-q", "-S", address, script)
		cmd.Env = env
		if err := cmd.Start(); err != nil {
			t.Fatalf("php is needed to run a CRM: %v", err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
		if listens(address, ended) {
			return "http://" + address + "/"
		}
	}
	t.Fatal("PHP's web server does not start")
	return ""
}

// listens waits for a server that was started; false: it ended.
func listens(address string, ended <-chan struct{}) bool {
	for range 300 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}
