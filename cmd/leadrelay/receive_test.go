package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// cli runs the program as its user does.
func cli(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestSignAndVerify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(file, []byte(`{"a":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	header := "X-Webhook-Signature: " + sinks.Sign("K", time.Unix(1492774577, 0), []byte(`{"a":1}`))
	value := strings.TrimPrefix(header, "X-Webhook-Signature: ")
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		out   string
		err   string
	}{
		{"sign a file", "", []string{"sign", "--key", "K", "--time", "1492774577", file}, 0, header + "\n", ""},
		{"sign standard input", `{"a":1}`, []string{"sign", "--key", "K", "--time", "2017-04-21T11:36:17Z", "-"}, 0, header + "\n", ""},
		{"sign as JSON", "", []string{"sign", "--json", "--key", "K", "--time", "1492774577", file}, 0, `"value": "` + value + `"`, ""},
		{"verify", "", []string{"verify", "--key", "K", "--header", header, file}, 0, "verifies", ""},
		{"verify a value", "", []string{"verify", "--key", "K", "--header", value, file}, 0, "verifies", ""},
		{"verify by one of two keys", "", []string{"verify", "--key", "J", "--key", "K", "--header", value, file}, 0, "verifies", ""},
		{"verify as JSON", "", []string{"verify", "--json", "--key", "K", "--header", value, file}, 0, `"ok": true`, ""},
		{"another key", "", []string{"verify", "--key", "J", "--header", header, file}, 1, "", "another key signed it"},
		{"another key as JSON", "", []string{"verify", "--json", "--key", "J", "--header", header, file}, 1, `"ok": false`, ""},
		{"a line break behind", "{\"a\":1}\r\n", []string{"verify", "--key", "K", "--header", header, "-"}, 1, "", "without the line break"},
		{"too old", "", []string{"verify", "--key", "K", "--header", header, "--tolerance", "5m", file}, 1, "", "too far from now"},
		{"no header", "", []string{"verify", "--key", "K", "--header", "abc", file}, 1, "", "is not t="},
		{"no file", "", []string{"verify", "--key", "K", "--header", header, file + "x"}, 1, "", "no such file"},
		{"no key", "", []string{"sign", file}, 2, "", "no sign key: --key-file, $LEADRELAY_SIGN_KEY and --key are not set"},
		{"an empty key", "", []string{"sign", "--key", "", file}, 2, "", "--key: is empty"},
		{"an empty key to verify", "", []string{"verify", "--key", "", "--header", header, file}, 2, "", "--key: is empty"},
		{"two files", "", []string{"sign", "--key", "K", file, file}, 2, "", "accepts 1 arg"},
		{"a time that is none", "", []string{"sign", "--key", "K", "--time", "soon", file}, 2, "", "unix seconds"},
		{"a negative tolerance", "", []string{"verify", "--key", "K", "--header", header, "--tolerance", "-1s", file}, 2, "", "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := cli(t, tt.stdin, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) {
				t.Errorf("exit %d, want %d\n%s%s", code, tt.code, out, errs)
			}
		})
	}
}

// TestSignKeysOffTheCommandLine: a file or the environment gives the key, and no warning; on the command line it is warned of.
func TestSignKeysOffTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	body, right, other, empty := write("body.json", `{"a":1}`), write("right", "K\r\n"), write("other", "J\n"), write("empty", "\n")
	value := sinks.Sign("K", time.Unix(1492774577, 0), []byte(`{"a":1}`))
	const warning = "other users of this machine see a key"
	for _, tt := range []struct {
		name, variable string
		args           []string
		code           int
		says, saysNot  string
	}{
		{"sign by a file", "", []string{"sign", "--key-file", right, "--time", "1492774577", body}, 0, value, warning},
		{"sign by the environment", "K", []string{"sign", "--time", "1492774577", body}, 0, value, warning},
		{"sign by a key", "J", []string{"sign", "--key", "K", "--time", "1492774577", body}, 0, value, "J"},
		{"sign by a key, which is warned of", "", []string{"sign", "--key", "K", "--time", "1492774577", body}, 0, warning, "key=K"},
		{"sign during a rotation", "", []string{"sign", "--key-file", other, "--key-file", right, "--time", "1492774577", body}, 0, strings.TrimPrefix(value, "t=1492774577"), warning},
		{"verify by a file", "J", []string{"verify", "--key-file", right, "--header", value, body}, 0, "verifies", warning},
		{"verify by one of two files", "", []string{"verify", "--key-file", other, "--key-file", right, "--header", value, body}, 0, "verifies", warning},
		{"verify by the environment", "K", []string{"verify", "--header", value, body}, 0, "verifies", warning},
		{"verify by another's file", "", []string{"verify", "--key-file", other, "--header", value, body}, 1, "another key signed it", warning},
		{"verify by a key, which is warned of", "", []string{"verify", "--key", "K", "--header", value, body}, 0, warning, "key=K"},
		{"an empty file", "", []string{"verify", "--key-file", empty, "--header", value, body}, 2, "is empty", warning},
		{"an empty variable", " ", []string{"verify", "--header", value, body}, 2, "$LEADRELAY_SIGN_KEY: is empty", warning},
		{"no such file", "", []string{"verify", "--key-file", right + "x", "--header", value, body}, 1, "--key-file: open", warning},
		{"receive by a file that is empty", "", []string{"receive", "--listen", "127.0.0.1:0", "--key-file", empty}, 2, "is empty", warning},
		{"receive by a file", "", []string{"receive", "--listen", "256.0.0.1:x", "--key-file", right}, 1, "--listen", warning},
		{"receive by the environment", "K", []string{"receive", "--listen", "256.0.0.1:x"}, 1, "--listen", warning},
		{"receive by a key, which is warned of", "", []string{"receive", "--listen", "256.0.0.1:x", "--sign-key", "K"}, 1, warning, "key=K"},
		{"receive what is not signed", "K", []string{"receive", "--listen", "256.0.0.1:x", "--dialect", "userback"}, 1, "--listen", "does not sign"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.variable != "" {
				t.Setenv("LEADRELAY_SIGN_KEY", tt.variable)
			}
			code, out, errs := cli(t, "", tt.args...)
			if code != tt.code || !strings.Contains(out+errs, tt.says) || strings.Contains(out+errs, tt.saysNot) {
				t.Errorf("exit %d, want %d, and to read %q and not %q\n%s%s", code, tt.code, tt.says, tt.saysNot, out, errs)
			}
		})
	}
}

func TestReceiveUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"not set":   {"receive", "--listen", "127.0.0.1:0"},
		"no answer": {"receive", "--listen", "127.0.0.1:0", "--sign-key", "K", "--answer", "nosuch"},
		"is empty":  {"receive", "--listen", "127.0.0.1:0", "--sign-key", ""},
		"negative":  {"receive", "--listen", "127.0.0.1:0", "--sign-key", "K", "--tolerance", "-1s"},
	} {
		if code, _, errs := cli(t, "", args...); code != exitUsage || !strings.Contains(errs, name) {
			t.Errorf("%s: exit %d\n%s", name, code, errs)
		}
	}
	if code, _, errs := cli(t, "", "receive", "--listen", "256.0.0.1:x", "--sign-key", "K"); code != exitFailed || !strings.Contains(errs, "--listen") {
		t.Errorf("a wrong address: exit %d\n%s", code, errs)
	}
}

// addressOf reads the log of `receive` to where it says its URL, and drains the rest.
func addressOf(t *testing.T, log io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if url := regexp.MustCompile(`http://[0-9.:]+/`).FindString(lines.Text()); url != "" {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return url
		}
	}
	t.Fatal("receive does not say where it listens")
	return ""
}

// TestReceive starts `receive`, pushes to it, and stops it while one answer hangs.
func TestReceive(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stderr, logged := io.Pipe()
	var out bytes.Buffer
	exit := make(chan int, 1)
	go func() {
		defer logged.Close()
		exit <- run(ctx, []string{
			"receive", "--json", "--listen", "127.0.0.1:0", "--sign-key", "old", "--sign-key", "K",
			"--answer", "wrong-case,success", "--answer", "slow=hang",
		}, strings.NewReader(""), &out, logged)
	}()
	url := addressOf(t, stderr)
	h, err := sinks.New(sinks.Options{AllowHTTP: true, AllowPrivate: true, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := &jobs.Webhook{URL: jobs.Secret(url), SignKey: "K", Dialect: sinks.DefaultDialect}
	push := func(chatbot string, id uuid.UUID) string {
		body, err := h.Encode(w, &jobs.Record{Type: "Lead", Chatbot: chatbot}, time.Now())
		if err != nil {
			t.Error(err)
		}
		_, err = h.Push(context.Background(), jobs.Request{Webhook: w, ID: id, Body: body})
		var refusal *jobs.RefusedError
		errors.As(err, &refusal)
		if refusal == nil {
			return ""
		}
		return refusal.Reason
	}
	id := uuid.New()
	got := []string{push("quick", id), push("quick", id)}
	if diff := cmp.Diff([]string{sinks.ReasonAckMismatch, ""}, got); diff != "" {
		t.Error(diff)
	}
	hanging := make(chan string, 1)
	go func() { hanging <- push("slow", uuid.New()) }()
	time.Sleep(200 * time.Millisecond)
	stop()
	<-hanging
	if code := <-exit; code != exitDone {
		t.Errorf("exit %d", code)
	}
	var counts struct {
		Requests, Unique, Acked, Refused int
		Chatbots                         map[string]struct{ Requests, Acked int }
	}
	if err := json.Unmarshal(out.Bytes(), &counts); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if counts.Requests != 3 || counts.Unique != 2 || counts.Acked != 1 || counts.Refused != 2 || counts.Chatbots["quick"].Acked != 1 {
		t.Errorf("%s", out.String())
	}
}
