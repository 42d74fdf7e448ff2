package verify_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/crmtest"
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
	{"verify.js", []string{"node", "testdata/vectors.js"}, serveIn(crmtest.Node)},
	{"verify.py", []string{"python3", "testdata/vectors.py"}, serveIn(crmtest.Python)},
	{"verify.php", []string{"php", "testdata/vectors.php"}, serveIn(crmtest.PHP)},
	{"verify.go", nil, serveGo},
}

func serveIn(language crmtest.Language) func(*testing.T, map[string][]string) string {
	return func(t *testing.T, keys map[string][]string) string { return crmtest.Start(t, language, keys).URL }
}

// TestRecipesOnVectors lets each recipe judge every vector. Where the receiver has no key, or an empty one, it must not only
// refuse: it must say what is wrong.
func TestRecipesOnVectors(t *testing.T) {
	vectors := makeVectors(t)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var got []any // true, false, or what is wrong
			if r.vectors == nil {
				for _, v := range vectors {
					h := http.Header{}
					for name, value := range v.Headers {
						h.Set(name, value)
					}
					s := verify.Dialects[v.Dialect]
					if own := v.Signature; own != nil {
						s = verify.Signature{Form: own.Form, Header: own.Header, Prefix: own.Prefix, Key: own.Key}
					}
					ok, err := verify.Verify(s, h, []byte(v.Body), v.Keys, time.Unix(v.Now, 0), tolerance*time.Second)
					if err != nil {
						got = append(got, err.Error())
						continue
					}
					got = append(got, ok)
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
				if text, wrong := got[i].(string); mistaken(&v) {
					if !wrong || !strings.Contains(text, "sign key is") {
						t.Errorf("%s: %v, want what is wrong with the key", v.Name, got[i])
					}
				} else if got[i] != v.Valid {
					t.Errorf("%s: %v, want %t", v.Name, got[i], v.Valid)
				}
			}
		})
	}
}

// TestRecipesOnRequests pushes to a server of each recipe, as the daemon does: what is signed with the receiver's key is
// taken, and while a key is rotated receivers with the old and with the new key both get the record.
func TestRecipesOnRequests(t *testing.T) {
	keys := map[string][]string{}
	builtIn := slices.DeleteFunc(signedDialects(), func(name string) bool { return ownSignatures[name] != nil })
	for _, dialect := range builtIn {
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
			for _, dialect := range builtIn {
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
		handler, err := verify.Handler(verify.Dialects[dialect], keys, taken)
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle("/"+path, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// TestMiddlewareRefusesEmptyKeys: a server that was not given its key does not start.
func TestMiddlewareRefusesEmptyKeys(t *testing.T) {
	if _, err := verify.Handler(verify.Dialects["smarterbot"], []string{""}, http.NotFoundHandler()); err == nil {
		t.Error("verify.go mounts a handler with an empty key")
	}
	out, err := exec.Command("node", "-e", `require("./verify.js").middleware("smarterbot", [process.env.NOT_SET])`).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a sign key is empty") {
		t.Errorf("verify.js mounts a middleware with an empty key: %v %s", err, out)
	}
}

// TestRecipesNameUnknownSignatures: a dialect that is misspelled, does not sign, or is one of the operator's own by its name
// alone is a mistake of the receiver's program, and no request is to blame.
func TestRecipesNameUnknownSignatures(t *testing.T) {
	if _, err := verify.Verify(verify.Dialects["own"], http.Header{}, nil, []string{"K"}, time.Now(), 0); err == nil {
		t.Error("verify.go takes a signature without a header")
	}
	for name, args := range map[string][]string{
		"verify.js":  {"node", "-e", `require("./verify.js").verify("own", {}, Buffer.from(""), ["K"])`},
		"verify.py":  {"python3", "-B", "-c", `import verify; verify.verify("own", {}, b"", ["K"])`},
		"verify.php": {"php", "-r", `require "verify.php"; leadrelay_verify("own", [], "", ["K"]);`},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "own is no signed dialect") {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}
