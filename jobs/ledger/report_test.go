package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestStatus(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme", "idle")
		lease := s.lease()
		sending, acked, dies := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
		fails, rejected, waits := s.record("acme", jobs.Sending), s.record("acme", jobs.Dead), s.record("acme", jobs.Pending)
		rejected.LastError = "too large"
		waits.SeenAt, fails.SeenAt = start.Add(-time.Hour), start.Add(-time.Minute)
		s.enter(lease, sending, acked, dies, fails, rejected, waits)
		acked.Lease, dies.Lease, fails.Lease = lease, lease, lease
		s.settle(s.acked(acked), s.died(dies, jobs.Expired), s.failed(fails, time.Hour))
		want := []WebhookStatus{
			{Webhook: "acme", Pending: 2, Failing: 1, Sending: 1, Delivered: 1, Dead: 2, OldestPending: start.Add(-time.Hour), LastError: "http_500"},
			{Webhook: "idle"},
		}
		if diff := cmp.Diff(want, must[[]WebhookStatus](t)(s.Status(context.Background()))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLastError: a webhook's last error is forgotten when it is overcome, and stays while a record fails.
func TestLastError(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		s.webhooks("acme")
		lease := s.lease()
		want := func(step, code string) {
			t.Helper()
			if got := s.status("acme").LastError; got != code {
				t.Errorf("%s: last error %q, want %q", step, got, code)
			}
		}
		one, two, three := s.record("acme", jobs.Sending), s.record("acme", jobs.Sending), s.record("acme", jobs.Sending)
		s.enter(lease, one, two, three)
		one.Lease, two.Lease, three.Lease = lease, lease, lease
		s.settle(s.failed(one, time.Minute))
		want("one fails", "http_500")
		s.settle(s.acked(two))
		want("another was acknowledged since, and the one still fails", "http_500")
		s.pass(time.Minute)
		s.settle(s.acked(s.claim(lease, 8, 8)[0]))
		want("it was acknowledged", "")
		s.settle(s.died(three, jobs.Withdrawn))
		want("the third died", "gone")
	})
}

func TestDeliveries(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("acme", "other")
		lease := s.lease()
		var all []jobs.Delivery
		for i := range 20 {
			d := record([]string{"acme", "other"}[i%2], fmt.Sprint(i/2), jobs.Pending)
			d.SeenAt = start.Add(time.Duration(i/4) * time.Second) // several at one time
			d.NextAt = start.Add(fire)
			d.Chatbot = []string{"bot", "bot2"}[i%4/2]
			if i >= 16 {
				d.Type = "Appointment"
				d.ID = d.Key.ID()
			}
			switch i {
			case 3:
				d.State, d.Reason, d.NextAt, d.SettledAt = jobs.Dead, jobs.Rejected, time.Time{}, start
			case 4:
				d.State, d.NextAt, d.Lease = jobs.Sending, time.Time{}, lease
			case 5:
				d.Run = "r1"
			}
			all = append(all, d)
		}
		s.enter(lease, all...)
		pick := func(which func(i int) bool) (picked []jobs.Delivery) {
			for i, d := range all {
				if which(i) {
					picked = append(picked, d)
				}
			}
			return picked
		}
		for _, c := range []struct {
			name   string
			filter Filter
			want   []jobs.Delivery
		}{
			{"all", Filter{}, all},
			{"webhooks", Filter{Webhooks: []string{"acme", "none"}}, pick(func(i int) bool { return i%2 == 0 })},
			{"no webhooks", Filter{Webhooks: []string{}}, nil},
			{"webhooks of no text", Filter{Webhooks: []string{"\x00", "\xff"}}, nil},
			{"chatbot of no text", Filter{Chatbot: "\x00\xff"}, nil},
			{"chatbot", Filter{Chatbot: "bot2"}, pick(func(i int) bool { return i%4 > 1 })},
			{"type", Filter{Type: "Appointment"}, all[16:]},
			{"pending", Filter{State: jobs.Pending}, pick(func(i int) bool { return i != 3 && i != 4 })},
			{"sending", Filter{State: jobs.Sending}, all[4:5]},
			{"dead", Filter{State: jobs.Dead, Reason: jobs.Rejected}, all[3:4]},
			{"expired", Filter{Reason: jobs.Expired}, nil},
			{"row", Filter{Row: "7"}, all[14:16]},
			{"run", Filter{Run: "r1"}, all[5:6]},
			{"since", Filter{Since: start.Add(3 * time.Second)}, all[12:]},
			{"until", Filter{Until: start.Add(3 * time.Second)}, all[:12]},
			{"several", Filter{Webhooks: []string{"other"}, Chatbot: "bot", State: jobs.Pending, Since: start.Add(time.Second)}, pick(func(i int) bool { return i >= 4 && i%4 == 1 })},
		} {
			for _, limit := range []int{0, 1, 3, 20} {
				var got []jobs.Delivery
				for f := c.filter; ; {
					f.Limit = limit
					items, next, err := s.Deliveries(ctx, f)
					s.must(err)
					if limit > 0 && len(items) > limit {
						t.Fatalf("%s: a page of %d, limit %d", c.name, len(items), limit)
					}
					for i := range items {
						if i > 0 && items[i].SeenAt.After(items[i-1].SeenAt) {
							t.Errorf("%s: not the latest first", c.name)
						}
					}
					got = append(got, items...)
					if f.After = next; next == "" {
						break
					}
				}
				byID := cmpopts.SortSlices(func(a, b jobs.Delivery) bool { return a.ID.String() < b.ID.String() })
				if diff := cmp.Diff(c.want, got, byID); diff != "" {
					t.Errorf("%s by %d (-want +got):\n%s", c.name, limit, diff)
				}
			}
		}
		for _, f := range []Filter{{State: "done"}, {After: "x"}, {After: "1.x"}, {After: "x.5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a"}, {After: "-9223372036854775808.5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a"}} {
			if _, _, err := s.Deliveries(ctx, f); err == nil || f.After != "" && !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("%+v: %v", f, err)
			}
		}
		if _, _, err := s.Deliveries(ctx, Filter{After: "9223372036854775807.5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a"}); err != nil {
			t.Errorf("after the last of times: %v", err)
		}
	})
}

// What names the place to go on from comes back from people.
func FuzzParseAfter(f *testing.F) {
	f.Add("1772366400000000.5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a")
	f.Add("-1.{5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a}")
	f.Add("9223372036854775808.x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, after string) {
		at, id, err := parseAfter(after)
		if err != nil {
			if !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("%q: %v", after, err)
			}
			return
		}
		again, same, err := parseAfter(fmt.Sprintf("%d.%s", at.UnixMicro(), id))
		if err != nil || !again.Equal(at) || same != id {
			t.Errorf("%q gives %v %s, then %v %s, %v", after, at, id, again, same, err)
		}
	})
}
