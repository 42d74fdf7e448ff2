package jobs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// The clock in these tests is synctest's: it begins at midnight UTC and moves on when everything waits.

// TestRetriesAreAtOneAndThreeMinutes: the defaults, a spent round, and the next round at the next fire.
func TestRetriesAreAtOneAndThreeMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 1)
		start := time.Now()
		b.serve(50 * time.Hour)
		day := 24 * time.Hour
		want := []time.Duration{day, day + time.Minute, day + 3*time.Minute, 2 * day, 2*day + time.Minute, 2*day + 3*time.Minute}
		if diff := cmp.Diff(want, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts after the start (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{"pending": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestRunNowWaitsForRetries: a run by hand makes all three attempts of a round and says that it was spent.
func TestRunNowWaitsForRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 2)
		start := time.Now()
		run := b.runNow(false)
		if diff := cmp.Diff([]time.Duration{0, 0, time.Minute, time.Minute, 3 * time.Minute, 3 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if run.Gathered != 2 || run.Failed != 2 || run.Pending() != 2 || run.Delivered != 0 {
			t.Errorf("run: %+v", run)
		}
		b.crm.answer = nil
		run = b.runNow(false)
		if run.Gathered != 0 || run.Carried != 2 || run.Delivered != 2 || run.Pending() != 0 {
			t.Errorf("second run: %+v", run)
		}
	})
}

func TestRunNowNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.answer = func(a attempt) error {
			if a.body == "Lead 2" {
				return refuse(a)
			}
			return nil
		}
		b.leads.add("bot", 3)
		start := time.Now()
		run := b.runNow(true)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
		if run.Gathered != 3 || run.Delivered != 2 || run.Pending() != 1 || run.Failed != 0 {
			t.Errorf("run: %+v", run)
		}
	})
}

// TestEachScheduleGetsEachRecordOnce: an hourly and a daily webhook read one stream.
func TestEachScheduleGetsEachRecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("hourly", func(w *jobs.Webhook) { w.Schedule = "@hourly" }), hook("daily"),
			hook("prague", func(w *jobs.Webhook) { w.Schedule, w.Timezone = "30 6 * * *", "Europe/Prague" }))
		defer b.close()
		start := time.Now()
		var rows []string
		go func() {
			for range 30 {
				time.Sleep(50 * time.Minute)
				rows = append(rows, b.leads.add("bot", 1)...)
			}
		}()
		b.serve(60 * time.Hour)
		for _, webhook := range []string{"hourly", "daily", "prague"} {
			if diff := cmp.Diff(once("Lead", rows...), b.crm.got(webhook)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", webhook, diff)
			}
		}
		for _, at := range b.crm.times("daily", start) {
			if at%(24*time.Hour) != 0 {
				t.Errorf("the daily webhook was pushed to at %v", at)
			}
		}
		for _, at := range b.crm.times("hourly", start) {
			if at%time.Hour != 0 {
				t.Errorf("the hourly webhook was pushed to at %v", at)
			}
		}
		for _, at := range b.crm.times("prague", start) {
			if at%(24*time.Hour) != 5*time.Hour+30*time.Minute {
				t.Errorf("the webhook of Prague was pushed to at %v", at)
			}
		}
	})
}

// TestMissedFiresCoalesce: a daemon that was away for days runs once when it starts.
func TestMissedFiresCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.serve(time.Hour)
		time.Sleep(100 * time.Hour)
		rows := b.leads.add("bot", 3)
		start := time.Now()
		b.serve(time.Minute)
		if diff := cmp.Diff([]time.Duration{0, 0, 0}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

func TestImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Immediate = true }), hook("slow"))
		defer b.close()
		start := time.Now()
		go func() {
			time.Sleep(10*time.Minute + 300*time.Millisecond)
			b.leads.add("bot", 1)
		}()
		b.serve(30 * time.Minute)
		if diff := cmp.Diff([]time.Duration{10 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if got := b.crm.times("slow", start); got != nil {
			t.Errorf("the daily webhook was pushed to at %v", got)
		}
	})
}

// TestFrom: webhooks that are entered later get what their from says.
func TestFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("first"))
		defer b.close()
		old := b.leads.add("bot", 700) // more than a page
		time.Sleep(time.Hour)
		since := time.Now()
		recent := b.leads.add("bot", 3)
		b.leads.add("another", 2)
		hooks := []jobs.Webhook{
			hook("first"), hook("now"), hook("all", func(w *jobs.Webhook) { w.From = jobs.FromBeginning }),
			hook("since", func(w *jobs.Webhook) { w.From = since.Format(time.RFC3339) }),
			hook("everyone", func(w *jobs.Webhook) { w.From, w.Chatbots = jobs.FromBeginning, []string{jobs.AllChatbots} }),
		}
		b.provision(hooks...)
		later := b.leads.add("bot", 1)
		b.runNow(false)
		whole := append(append(append([]string{}, old...), recent...), later...)
		for webhook, want := range map[string][]string{
			"first": whole, "now": later, "all": whole, "since": append(append([]string{}, recent...), later...),
		} {
			if diff := cmp.Diff(once("Lead", want...), b.crm.got(webhook)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", webhook, diff)
			}
		}
		if got := len(b.crm.got("everyone")); got != len(whole)+2 {
			t.Errorf("everyone got %d records, want %d", got, len(whole)+2)
		}
		if run := b.runNow(false); run.Gathered+run.Carried != 0 {
			t.Errorf("a second run took on %+v", run)
		}
	})
}
