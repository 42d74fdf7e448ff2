package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestStatusFits: in a terminal the table is no wider than that; what goes first is what one can do without when
// something is wrong, and what went is named. A pipe gets everything, a line a webhook.
func TestStatusFits(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { t := now.Add(d); return &t }
	long := "59001dd73709417321c58b11693183a2"
	webhooks := []webhookReport{
		{
			ID: long, Chatbot: long, URL: "https://crm.customer-one.example.com/hooks/…", State: "active", Pending: 12, Failing: 3, Delivered: 1234567,
			OldestPending: at(-50 * time.Hour), LastError: "private_address", LastRun: at(-3 * time.Hour), NextRun: at(21 * time.Hour),
		},
		{
			ID: "bakery", Chatbot: []string{"a", "b"}, URL: "https://crm.example.com/", State: "disabled", StateReason: "gone from the YAML",
			Delivered: 7, Dead: 2, LastRun: at(-3 * time.Hour),
		},
	}
	for _, tt := range []struct {
		name  string
		width int
		want  string
	}{
		{"a terminal", 120, `
WEBHOOK                           STATE     PENDING  FAILING  DELIVERED  DEAD  OLDEST  LAST ERROR       NEXT RUN
59001dd73709417321c58b11693183a2  active    12       3        1234567    0     2d      private_address  in 21h00m
bakery                            disabled  0        0        7          2     -       -                -
Too narrow for URL, CHATBOT and LAST RUN: a pipe gets them (leadrelay status | less -S), and --json.
Webhook bakery is disabled: gone from the YAML
`},
		{"a narrow one", 80, `
WEBHOOK                STATE     PENDING  FAILING  DEAD  OLDEST  LAST ERROR
59001dd737…11693183a2  active    12       3        0     2d      private_address
bakery                 disabled  0        0        2     -       -
Too narrow for URL, CHATBOT, LAST RUN, DELIVERED and NEXT RUN: a pipe gets them (leadrelay status | less -S), and --json.
Webhook bakery is disabled: gone from the YAML
`},
		{"a wide one", 250, ""},
		{"a pipe", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := printWebhooks(&out, webhooks, now, tt.width); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(out.String(), "\n")
			for _, line := range lines[:3] {
				if n := utf8.RuneCountInString(line); tt.width > 0 && n > tt.width {
					t.Errorf("%d characters: %s", n, line)
				}
			}
			if tt.want != "" {
				if diff := cmp.Diff(tt.want, "\n"+out.String()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if tt.width == 0 || tt.width > 200 {
				for _, want := range []string{long + "  " + long + "  https://crm.customer-one.example.com/hooks/…", "TEST ANSWERS", "SENDING", "LAST RUN", "gone from the YAML"} {
					if !strings.Contains(out.String(), want) {
						t.Errorf("without %q:\n%s", want, out.String())
					}
				}
			}
			if tt.width == 0 && len(lines) != 4 {
				t.Errorf("not a line a webhook:\n%s", out.String())
			}
		})
	}
}

// TestStatusInTerminal: the program asks the terminal how wide it is.
func TestStatusInTerminal(t *testing.T) {
	t.Parallel()
	app := newApplication(t, "sqlite")
	chatbot := strings.Repeat("59001dd7", 4)
	s := newSite(t, time.Minute, "source: "+app.source+"\nwebhooks: [{chatbot: "+chatbot+", url: \"https://127.0.0.1/hooks/secret\"}]\nhttp: {allow_private: true}\n")
	s.run(0, "run-now")
	screen, tty := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 110}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(screen) // ends with EIO when the last writer has closed
		shown <- string(text)
	}()
	cmd := s.command("status")
	cmd.Stdout, cmd.Stderr = tty, os.Stderr
	err := cmd.Run()
	_ = tty.Close()
	text := <-shown
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(text, "\n"); strings.Contains(first, "URL") || utf8.RuneCountInString(first) > 110 {
		t.Errorf("a table for another terminal:\n%s", text)
	}
	if piped, _ := s.run(0, "status"); !strings.Contains(piped, chatbot+"  "+chatbot+"  https://127.0.0.1/hooks/…") {
		t.Errorf("a pipe gets:\n%s", piped)
	}
}
