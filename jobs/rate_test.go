package jobs_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestParseRate(t *testing.T) {
	for text, spacing := range map[string]time.Duration{
		"": 0, "5/s": 200 * time.Millisecond, "3/s": 333_334 * time.Microsecond, "100/m": 600 * time.Millisecond,
		"1000/h": 3600 * time.Millisecond, "1/d": 24 * time.Hour, "10000/s": 100 * time.Microsecond,
	} {
		rate, err := jobs.ParseRate(text)
		if err != nil || rate.Spacing() != spacing || rate.String() != text {
			t.Errorf("%s: %v apart, written %q (%v)", text, rate.Spacing(), rate, err)
		}
	}
	for _, text := range []string{"5", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "5/sec", "5/ s", "5 /s", "10001/s", "5/s/s", "5/S", "5/1s"} {
		if rate, err := jobs.ParseRate(text); err == nil {
			t.Errorf("%q is taken for %v", text, rate)
		}
	}
}

// FuzzRate: a rate is written as it was given, and its requests are so far apart that no more than it allows begin in its
// time.
func FuzzRate(f *testing.F) {
	for _, text := range []string{"5/s", "3/s", "100/m", "10000/d", "0/s", "+1/s", "1/s/s", "01/s", "", "1/", "/", "9999999999/s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rate, err := jobs.ParseRate(text)
		if err != nil || text == "" {
			return
		}
		if again, err := jobs.ParseRate(rate.String()); err != nil || again != rate || strings.TrimLeft(text, "0") != rate.String() {
			t.Fatalf("%q is written %s", text, rate)
		}
		if apart := rate.Spacing(); apart <= 0 || time.Duration(rate.Requests)*apart < rate.Per || apart%time.Microsecond != 0 {
			t.Fatalf("%s: %v apart", rate, apart)
		}
	})
}

// TestRate: two daemons and a run by hand keep together to a webhook's rate, whatever is retried, and use it up; other
// webhooks do not wait.
func TestRate(t *testing.T) {
	const rate, records = 5, 60
	rated := func(w *jobs.Webhook) { w.Rate = jobs.Rate{Requests: rate, Per: time.Second} }
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("rated", immediate, rated), hook("free", immediate))
		defer b.close()
		start := time.Now()
		b.crm.answer = func(a attempt) error {
			time.Sleep(time.Duration(len(a.body)) * 37 * time.Millisecond)
			if a.webhook == "rated" && a.number == 1 && a.at.UnixNano()%3 == 0 {
				return &jobs.RefusedError{Status: 400, Reason: "http_400"}
			}
			return nil
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		often := func(o *jobs.Options) { o.Poll = time.Second }
		for range 2 {
			go func() { done <- b.runner(often).Serve(ctx, func() {}) }()
		}
		synctest.Wait()
		b.leads.add("bot", records)
		run, err := b.runner(often).RunNow(ctx, jobs.Scope{}, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); run.Gathered > 0 && took < time.Duration(run.Gathered-rate)*time.Second/rate/2 {
			t.Errorf("a run that waits for first attempts ended after %v: %+v", took, run)
		}
		time.Sleep(5 * time.Minute)
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := b.states()["delivered"]; n != 2*records {
			t.Errorf("states: %v", b.states())
		}
		times := map[string][]time.Duration{}
		for _, a := range b.crm.attempts {
			times[a.webhook] = append(times[a.webhook], a.at.Sub(start))
		}
		slices.Sort(times["rated"])
		for i := range times["rated"][:len(times["rated"])-1] {
			if gap := times["rated"][i+1] - times["rated"][i]; gap < time.Second/rate {
				t.Errorf("attempts %d and %d are %v apart", i, i+1, gap)
			}
		}
		if first := times["rated"][records-1]; first > 15*time.Second {
			t.Errorf("the first attempts took %v", first)
		}
		if slowest := slices.Max(times["free"]); slowest > 5*time.Second {
			t.Errorf("another webhook's records waited %v", slowest)
		}
	})
}
