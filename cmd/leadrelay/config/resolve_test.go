package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// testEnv has a value of every kind; all are secret.
func testEnv() *Env {
	vars := map[string]string{
		"KEY": "hunter2", "EMPTY": "", "BLANK": " \n", "URL": "https://crm.example.com/hunter2", "LINES": "hunter2\nhunter2",
		"YAML": "[hunter2, {a: b}]", "REF": "${KEY}", "DB": "postgres://u:hunter2@db/x", "HOST": "hunter2.example.com",
		"WORD": "hunter2", "TYPE": "Lead", "USERINFO": "user:hunter2",
	}
	files := map[string]string{
		"/cred/key": "hunter2-cred\n", "/etc/key": "hunter2-etc\n\n", "both.key": "hunter2",
		"/cred/pw": "h/u@n:t%er?2#hunter2 +\r\n", "/cred/big": strings.Repeat("hunter2", 20_000),
	}
	return &Env{
		CredentialsDir: "/cred",
		Lookup: func(name string) (string, bool) {
			v, ok := vars[name]
			return v, ok
		},
		ReadFile: func(path string) ([]byte, error) {
			if path == "/cred/denied" {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
			}
			if path == "/cred/odd" {
				return nil, fmt.Errorf("read of hunter2: input/output error")
			}
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ name, written, want string }{
		{"no reference", `abc`, "abc"},
		{"a name", `${KEY}`, "hunter2"},
		{"among text", `a-${KEY}-${KEY}b`, "a-hunter2-hunter2b"},
		{"a literal", `a$${KEY}`, "a${KEY}"},
		{"dollars", `$a$$b$$$${KEY}$`, "$a$$b$$${KEY}$"},
		{"a literal before a reference", `$${${KEY}}`, "${hunter2}"},
		{"a file in the credentials", `${file:key}`, "hunter2-cred"},
		{"an absolute file, one line feed off", `${file:/etc/key}${file:both.key}`, ""},
		{"not expanded again", `${REF}`, "${KEY}"},
		{"not read as YAML", `${YAML}`, "[hunter2, {a: b}]"},
		{"in single quotes", `'${KEY}'`, "hunter2"},
		{"in double quotes", `"\u0024{KEY}"`, "hunter2"},
		{"in a folded text", ">-\n      ${KEY}\n      x", "hunter2 x"},
	} {
		if c.want == "" {
			continue // judged by a mistake
		}
		t.Run(c.name, func(t *testing.T) {
			text := smallestFile + "    sign_key: " + c.written + "\n"
			if got := mustResolve(t, mustParse(t, "/srv/c.yaml", text), *testEnv()).Webhooks[0].SignKey.Reveal(); got != c.want {
				t.Errorf("%s is %q, want %q", c.written, got, c.want)
			}
		})
	}
}

func TestExpandFiles(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(dir, "both"): "beside", filepath.Join(credentials, "both"): "credential\n",
		filepath.Join(dir, "here"): "a\n\n", filepath.Join(dir, "crlf"): "a\r\n", filepath.Join(dir, "none"): "a",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(smallestFile, "chatbot: bot1", "chatbot: x", 1) +
		"    headers: {A: \"${file:both}\", C: \"${file:crlf}\", N: \"${file:none}\", X: \"${file:" + dir + "/both}\"}\n" +
		"    description: ${file:here}\n"
	c := mustParse(t, filepath.Join(dir, "c.yaml"), text)
	for _, at := range []struct {
		credentials, want string
	}{{"", "beside"}, {credentials, "credential"}, {filepath.Join(dir, "gone"), "beside"}} {
		got := mustResolve(t, c, Env{ReadFile: os.ReadFile, CredentialsDir: at.credentials}).Webhooks[0]
		want := map[string]jobs.Secret{"A": jobs.Secret(at.want), "C": "a", "N": "a", "X": "beside"}
		if diff := cmp.Diff(want, got.Headers, plain); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if got.Description != "a\n" {
			t.Errorf("of two line feeds one goes: %q", got.Description)
		}
	}
}

func TestDatabasePasswords(t *testing.T) {
	const pw = "h%2Fu%40n%3At%25er%3F2%23hunter2%20%2B"
	for _, c := range []struct{ name, source, want string }{
		{"the password", "postgres://reader:${file:pw}@db.internal/chatbots", "postgres://reader:" + pw + "@db.internal/chatbots"},
		{"part of it", "postgres://reader:a${file:pw}b${KEY}@db/x", "postgres://reader:a" + pw + "bhunter2@db/x"},
		{"user and password", "postgres://${WORD}:${file:pw}@${HOST}/x", "postgres://hunter2:" + pw + "@hunter2.example.com/x"},
		{"both in one", "postgres://${USERINFO}@db/x", "postgres://user:hunter2@db/x"},
		{"the whole", "${DB}", "postgres://u:hunter2@db/x"},
		{"a query", "postgres://u:p@db/x?password=${KEY}&application_name=a:${WORD}@x", "postgres://u:p@db/x?password=hunter2&application_name=a:hunter2@x"},
		{"a file", "sqlite:${WORD}/a.db", "sqlite:/srv/hunter2/a.db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(smallestFile, "sqlite:chatbots.db", c.source, 1)
			if got := mustResolve(t, mustParse(t, "/srv/c.yaml", text), *testEnv()).Source.Reveal(); got != c.want {
				t.Errorf("source is %s, want %s", got, c.want)
			}
		})
	}
}

// TestLoadNeedsNoSecrets: what a reference stands for is not asked for, nor judged, before Resolve.
func TestLoadNeedsNoSecrets(t *testing.T) {
	const text = `source: ${NOT_SET}
ledger: sqlite:${NOT_SET}
timezone: ${ZONE}
schedule: ${SCHEDULE}
streams: [{type: "${T}", table: "${T}", fields: {FirstName: "${T}", SessionID: {const: "${T}"}}, cursor: "${C}"}]
webhooks:
  - {id: "${ID}", chatbot: "${BOT}", url: "${URL}", sign_key: "${K}", types: ["${T}"], dialect: "${D}", schedule: "${S}",
     timezone: "${TZ}", ack: ["${A}"], headers: {A: "${A}"}, from: "${F}", description: "${D}"}
  - {chatbot: "${BOT}", url: "${URL}"}
  - {chatbot: "${BOT}", url: "${URL}"}
http: {proxy: "${P}", ca_file: "${CA}", allow_cidrs: ["${N}"], client_cert_file: "${CC}", client_key_file: "${CK}"}
admin: {listen: "${L}"}
`
	c := mustParse(t, "c.yaml", text)
	if got := c.Webhooks[0].SignKey.Reveal(); got != "${K}" {
		t.Errorf("the unresolved sign key is %s, want it as written", got)
	}
	_, err := c.Resolve(Env{})
	if err == nil {
		t.Fatal("resolved without an environment")
	}
	lines := strings.Split(err.Error(), "\n")
	if !slices.Contains(lines, "c.yaml:1:9: source: ${NOT_SET} is not set in the environment") || len(lines) != 31 {
		t.Errorf("%d mistakes:\n%s", len(lines), err)
	}
}

func TestResolveSomeKeys(t *testing.T) {
	const text = `source: ${NOT_SET}
ledger: sqlite:/srv/${WORD}.db
webhooks:
  - {id: a, chatbot: b, url: "https://crm.example.com/", sign_key: "${NOT_SET}"}
`
	c := mustParse(t, "/srv/c.yaml", text)
	r, err := c.Resolve(*testEnv(), "ledger")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Ledger.Reveal(); got != "sqlite:/srv/hunter2.db" {
		t.Errorf("ledger is %s", got)
	}
	if got := r.Source.Reveal(); got != "${NOT_SET}" {
		t.Errorf("source is %s, want it as written", got)
	}
	_, err = c.Resolve(*testEnv(), "ledger", "webhooks")
	if want := "/srv/c.yaml:4:68: webhooks[0].sign_key: ${NOT_SET} is not set in the environment"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestManyReferences(t *testing.T) {
	text := strings.Replace(smallestFile, "sqlite:chatbots.db", strings.Repeat("${A}", 100_000), 1)
	if got, want := mistakesOf([]byte(text), nil), "c.yaml:1:9: source: more than 100 references in one text\n"; got != want {
		t.Errorf("mistakes are %s, want %s", got, want)
	}
}
