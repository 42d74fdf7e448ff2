package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// hostileText clears the screen, sets the title, begins a line of its own, turns the direction, and holds the eight-bit
// form of an escape sequence.
const hostileText = "\x1b[2J\x1b]0;evil\a\r\nforged  \u009b31m\u202e\x7f"

// obeyed returns the characters of a text that a terminal would obey.
func obeyed(text string) (all []string) {
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			all = append(all, fmt.Sprintf("%q", r))
		}
	}
	return all
}

// TestNothingSteersTheTerminal: whatever rows and CRMs hold, no command prints what a terminal obeys, in a table, in JSON
// or in the log, and no row's text begins a line of its own.
func TestNothingSteersTheTerminal(t *testing.T) {
	t.Parallel()
	answer, err := json.Marshal(map[string]string{"status": hostileText})
	if err != nil {
		t.Fatal(err)
	}
	_, url := startCRM(t, func(w http.ResponseWriter, _ *http.Request, _ *receiver.Request) {
		w.Header().Set("X-Evil", "\u009b31m") // no other control character is taken
		_, _ = w.Write(answer)
	})
	app := newApplication(t, "sqlite")
	app.exec("create table notes (id text primary key, chatbot_id text, created_at timestamp default current_timestamp, content text, session_id text)")
	note := func(row int, session string) {
		app.exec("insert into notes (id, chatbot_id, content, session_id) values (?, 'a', ?, ?)", fmt.Sprint(row, hostileText), hostileText, session)
	}
	for row := range 25 { // so that the webhook is held, for what its CRM answers
		note(row, "1")
	}
	note(99, hostileText) // a row that cannot be sent
	s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
%sstreams: [{type: Note, table: notes, fields: {Content: content, SessionID: session_id}}]
webhooks:
  - {id: w, chatbot: a, url: %q, sign_key: %q, from: beginning, retry_at: []}
  - {id: other, chatbot: z, url: %[3]q, sign_key: %[4]q}
`, app.source, local, url, signKey))
	for _, args := range [][]string{
		{"check"},
		{"run-now", "--dry-run"},
		{"run-now", "--webhook", "other"},
		{"run-now", "--log-format", "json", "--log-level", "debug"},
		{"run-now"},
		{"delivery", "list"},
		{"status"},
		{"stream", "list"},
		{"webhook", "list"},
		{"webhook", "show", "w"},
		{"webhook", "test", "w"},
		{"webhook", "show", "w\x1b[2J"},
		{"reconcile"},
		{"stream", "reset", "Note", "--to", "7" + hostileText},
	} {
		for _, format := range []string{"", "--json"} {
			if format != "" {
				args = append(args, format)
			}
			stdout, stderr, code := s.try(args...)
			if code < 0 {
				t.Fatalf("%q did not run", args)
			}
			for name, text := range map[string]string{"standard output": stdout, "standard error": stderr} {
				if found := obeyed(text); len(found) > 0 {
					t.Errorf("leadrelay %q: %s has %v:\n%q", args, name, found, text)
				}
				if format == "" && strings.Contains(text, "\nforged") {
					t.Errorf("leadrelay %q: %s has a line of a row's own:\n%q", args, name, text)
				}
			}
			if format != "" && stdout != "" && !json.Valid([]byte(stdout)) {
				t.Errorf("leadrelay %q prints no JSON:\n%s", args, stdout)
			}
		}
	}
	var rows struct {
		Items []struct{ Row string }
	}
	s.document(&rows, 0, "delivery", "list", "--limit", "1", "--row", "7"+hostileText)
	if len(rows.Items) != 1 || rows.Items[0].Row != "7"+hostileText {
		t.Errorf("the row of this id is %+q", rows)
	}
	stdout, _ := s.run(0, "delivery", "list", "--row", "7"+hostileText)
	if want := `7\u{1b}[2J\u{1b}]0;evil\u{7}  forged  \u{9b}31m\u{202e}\u{7f}`; !strings.Contains(stdout, want) {
		t.Errorf("the row is shown as\n%s", stdout)
	}
}

// TestReceiveShowsBodiesHarmlessly: anybody who reaches the test CRM may send it anything.
func TestReceiveShowsBodiesHarmlessly(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	url, end := receiveInBackground(t, ctx, "receive", "--listen", "127.0.0.1:0", "--sign-key", "K", "--show-bodies")
	answer, err := http.Post(url+"hook", "text/plain", strings.NewReader(hostileText))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	stop()
	if out := end(); len(obeyed(out)) > 0 || !strings.Contains(out, `\u{1b}[2J`) || strings.Contains(out, "\nforged") {
		t.Errorf("it prints\n%q", out)
	}
}
