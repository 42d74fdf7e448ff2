package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func only(body string, answer func(attempt) error) func(attempt) error {
	return func(a attempt) error {
		if a.body == body {
			return answer(a)
		}
		return nil
	}
}

func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 1)
		b.serve(60*time.Hour, func(o *jobs.Options) { o.GiveUpAfter = 30 * time.Hour })
		if diff := cmp.Diff(map[string]int{"pending": 1}, b.states()); diff != "" {
			t.Errorf("after 24 hours of failures, with 30 allowed (-want +got):\n%s", diff)
		}
		b.serve(30*time.Hour, func(o *jobs.Options) { o.GiveUpAfter = 30 * time.Hour })
		if diff := cmp.Diff(map[string]int{"dead expired": 1}, b.states()); diff != "" {
			t.Errorf("after 48 (-want +got):\n%s", diff)
		}
	})
}

// TestOneRound: a dialect that allows no second round leaves a record dead, exhausted, after its first.
func TestOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Dialect = "one round" }))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 1)
		start := time.Now()
		run := b.runNow(false)
		if diff := cmp.Diff([]time.Duration{0, time.Minute, 3 * time.Minute}, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{"dead exhausted": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if run.Dead != 1 || run.Pending() != 0 || run.Failed != 0 {
			t.Errorf("run: %+v", run)
		}
	})
}

// TestGiveUpStandsStillWhileDisabled: the days that a webhook was gone from the configuration do not count.
func TestGiveUpStandsStillWhileDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"), hook("other", func(w *jobs.Webhook) { w.Chatbots = []string{"x"} }))
		defer b.close()
		giveUp := func(o *jobs.Options) { o.GiveUpAfter = 36 * time.Hour }
		b.crm.answer = refuse
		b.leads.add("bot", 1)
		b.serve(25*time.Hour, giveUp) // fails at 24 h
		b.provision(b.hooks[1])
		b.serve(60*time.Hour, giveUp)
		if n := len(b.crm.times("acme", time.Now())); n != 3 {
			t.Errorf("%d attempts, the webhook was disabled after 3", n)
		}
		if did := b.provision(b.hooks...); !cmp.Equal(did.Enabled, []string{"acme"}) {
			t.Errorf("provisioned: %+v", did)
		}
		b.serve(10*time.Hour, giveUp) // another round: 24 hours or less since the first failure, but for the 60
		if diff := cmp.Diff(map[string]int{"pending": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		b.crm.answer = nil
		b.serve(30*time.Hour, giveUp)
		if diff := cmp.Diff(map[string]int{"delivered": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestGiveUpStandsStillWhileHeld: no record is given up because its CRM was down for long; they come when it is back.
func TestGiveUpStandsStillWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@hourly" }))
		defer b.close()
		giveUp := func(o *jobs.Options) { o.GiveUpAfter = 2 * time.Hour }
		b.crm.answer = isDown
		b.leads.add("bot", 12)
		b.serve(12*time.Hour, giveUp)
		if diff := cmp.Diff(map[string]int{"pending": 12}, b.states()); diff != "" {
			t.Errorf("while it is down (-want +got):\n%s", diff)
		}
		b.crm.answer = nil
		b.serve(2*time.Hour, giveUp) // where their rounds are spent they wait for the next fire
		if diff := cmp.Diff(map[string]int{"delivered": 12}, b.states()); diff != "" {
			t.Errorf("when it is back (-want +got):\n%s", diff)
		}
	})
}

// TestRejected: a record that cannot be encoded is dead, and the others go.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.reject = func(rec *jobs.Record) bool { return rec.Row == "2" }
		b.leads.add("bot", 3)
		run := b.runNow(false)
		if run.Gathered != 3 || run.Delivered != 2 || run.Dead != 1 || run.Pending() != 0 {
			t.Errorf("run: %+v", run)
		}
		if diff := cmp.Diff(once("Lead", "1", "3"), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// TestFirstPageRejected: a mapping that fits nothing stops the stream, and kills no record.
func TestFirstPageRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.crm.reject = func(*jobs.Record) bool { return true }
		rows := b.leads.add("bot", 3)
		_, err := b.runner().RunNow(context.Background(), jobs.Scope{}, false, nil)
		var stopped *jobs.StoppedError
		if !errors.As(err, &stopped) || !strings.Contains(stopped.Why, "SessionID") {
			t.Fatalf("error %v, want that the stream is stopped because of SessionID", err)
		}
		if n := len(b.states()); n != 0 {
			t.Errorf("deliveries were entered: %v", b.states())
		}
		b.crm.reject = nil // the mapping was mended
		b.runNow(false)
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		st, err := b.ledger.Stream(context.Background(), "Lead")
		if err != nil || st.Error != "" {
			t.Errorf("the stream's error is still %q (%v)", st.Error, err)
		}
	})
}

// TestWithdrawn: a row that is gone when it is to be tried again is dead, withdrawn.
func TestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.leads.add("bot", 2)
		b.crm.answer = func(a attempt) error {
			b.leads.mu.Lock()
			b.leads.gone["1"] = true
			b.leads.mu.Unlock()
			return only("Lead 1", refuse)(a)
		}
		run := b.runNow(false)
		if run.Delivered != 1 || run.Dead != 1 || run.Pending() != 0 {
			t.Errorf("run: %+v", run)
		}
		if diff := cmp.Diff(map[string]int{"delivered": 1, "dead withdrawn": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestAcknowledgementReleasesSpent: when a CRM is back, its spent records do not wait for the next fire.
func TestAcknowledgementReleasesSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Immediate = true }))
		defer b.close()
		var up atomic.Bool
		b.crm.answer = func(a attempt) error {
			if !up.Load() {
				return refuse(a)
			}
			return nil
		}
		start := time.Now()
		go func() {
			time.Sleep(time.Hour)
			b.leads.add("bot", 1) // fails three times by 1:03
			time.Sleep(time.Hour)
			up.Store(true)
			b.leads.add("bot", 1)
		}()
		b.serve(3 * time.Hour)
		want := []time.Duration{time.Hour, 61 * time.Minute, 63 * time.Minute, 2 * time.Hour, 2 * time.Hour}
		if diff := cmp.Diff(want, b.crm.times("acme", start)); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

func TestPanicsAreContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@hourly" }))
		defer b.close()
		b.crm.answer = only("Lead 1", func(attempt) error { panic("a bug") })
		b.leads.fail = func() error {
			if time.Now().Minute() == 0 && time.Now().Hour() == 1 {
				panic("another bug")
			}
			return nil
		}
		rows := b.leads.add("bot", 3)
		b.serve(150 * time.Minute)
		got := b.crm.got("acme")
		for _, row := range rows[1:] {
			if got["Lead "+row] != 1 {
				t.Errorf("Lead %s came %d times", row, got["Lead "+row])
			}
		}
		if diff := cmp.Diff(map[string]int{"delivered": 2, "pending": 1}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestSourceAway: a source that is away is waited for, and nothing is missed. What that puts off is said once.
func TestSourceAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@every 10m" }))
		defer b.close()
		start := time.Now()
		b.leads.fail = func() error {
			if time.Since(start) < 100*time.Minute {
				return fmt.Errorf("read: %w", errAway)
			}
			return nil
		}
		rows := b.leads.add("bot", 2)
		var log bytes.Buffer
		b.serve(110*time.Minute, func(o *jobs.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("that the source is away and that fires are skipped was said in %d lines:\n%s", n, log.String())
		}
	})
}

// TestLedgerAwayForLong: a ledger that is away for longer than a lease lasts costs nothing: what was delivered meanwhile is
// recorded, and not sent again.
func TestLedgerAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Immediate = true }))
		defer b.close()
		start := time.Now()
		flawed := &flawed{Ledger: b.ledger, away: func() bool {
			d := time.Since(start)
			return d > 10*time.Second && d < 301*time.Second // when the keeper has just looked
		}}
		b.crm.answer = func(attempt) error { time.Sleep(15 * time.Second); return nil }
		rows := b.leads.add("bot", 4)
		b.serve(10*time.Minute, func(o *jobs.Options) { o.Ledger, o.LeaseTTL, o.Poll = flawed, 30*time.Second, time.Second })
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{"delivered": 4}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// TestOneHangingWebhook: records of others go at once while one CRM takes its whole timeout for each record.
func TestOneHangingWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("hangs"), hook("acme", func(w *jobs.Webhook) { w.Chatbots = []string{"quick"} }))
		defer b.close()
		b.crm.answer = func(a attempt) error {
			if a.webhook == "hangs" {
				time.Sleep(10 * time.Second)
				return &jobs.RefusedError{Reason: "timeout"}
			}
			return nil
		}
		b.leads.add("bot", 5000) // more than the pool holds
		rows := b.leads.add("quick", 50)
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := b.runner().RunNow(ctx, jobs.Scope{}, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(once("Lead", rows...), b.crm.got("acme")); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
		for _, at := range b.crm.times("acme", start) {
			if at > 15*time.Second {
				t.Errorf("a record waited %v behind a CRM that hangs", at)
			}
		}
	})
}

// TestBackfillKeepsNobodyWaiting: while a long backfill goes to a slow CRM, another webhook's new rows go at once.
func TestBackfillKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.leads.add("bot", 2500)
		immediate := func(w *jobs.Webhook) { w.Immediate = true }
		b.provision(hook("slow", immediate, func(w *jobs.Webhook) { w.From = jobs.FromBeginning }),
			hook("quick", immediate, func(w *jobs.Webhook) { w.Chatbots = []string{"quick"} }))
		b.crm.answer = func(a attempt) error {
			if a.webhook == "slow" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			b.leads.add("quick", 1)
		}()
		b.serve(10 * time.Second)
		if diff := cmp.Diff([]time.Duration{time.Second}, b.crm.times("quick", start)); diff != "" {
			t.Errorf("the new row's attempts (-want +got):\n%s", diff)
		}
		if n := len(b.crm.got("slow")); n < 200 || n > 2000 {
			t.Errorf("%d of the backfill's records went meanwhile: the backfill was not long, or stood still", n)
		}
	})
}

// TestStopRecordsWhatIsInFlight: a request under way when the daemon is told to stop is let to end, and recorded.
func TestStopRecordsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Schedule = "@hourly" }))
		defer b.close()
		b.crm.answer = func(attempt) error { time.Sleep(8 * time.Second); return nil }
		b.leads.add("bot", 6) // four at once, two are queued
		b.serve(time.Hour + 2*time.Second)
		if diff := cmp.Diff(map[string]int{"delivered": 4, "pending": 2}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		b.crm.answer = nil
		b.serve(time.Minute)
		if diff := cmp.Diff(map[string]int{"delivered": 6}, b.states()); diff != "" {
			t.Errorf("states after the next start (-want +got):\n%s", diff)
		}
		if n := len(b.crm.times("acme", time.Now())); n != 6 {
			t.Errorf("%d requests for 6 records", n)
		}
	})
}

// TestTwoDaemons: they share one ledger, and no record is pushed twice.
func TestTwoDaemons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("hourly", func(w *jobs.Webhook) { w.Schedule = "@hourly" }), hook("at once", func(w *jobs.Webhook) { w.Immediate = true }))
		defer b.close()
		var rows []string
		go func() {
			for range 20 {
				rows = append(rows, b.leads.add("bot", 30)...)
				time.Sleep(7 * time.Minute)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Hour)
		defer cancel()
		second := make(chan error, 1)
		go func() { second <- b.runner().Serve(ctx, func() {}) }()
		b.serve(4 * time.Hour)
		if err := <-second; err != nil {
			t.Error(err)
		}
		for _, webhook := range []string{"hourly", "at once"} {
			if diff := cmp.Diff(once("Lead", rows...), b.crm.got(webhook)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", webhook, diff)
			}
		}
	})
}

// TestUnreadable: that rows cannot be read again, for a reason that waiting does not mend, is said once while it stays so,
// and they are tried again until they can be.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme", func(w *jobs.Webhook) { w.Immediate = true }))
		defer b.close()
		b.crm.answer = refuse
		b.leads.add("bot", 20)
		var log bytes.Buffer
		go func() {
			time.Sleep(30 * time.Second)
			b.leads.mu.Lock()
			b.leads.fail = func() error { return errors.New("no right to the table") }
			b.leads.mu.Unlock()
			time.Sleep(40 * time.Minute)
			b.leads.mu.Lock()
			b.leads.fail = nil
			b.leads.mu.Unlock()
			b.crm.mu.Lock()
			b.crm.answer = nil
			b.crm.mu.Unlock()
		}()
		b.serve(time.Hour, func(o *jobs.Options) { o.Log, o.Poll = slog.New(slog.NewTextHandler(&log, nil)), time.Second })
		if n := strings.Count(log.String(), "rows could not be read again"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if diff := cmp.Diff(map[string]int{"delivered": 20}, b.states()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}
