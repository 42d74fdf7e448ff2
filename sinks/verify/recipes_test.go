package verify_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recipe is one of this folder's files.
type recipe struct {
	name    string
	vectors []string // the command that judges vectors.json; none: Go's own
	serve   func(t *testing.T, keys map[string][]string) (url string)
}

var recipes = []recipe{
	{"verify.js", []string{"node", "testdata/vectors.js"}, func(t *testing.T, keys map[string][]string) string {
		return serveCommand(t, "node", "testdata/server.js", encode(keys))
	}},
	{"verify.py", []string{"python3", "testdata/vectors.py"}, func(t *testing.T, keys map[string][]string) string {
		return serveCommand(t, "python3", "testdata/server.py", encode(keys))
	}},
	{"verify.php", []string{"php", "testdata/vectors.php"}, servePHP},
	{"verify.go", nil, serveGo},
}

func encode(keys map[string][]string) string {
	text, err := json.Marshal(keys)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestRecipesOnVectors lets each recipe judge every vector.
func TestRecipesOnVectors(t *testing.T) {
	vectors := makeVectors(t)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var got []bool
			if r.vectors == nil {
				for _, v := range vectors {
					h := http.Header{}
					for name, value := range v.Headers {
						h.Set(name, value)
					}
					got = append(got, verify.Verify(v.Dialect, h, []byte(v.Body), v.Keys, time.Unix(v.Now, 0), tolerance*time.Second))
				}
			} else {
				cmd := exec.Command(r.vectors[0], r.vectors[1:]...)
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s is needed to run its recipe: %v", r.vectors[0], err)
				}
				if err := json.Unmarshal(out, &got); err != nil {
					t.Fatalf("%v in %q", err, out)
				}
			}
			if len(got) != len(vectors) {
				t.Fatalf("%d verdicts on %d vectors", len(got), len(vectors))
			}
			for i, v := range vectors {
				if got[i] != v.Valid {
					t.Errorf("%s: %t, want %t", v.Name, got[i], v.Valid)
				}
			}
		})
	}
}

// TestRecipesOnRequests pushes to a server of each recipe, as the daemon does: what is signed with the receiver's key is
// taken, and while a key is rotated receivers with the old and with the new key both get the record.
func TestRecipesOnRequests(t *testing.T) {
	keys := map[string][]string{}
	for _, dialect := range signedDialects() {
		newKey, oldKey, other := keysOf(dialect)
		keys[dialect+"/new"], keys[dialect+"/old"] = []string{newKey}, []string{oldKey}
		keys[dialect+"/both"], keys[dialect+"/other"] = []string{other, newKey, oldKey}, []string{other}
	}
	h, err := sinks.New(sinks.Options{AllowHTTP: true, AllowPrivate: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	rec := &jobs.Record{
		Type: "Lead", Chatbot: "59001dd73709417321c58b11693183a2", Created: time.Unix(sentAt, 123456000),
		Fields: []jobs.Field{
			{Name: "FirstName", Value: "Zdeňka 👩‍👩‍👧"},
			{Name: "Content", Value: "</script>\u2028é/\\\"\n\x00\xff"},
			{Name: "SessionID", Value: int64(31305)},
		},
	}
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			url := r.serve(t, keys)
			for _, dialect := range signedDialects() {
				newKey, oldKey, _ := keysOf(dialect)
				push := func(which, key, old string) (attempts int) {
					w := &jobs.Webhook{URL: jobs.Secret(url + dialect + "/" + which), Dialect: dialect, SignKey: jobs.Secret(key), OldKey: jobs.Secret(old)}
					body, err := h.Encode(w, rec, time.Time{})
					if err != nil {
						t.Fatal(err)
					}
					id := uuid.New()
					for attempts = 1; attempts <= 3; attempts++ {
						_, err := h.Push(t.Context(), jobs.Request{Webhook: w, ID: id, Body: body, Attempt: attempts})
						var refusal *jobs.RefusedError
						switch {
						case err == nil:
							return attempts
						case !errors.As(err, &refusal) || refusal.Reason != "http_401":
							t.Fatalf("%s/%s: %v", dialect, which, err)
						}
					}
					return 0
				}
				second := 1
				if dialect != "smarterbot" && dialect != "standard-webhooks" {
					second = 2
				}
				for _, tt := range []struct {
					which, key, old string
					attempts        int // after which the record was taken; 0: never
				}{
					{"new", newKey, "", 1},
					{"both", newKey, "", 1},
					{"old", newKey, "", 0},
					{"new", newKey, oldKey, second},
					{"old", newKey, oldKey, 1},
					{"both", newKey, oldKey, 1},
					{"other", newKey, oldKey, 0},
				} {
					if got := push(tt.which, tt.key, tt.old); got != tt.attempts {
						t.Errorf("%s, a receiver with its %s key, rotation: %t: taken at attempt %d, want %d", dialect, tt.which, tt.old != "", got, tt.attempts)
					}
				}
			}
		})
	}
}

func serveGo(t *testing.T, keys map[string][]string) string {
	mux := http.NewServeMux()
	taken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || !json.Valid(body) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{"status":"success"}`)
	})
	for path, keys := range keys {
		dialect, _, _ := strings.Cut(path, "/")
		mux.Handle("/"+path, verify.Handler(dialect, keys, taken))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// serveCommand starts a server that prints its port and ends with its standard input.
func serveCommand(t *testing.T, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is needed to run its recipe: %v", name, err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port) + "/"
}

// servePHP starts PHP's own web server, which has to be told its port.
func servePHP(t *testing.T, keys map[string][]string) string {
	for range 5 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		free.Close()
		cmd := exec.Command("php", "-q", "-S", address, "testdata/server.php")
		cmd.Env = append(os.Environ(), "KEYS="+encode(keys))
		if err := cmd.Start(); err != nil {
			t.Fatalf("php is needed to run its recipe: %v", err)
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
			conn.Close()
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
