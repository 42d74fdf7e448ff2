package ledger

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// versionSeen is a version of a row as a scan drafts it: pending, due at once.
func versionSeen(webhook, row, version, action string) jobs.Delivery {
	k := jobs.Key{Webhook: webhook, Type: "Lead", Row: row, Version: version, Action: action}
	return jobs.Delivery{ID: k.ID(), Key: k, Chatbot: "bot", State: jobs.Pending}
}

// wanting is a version for a webhook that wants to hear of these actions.
func wanting(actions jobs.Actions, d jobs.Delivery) jobs.Delivery {
	d.Wanted = actions
	return d
}

// see enters a page of versions.
func (s *stage) see(page ...jobs.Delivery) []bool {
	s.t.Helper()
	for i := range page {
		if page[i].NextAt.IsZero() {
			page[i].NextAt = s.Now()
		}
	}
	stream := s.stream("Lead")
	return must[[]bool](s.t)(s.Enter(context.Background(), jobs.Entries{Type: "Lead", Version: stream.Version, Versioned: true, Deliveries: page}))
}

// claimOne claims the one delivery that is due.
func (s *stage) claimOne(lease string) jobs.Delivery {
	s.t.Helper()
	all := s.claimAll(lease)
	if len(all) != 1 {
		s.t.Fatalf("%d deliveries are due, want one", len(all))
	}
	return all[0]
}

func (s *stage) claimAll(lease string) []jobs.Delivery {
	s.t.Helper()
	return must[[]jobs.Delivery](s.t)(s.Claim(context.Background(), jobs.Claim{Lease: lease, Each: 100, Limit: 100}))
}

// settleAs settles a claimed delivery after an attempt.
func (s *stage) settleAs(d jobs.Delivery, state jobs.State, newer *jobs.Delivery) {
	s.t.Helper()
	o := jobs.Outcome{Delivery: d, Lease: d.Lease, Newer: newer}
	o.Delivery.State, o.Delivery.Lease, o.Delivery.SettledAt = state, "", s.Now()
	switch {
	case newer != nil:
		o.Delivery.State, o.Delivery.Reason, o.Delivery.LastError = jobs.Dead, jobs.Superseded, jobs.NewerVersion
	case state == jobs.Delivered:
		o.Delivery.Attempts++
		o.Attempt = &jobs.Attempt{At: s.Now(), Status: 200}
	default:
		o.Delivery.Attempts++
		o.Delivery.NextAt, o.Delivery.InRound, o.Delivery.LastError = s.Now().Add(time.Minute), true, "http_500"
		o.Delivery.FirstFailedAt, o.Delivery.RoundFailedAt = s.Now(), s.Now()
		o.Attempt = &jobs.Attempt{At: s.Now(), Status: 500, Error: "http_500"}
	}
	if held := must[[]bool](s.t)(s.Settle(context.Background(), []jobs.Outcome{o})); !held[0] {
		s.t.Fatal("the outcome was not recorded")
	}
}

// story is every delivery in the ledger, by version and action.
func (s *stage) story() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for _, d := range s.all() {
		text := string(d.State)
		if d.State == jobs.Dead {
			text = string(d.Reason)
		} else if d.State == jobs.Pending && d.NextAt.IsZero() {
			text = "waits"
		}
		all[d.Version+" "+d.Action] = text
		if d.ID != d.Key.ID() {
			s.t.Errorf("%s %s has the id of another key", d.Version, d.Action)
		}
	}
	return all
}

func (s *stage) all() []jobs.Delivery {
	s.t.Helper()
	page, _, err := s.Deliveries(context.Background(), Filter{Limit: 1000})
	s.must(err)
	return page
}

func TestVersions(t *testing.T) {
	const create, update, remove = jobs.ActionCreate, jobs.ActionUpdate, jobs.ActionRemove
	for name, tt := range map[string]struct {
		do   func(s *stage, lease string)
		want map[string]string
	}{
		"an edit before delivery goes as create": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.see(versionSeen("a", "1", "v2", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "superseded", "v2 create": "delivered"}},
		"an edit after delivery goes as update": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v2", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "delivered", "v2 update": "delivered"}},
		"an edit while it is sent waits": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create))
			if due := s.claimAll(lease); len(due) > 0 {
				s.t.Errorf("%d are sent beside the version before them", len(due))
			}
		}, map[string]string{"v1 create": "sending", "v2 update": "waits"}},
		"what waited goes as update after an acknowledgement": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			d := s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create))
			s.settleAs(d, jobs.Delivered, nil)
			s.claimOne(lease)
		}, map[string]string{"v1 create": "delivered", "v2 update": "sending"}},
		"what waited goes as create after a failure": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			d := s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create))
			s.settleAs(d, jobs.Pending, nil)
			s.claimOne(lease)
		}, map[string]string{"v1 create": "superseded", "v2 create": "sending"}},
		"of two that wait the later goes": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			d := s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create), versionSeen("a", "1", "v3", create))
			s.see(versionSeen("a", "1", "v4", create))
			s.settleAs(d, jobs.Delivered, nil)
		}, map[string]string{"v1 create": "delivered", "v2 update": "superseded", "v3 update": "superseded", "v4 update": "pending"}},
		"a version that is known is not new": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v2", create))
			for _, v := range []string{"v1", "v2"} {
				if s.see(versionSeen("a", "1", v, create))[0] {
					s.t.Errorf("%s is new again", v)
				}
			}
		}, map[string]string{"v1 create": "delivered", "v2 update": "pending"}},
		"a lease that ran out leaves what waits": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create))
			s.pass(2 * time.Minute)
			must[int](s.t)(s.Reclaim(context.Background()))
			lease = s.lease()
			newer := versionSeen("a", "1", "v2", create)
			s.settleAs(s.claimOne(lease), "", &newer)
		}, map[string]string{"v1 create": "superseded", "v2 create": "pending"}},
		"a version found when it is read again goes instead": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			newer := versionSeen("a", "1", "v2", create)
			s.settleAs(s.claimOne(lease), "", &newer)
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "superseded", "v2 create": "delivered"}},
		"a version that one read before it superseded goes again": {func(s *stage, lease string) {
			v3 := versionSeen("a", "1", "v3", create)
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), "", &v3)
			s.see(versionSeen("a", "1", "v2", create)) // of a page that was read before
			s.settleAs(s.claimOne(lease), "", &v3)
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "superseded", "v2 create": "superseded", "v3 create": "delivered"}},
		"and goes as what it is by then": {func(s *stage, lease string) {
			v3 := versionSeen("a", "1", "v3", create)
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), "", &v3)
			s.see(versionSeen("a", "1", "v2", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v2b", create))
			s.settleAs(s.claimOne(lease), "", &v3)
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "superseded", "v2 create": "delivered", "v2b update": "superseded", "v3 update": "delivered"}},
		"a removal of what was delivered is told": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v2", remove))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
		}, map[string]string{"v1 create": "delivered", "v2 remove": "delivered"}},
		"and what comes back is created": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v2", remove))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("a", "1", "v3", create))
		}, map[string]string{"v1 create": "delivered", "v2 remove": "delivered", "v3 create": "pending"}},
		"what waits outlives an older version that was read before it": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			d := s.claimOne(lease)
			read := versionSeen("a", "1", "v2", create)
			s.see(versionSeen("a", "1", "v2", create))
			s.see(versionSeen("a", "1", "v3", create))
			s.settleAs(d, "", &read)
		}, map[string]string{"v1 create": "superseded", "v2 update": "superseded", "v3 create": "pending"}},
		"a removal of what was never sent is nobody's": {func(s *stage, lease string) {
			if s.see(versionSeen("a", "1", "v1", remove))[0] {
				s.t.Error("it was entered")
			}
		}, map[string]string{}},
		"what was deleted before it was sent is withdrawn": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			newer := versionSeen("a", "1", "v2", remove)
			s.settleAs(s.claimOne(lease), "", &newer)
		}, map[string]string{"v1 create": "withdrawn"}},
		"a removal of what was tried is told": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Pending, nil)
			s.see(versionSeen("a", "1", "v2", remove))
		}, map[string]string{"v1 create": "superseded", "v2 remove": "pending"}},
		"a removal of what was under way when its process died is told": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create), versionSeen("a", "2", "v1", create))
			s.claimAll(lease)
			s.see(versionSeen("a", "1", "v2", remove))
			s.pass(2 * time.Minute)
			must[int](s.t)(s.Reclaim(context.Background()))
			lease = s.lease()
			for _, d := range s.claimAll(lease) {
				if d.Row == "1" {
					newer := versionSeen("a", "1", "v2", remove)
					s.settleAs(d, "", &newer)
				}
			}
			must[int](s.t)(0, s.DropLease(context.Background(), lease))
			s.see(versionSeen("a", "2", "v3", remove))
		}, map[string]string{"v1 create": "superseded", "v2 remove": "pending", "v3 remove": "pending"}},
		"a change is not for a webhook that wants new rows alone": {func(s *stage, lease string) {
			for _, v := range []string{"v1", "v2", "v3"} {
				d := versionSeen("a", "1", v, create)
				d.Wanted = jobs.Creates
				s.see(d)
				if v != "v1" {
					for _, d := range s.claimAll(lease) {
						s.settleAs(d, jobs.Delivered, nil)
					}
				}
			}
		}, map[string]string{"v1 create": "superseded", "v2 create": "delivered"}},
		"a row that comes back while its removal is sent is changed for a webhook that hears of changes alone": {func(s *stage, lease string) {
			s.see(wanting(jobs.Updates|jobs.Removes, versionSeen("a", "1", "v1", update)))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(wanting(jobs.Updates|jobs.Removes, versionSeen("a", "1", "v2", remove)))
			d := s.claimOne(lease)
			s.see(wanting(jobs.Updates|jobs.Removes, versionSeen("a", "1", "v3", update)))
			s.settleAs(d, jobs.Delivered, nil)
			s.claimOne(lease)
		}, map[string]string{"v1 update": "delivered", "v2 remove": "delivered", "v3 update": "sending"}},
		"and is told anew to one that hears of no changes": {func(s *stage, lease string) {
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v1", create)))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v2", remove)))
			d := s.claimOne(lease)
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v3", create)))
			s.settleAs(d, jobs.Delivered, nil)
			s.claimOne(lease)
		}, map[string]string{"v1 create": "delivered", "v2 remove": "delivered", "v3 create": "sending"}},
		"whether or not the removal was acknowledged": {func(s *stage, lease string) {
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v1", create)))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v2", remove)))
			s.settleAs(s.claimOne(lease), jobs.Pending, nil)
			s.see(wanting(jobs.Creates|jobs.Removes, versionSeen("a", "1", "v3", create)))
		}, map[string]string{"v1 create": "delivered", "v2 remove": "superseded", "v3 create": "pending"}},
		"a removal is told to a webhook that hears of removals alone": {func(s *stage, lease string) {
			s.see(wanting(jobs.Removes, versionSeen("a", "1", "v1", remove)))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			if s.see(wanting(jobs.Removes, versionSeen("a", "1", "v2", remove)))[0] {
				s.t.Error("a row that is gone goes once more")
			}
		}, map[string]string{"v1 remove": "delivered"}},
		"a rejected version supersedes too": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			d := versionSeen("a", "1", "v2", create)
			d.State, d.Reason, d.LastError = jobs.Dead, jobs.Rejected, "record cannot be encoded"
			s.see(d)
			s.see(versionSeen("a", "1", "v3", create))
		}, map[string]string{"v1 create": "superseded", "v2 create": "rejected", "v3 create": "pending"}},
		"webhooks have histories of their own": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.settleAs(s.claimOne(lease), jobs.Delivered, nil)
			s.see(versionSeen("b", "1", "v2", create))
		}, map[string]string{"v1 create": "delivered", "v2 create": "pending"}},
		"removing the webhook ends what waits": {func(s *stage, lease string) {
			s.see(versionSeen("a", "1", "v1", create))
			s.claimOne(lease)
			s.see(versionSeen("a", "1", "v2", create))
			must[int](s.t)(s.RemoveWebhook(context.Background(), s.changed(), "a"))
		}, map[string]string{"v1 create": "removed", "v2 update": "removed"}},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *stage) {
				s.webhooks("a", "b")
				tt.do(s, s.lease())
				if diff := cmp.Diff(tt.want, s.story()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestVersionsOfRun: a run's counts stay right when versions take each other's places in it.
func TestVersionsOfRun(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("a")
		lease := s.lease()
		run, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.must(err)
		in := func(row, version string) jobs.Delivery {
			d := versionSeen("a", row, version, jobs.ActionCreate)
			d.Run = run.ID
			return d
		}
		s.see(in("1", "v1"), in("2", "v1"))
		s.see(in("1", "v2"))
		for _, d := range s.claimAll(lease) {
			if d.Row == "2" {
				newer := in("2", "v2")
				s.settleAs(d, "", &newer)
			} else {
				s.see(in("1", "v3"))
				s.settleAs(d, jobs.Pending, nil)
			}
		}
		for _, d := range s.claimAll(lease) {
			s.settleAs(d, jobs.Delivered, nil)
		}
		s.must(s.GatherDone(ctx, run.ID))
		ended := must[[]jobs.Run](t)(s.EndRuns(ctx))
		if len(ended) != 1 || ended[0].Gathered != 2 || ended[0].Delivered != 2 || ended[0].Pending() != 0 || ended[0].Dead != 0 {
			t.Errorf("runs that ended: %+v", ended)
		}
		status := must[[]WebhookStatus](t)(s.Status(ctx))
		if status[0].Delivered != 2 || status[0].Dead != 0 || status[0].Pending != 0 {
			t.Errorf("status: %+v", status[0])
		}
	})
}

// TestWithdrawnVersions: a version in place of which nothing goes is counted as dead, by its webhook and by its run.
func TestWithdrawnVersions(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("a")
		lease := s.lease()
		run, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.must(err)
		in := func(row, version, action string) jobs.Delivery {
			d := versionSeen("a", row, version, action)
			d.Run = run.ID
			return d
		}
		s.see(in("1", "v1", jobs.ActionCreate), in("2", "v1", jobs.ActionCreate), in("3", "v1", jobs.ActionCreate))
		for _, d := range s.claimAll(lease) {
			switch gone := in(d.Row, "v2", jobs.ActionRemove); d.Row {
			case "1": // found when it was read again
				s.settleAs(d, "", &gone)
			case "2": // while it was read again, and nothing was sent
				s.see(gone)
				s.settle(s.died(d, jobs.Rejected))
			default:
				s.settleAs(d, jobs.Delivered, nil)
			}
		}
		want := map[string]string{"1 v1": "withdrawn", "2 v1": "rejected", "2 v2": "withdrawn", "3 v1": "delivered"}
		got := map[string]string{}
		for _, d := range s.all() {
			got[d.Row+" "+d.Version] = string(d.State)
			if d.State == jobs.Dead {
				got[d.Row+" "+d.Version] = string(d.Reason)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if status := s.status("a"); status.Dead != 3 || status.Delivered != 1 {
			t.Errorf("status: %+v", status)
		}
		r := s.run(run.ID)
		if r.Gathered != 4 || r.Dead != 3 || r.Delivered != 1 || r.Pending() != 0 {
			t.Errorf("run: %+v", r)
		}
	})
}

// TestVersionsOfRunThatFailed: a version leaves its run as what it was counted as when it came to it.
func TestVersionsOfRunThatFailed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		s.webhooks("a")
		lease := s.lease()
		fail := func(d jobs.Delivery, spent bool) {
			t.Helper()
			o := jobs.Outcome{Delivery: d, Lease: d.Lease, Spent: spent, Attempt: &jobs.Attempt{At: s.Now(), Status: 400, Error: "http_400"}}
			o.Delivery.State, o.Delivery.Lease, o.Delivery.NextAt = jobs.Pending, "", s.Now()
			o.Delivery.Attempts++
			if spent {
				o.Delivery.Rounds++
			}
			must[[]bool](t)(s.Settle(ctx, []jobs.Outcome{o}))
		}
		s.see(versionSeen("a", "carried", "v1", jobs.ActionCreate))
		fail(s.claimOne(lease), false)
		run, _, err := s.StartRun(ctx, jobs.RunStart{Kind: jobs.Manual, Lease: lease})
		s.must(err)
		gather := func(row, version string) {
			d := versionSeen("a", row, version, jobs.ActionCreate)
			d.Run = run.ID
			s.see(d)
		}
		gather("gathered", "v1")
		for _, d := range s.claimAll(lease) {
			fail(d, d.Row == "gathered")
		}
		gather("gathered", "v2")
		was := must[jobs.Run](t)(s.Run(ctx, run.ID))
		gather("carried", "v2")
		is := must[jobs.Run](t)(s.Run(ctx, run.ID))
		got := [...]int{was.Gathered, was.Carried, is.Gathered, is.Carried, is.Failed}
		if want := [...]int{1, 1, 2, 0, 0}; got != want {
			t.Errorf("gathered and carried, twice, and failed: %v, want %v", got, want)
		}
	})
}
