package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// What is printed for people stays short, however many chatbots there are and however much is missing, and obeys nothing
// that others wrote.
func TestPrintReconciledIsShort(t *testing.T) {
	day := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	done := jobs.Reconciliation{Since: day.Add(-7 * 24 * time.Hour), Entered: 999, Unread: 1}
	for i := range 10_000 {
		count := jobs.Count{Source: 3, Delivered: 3}
		if i%10 == 0 {
			count.Delivered, count.Missing = 2, 1
		}
		chatbot := fmt.Sprintf("bot\x1b[2J%05d", i)
		done.Total.Add(count)
		done.Balances = append(done.Balances, jobs.Balance{Type: "Lead", Chatbot: chatbot, Count: count, Days: []jobs.DayCount{{Day: day, Count: count}}})
		if count.Missing > 0 {
			done.Named = append(done.Named, jobs.Missed{Type: "Lead", Chatbot: chatbot, Webhook: "acme", Row: fmt.Sprint(i, "\n"), Day: day})
		}
	}
	var out bytes.Buffer
	if err := newApp(strings.NewReader(""), &out, &out).printReconciled(&done, []string{"Lead"}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) > 120 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}
	want := []string{
		"rows since 2026-01-24 00:00 UTC:",
		"TYPE  OWED   DELIVERED  PENDING  DEAD  MISSING",
		"Lead  30000  29000      0        0     1000",
		"1 more is not gathered yet: a backfill has yet to come by, or they have just come",
		"",
		"Where something was missing:",
		"TYPE  CHATBOT            DAY         OWED  DELIVERED  PENDING  DEAD  MISSING",
		`Lead  bot\u{1b}[2J00000  2026-01-31  3     2          0        0     1`,
	}
	if diff := cmp.Diff(want, lines[:8]); diff != "" {
		t.Errorf("it begins (-want +got):\n%s", diff)
	}
	for _, line := range []string{"and 950 more chatbots and days: see --json", "and 950 more rows: see --json", "Missing, of which 999 are entered now:"} {
		if !strings.Contains(out.String(), "\n"+line+"\n") {
			t.Errorf("it does not say %q", line)
		}
	}
}
