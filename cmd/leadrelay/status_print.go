package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/leadrelay/leadrelay/jobs"
)

func (a *app) printStatus(r statusReport, now time.Time) error {
	if err := printWebhooks(a.stdout, r.Webhooks, now, terminalWidth(a.stdout)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nSTREAM\tBOOKMARK\tGAPS\tLAG")
	for _, s := range r.Streams {
		lag := "unknown"
		if s.Lag != nil {
			lag = time.Duration(*s.Lag * float64(time.Second)).Round(time.Second).String()
		}
		printRow(t, s.Type, s.Bookmark, s.Gaps, lag)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Streams {
		if s.Error != "" {
			fmt.Fprintf(a.stdout, "\nStream %s is stopped: %s\n", s.Type, shown(s.Error))
		}
	}
	tests := 0
	for _, w := range r.Webhooks {
		tests += w.TestAnswers
	}
	if tests > 0 {
		fmt.Fprintf(a.stdout, "\n%d records were acknowledged only as test requests. GoHighLevel says that when a workflow is unpublished, and drops the record.\n", tests)
	}
	return nil
}

// printWebhooks prints a line for each webhook, at most width wide where that can be done; 0: as wide as it comes, with
// everything, for those who search it.
func printWebhooks(out io.Writer, webhooks []webhookReport, now time.Time, width int) error {
	state := func(w *webhookReport) string {
		if w.StateReason != "" && width == 0 {
			return w.State + " (" + w.StateReason + ")"
		}
		return w.State
	}
	count := func(n func(*webhookReport) int) func(*webhookReport) string {
		return func(w *webhookReport) string { return strconv.Itoa(n(w)) }
	}
	columns := []column{
		{name: "WEBHOOK", cell: func(w *webhookReport) string { return w.ID }, turn: 7, shortest: 16, stays: true},
		{name: "CHATBOT", cell: func(w *webhookReport) string { return chatbotText(w.Chatbot) }, turn: 2, shortest: 13},
		{name: "URL", cell: func(w *webhookReport) string { return w.URL }, turn: 1},
		{name: "STATE", cell: state},
		{name: "PENDING", cell: count(func(w *webhookReport) int { return w.Pending })},
		{name: "FAILING", cell: count(func(w *webhookReport) int { return w.Failing })},
		{name: "SENDING", cell: count(func(w *webhookReport) int { return w.Sending }), zero: true, turn: 4},
		{name: "DELIVERED", cell: count(func(w *webhookReport) int { return w.Delivered }), turn: 5},
		{name: "TEST ANSWERS", cell: count(func(w *webhookReport) int { return w.TestAnswers }), zero: true},
		{name: "DEAD", cell: count(func(w *webhookReport) int { return w.Dead })},
		{name: "OLDEST", cell: func(w *webhookReport) string { return age(w.OldestPending, now) }},
		{name: "LAST ERROR", cell: func(w *webhookReport) string { return dash(w.LastError) }},
		{name: "LAST RUN", cell: func(w *webhookReport) string { return ago(w.LastRun, now) }, turn: 3},
		{name: "NEXT RUN", cell: func(w *webhookReport) string { return ago(w.NextRun, now) }, turn: 6},
	}
	t := tableOf(columns, webhooks)
	left := t.fit(width)
	if err := t.print(out); err != nil {
		return err
	}
	if len(left) > 0 {
		fmt.Fprintf(out, "Too narrow for %s: a pipe gets them (leadrelay status | less -S), and --json.\n", joined(left))
	}
	for i := range webhooks {
		if w := &webhooks[i]; w.StateReason != "" && width > 0 {
			fmt.Fprintf(out, "Webhook %s is %s: %s\n", w.ID, w.State, shown(w.StateReason))
		}
	}
	return nil
}

// terminalWidth is how many columns a terminal has; 0: it is none, or does not say.
func terminalWidth(w io.Writer) int {
	if !terminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(raw(w).(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return max(0, width)
}

func chatbotText(v any) string {
	if list, ok := v.([]string); ok {
		return fmt.Sprintf("%s +%d", list[0], len(list)-1)
	}
	if v == jobs.AllChatbots {
		return "* (all)"
	}
	return fmt.Sprint(v)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age words how long ago a time was.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return short(max(0, now.Sub(*t)))
}

// ago words a time beside now.
func ago(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return "-"
	case t.After(now):
		return "in " + short(t.Sub(now))
	}
	return short(now.Sub(*t)) + " ago"
}

func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
