package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReceiveOwnDialects pushes to `receive` in dialects of a configuration: each of its signatures verifies there, and
// what it answers by the dialect's own rule acknowledges.
func TestReceiveOwnDialects(t *testing.T) {
	const dialects = `
source: sqlite:platform.db
http: {allow_http: true, allow_private: true}
streams: [{type: Lead, table: leads, fields: {name: name, "author.mail": mail}}]
dialects:
  acme: {extends: smartsurvey, signature: {header: X-Acme-Signature, prefix: "sha256="}, ack: {path: result.ok, equals: [stored], prefix: ["stored "]}}
  shop: {body: {bot: chatbot, kind: event, "*": data}, signature: {form: base64, header: X-Shop-Hmac}, ack: {path: ok, prefix: [y]}}
  clock: {extends: smarterbot, signature: {header: X-Clock-Signature}}
  bare: {body: flat, ack: gohighlevel}
  standard: {extends: userback, signature: standard-webhooks}
`
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	write := func(webhooks string) {
		if err := os.WriteFile(config, []byte(dialects+"webhooks:"+webhooks), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(" []\n")
	db, err := sql.Open("sqlite", filepath.Join(dir, "platform.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `create table leads (id integer primary key autoincrement, chatbot_id text, created_at text, name text, mail text);
		insert into leads (chatbot_id, created_at, name, mail) values ('bot', '2024-05-06 07:08:09', 'Zdeňka', 'z@example.com'), ('bot', '2024-05-06 07:08:10', null, null)`)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	keys := map[string]string{
		"acme": "K", "shop": "K", "clock": "K", "bare": "", "standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	}
	var webhooks strings.Builder
	webhooks.WriteString("\n")
	ended := map[string]func() string{}
	for name, key := range keys {
		args := []string{"--config", config, "receive", "--json", "--listen", "127.0.0.1:0", "--dialect", name}
		sign := ""
		if key != "" {
			args, sign = append(args, "--sign-key", key), ", sign_key: "+key
		}
		url, end := receiveInBackground(t, ctx, args...)
		ended[name] = end
		fmt.Fprintf(&webhooks, "  - {id: %s, chatbot: bot, url: %q, dialect: %[1]s, from: beginning%[3]s}\n", name, url, sign)
	}
	write(webhooks.String())
	code, out, errs := cli(t, "", "--config", config, "--json", "run-now")
	if code != exitDone || !strings.Contains(out, fmt.Sprintf(`"delivered": %d`, 2*len(keys))) {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	stop()
	for name, end := range ended {
		var got struct {
			Requests, Unique, Acked, Unverified int
			Chatbots                            map[string]any
		}
		if err := json.Unmarshal([]byte(end()), &got); err != nil {
			t.Fatal(err)
		}
		if got.Requests != 2 || got.Unique != 2 || got.Acked != 2 || got.Unverified != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if _, named := got.Chatbots["bot"]; named != (name == "shop") && name != "clock" {
			t.Errorf("%s: chatbots %v", name, got.Chatbots)
		}
	}
}

// receiveInBackground starts `receive` and returns its URL, and what waits until it has ended and gives its output.
func receiveInBackground(t *testing.T, ctx context.Context, args ...string) (url string, end func() string) {
	t.Helper()
	stderr, logged := io.Pipe()
	var out bytes.Buffer
	exit := make(chan int, 1)
	go func() {
		defer logged.Close()
		exit <- run(ctx, args, strings.NewReader(""), &out, logged)
	}()
	url = addressOf(t, stderr)
	return url, func() string {
		if code := <-exit; code != exitDone {
			t.Errorf("exit code %d", code)
		}
		return out.String()
	}
}
