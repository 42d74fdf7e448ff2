package jobs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestBackfillEnded: what was filled is kept in as few spans as say it.
func TestBackfillEnded(t *testing.T) {
	hour := func(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		name   string
		filled []jobs.Span
		ended  jobs.Span
		want   []jobs.Span
	}{
		{"the first", nil, jobs.Span{Since: hour(2)}, []jobs.Span{{Since: hour(2)}}},
		{"apart", []jobs.Span{{Since: hour(5)}}, jobs.Span{Since: hour(1), Before: hour(2)}, []jobs.Span{{Since: hour(5)}, {Since: hour(1), Before: hour(2)}}},
		{"within", []jobs.Span{{Since: hour(1)}}, jobs.Span{Since: hour(1), Before: hour(2)}, []jobs.Span{{Since: hour(1)}}},
		{"around", []jobs.Span{{Since: hour(1), Before: hour(2)}, {Since: hour(3)}}, jobs.Span{}, []jobs.Span{{}}},
		{"around some", []jobs.Span{{Since: hour(1), Before: hour(2)}, {Since: hour(3)}}, jobs.Span{Before: hour(2)}, []jobs.Span{{Since: hour(3)}, {Before: hour(2)}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sub := jobs.Subscription{Webhook: "w", Start: "s", Backfill: "b", Until: "s", Since: test.ended.Since, Before: test.ended.Before, Filled: test.filled}
			want := sub
			want.Backfill, want.Until, want.Filled = "", "", test.want
			if diff := cmp.Diff(want, sub.BackfillEnded()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// subscription is what the ledger says of a webhook and type.
func (b *bench) subscription(webhook, typ string) jobs.Subscription {
	b.t.Helper()
	set, err := b.ledger.Webhooks(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range set.Subscriptions {
		if s.Webhook == webhook && s.Type == typ {
			return s
		}
	}
	b.t.Fatalf("webhook %s has no beginning in stream %s", webhook, typ)
	return jobs.Subscription{}
}

// TestWantingOtherRecords: where a webhook comes to want other records the ledger notes the bookmark, and nothing else.
func TestWantingOtherRecords(t *testing.T) {
	cases := map[string]struct {
		change func(*jobs.Webhook)
		noted  bool
	}{
		"chatbots": {func(w *jobs.Webhook) { w.Chatbots = []string{"bot", "other"} }, true},
		"order":    {func(w *jobs.Webhook) { w.Chatbots = []string{"third", "bot"} }, false},
		"types":    {func(w *jobs.Webhook) { w.Types = []string{"Lead"} }, true},
		"events":   {func(w *jobs.Webhook) { w.Events = []string{"Lead.created"} }, true},
		"dialect":  {func(w *jobs.Webhook) { w.Dialect = "events" }, true},
		"where":    {func(w *jobs.Webhook) { w.URL += "/else"; w.Schedule = "@hourly" }, false},
	}
	for _, byHand := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.close()
			ctx := context.Background()
			var hooks []jobs.Webhook
			for id := range cases {
				w := hook(id, func(w *jobs.Webhook) {
					w.Chatbots, w.URL = []string{"bot", "third"}, jobs.Secret("https://"+id+".example.com")
				})
				if hooks = append(hooks, w); byHand {
					must[jobs.Webhook](t)(b.registrar().Add(ctx, w))
				}
			}
			if !byHand {
				b.provision(hooks...)
			}
			b.leads.add("bot", 3)
			b.runNow(false)
			for i := range hooks {
				change := cases[hooks[i].ID].change
				if change(&hooks[i]); byHand {
					must[jobs.Webhook](t)(b.registrar().Change(ctx, hooks[i].ID, func(w *jobs.Webhook) error { change(w); return nil }))
				}
			}
			if !byHand {
				b.provision(hooks...)
			}
			for id, test := range cases {
				want := jobs.Bookmark("")
				if test.noted {
					want = "3"
				}
				if got := b.subscription(id, "Lead").Steady; got != want {
					t.Errorf("%s, by hand %v: what it had is known from %q on, want %q", id, byHand, got, want)
				}
			}
		})
	}
}

// TestWebhookByHandAndLaterStream: a webhook that was entered by hand begins in a stream that is configured after it at
// the stream's bookmark, so that it loses nothing, and can be filled up from it.
func TestWebhookByHandAndLaterStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		ctx := context.Background()
		must[jobs.Webhook](t)(b.registrar().Add(ctx, hook("now")))
		must[jobs.Webhook](t)(b.registrar().Add(ctx, hook("all", func(w *jobs.Webhook) { w.From, w.URL = jobs.FromBeginning, "https://all.example.com" })))
		quotes := newTable("Quote")
		older := quotes.add("bot", 2)
		both := func(o *jobs.Options) { o.Sources = append(o.Sources, quotes) }
		provision := func() {
			if _, err := (jobs.Provisioning{Ledger: b.ledger, Sources: []jobs.Source{b.leads, quotes}, Origin: "config.yaml"}).Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		provision()
		newer := quotes.add("bot", 1)
		provision() // again: nothing more
		if got := b.subscription("now", "Quote").Start; got != "2" {
			t.Errorf("it begins at %q", got)
		}
		run := func() {
			if _, err := b.runner(both).RunNow(ctx, jobs.Scope{}, false, nil); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if diff := cmp.Diff(once("Quote", newer...), b.crm.got("now")); diff != "" {
			t.Errorf("from now (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(once("Quote", append(older, newer...)...), b.crm.got("all")); diff != "" {
			t.Errorf("from the beginning (-want +got):\n%s", diff)
		}
		if n, err := jobs.BackfillByHand(ctx, b.ledger, []jobs.Source{b.leads, quotes}, "now", time.Time{}, time.Time{}, false); n != 2 || err != nil {
			t.Errorf("a backfill finds %d older rows, %v", n, err)
		}
		run()
		if diff := cmp.Diff(once("Quote", append(older, newer...)...), b.crm.got("now")); diff != "" {
			t.Errorf("filled up (-want +got):\n%s", diff)
		}
	})
}
