package ledger

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// crowd fills the ledger with a history: very many webhooks with settled deliveries, some with records that wait for
// their fires, and three that have two records due each.
func (s *stage) crowd(webhooks, settled int) (due []string) {
	s.t.Helper()
	s.spoilt = true
	s.webhooks("w00000")
	series := fmt.Sprintf("(select generate_series(1, %d) as n) as series", settled)
	name, id := "'w' || lpad((n %% %d)::text, 5, '0')", "gen_random_uuid()"
	hash, no := "sha256(n::text::bytea)", "false"
	if s.lite {
		series = fmt.Sprintf("(with recursive c(n) as (select 1 union all select n + 1 from c where n < %d) select n from c) as series", settled)
		name, id = "printf('w%%05d', n %% %d)", "lower(hex(randomblob(16)))"
		hash, no = "cast('hash ' || n as blob)", "0"
	}
	name = fmt.Sprintf(name, webhooks)
	for _, fill := range []string{
		`insert into webhooks select ` + name + `, chatbots, url, sign_key, sign_key_of, old_key, old_key_until, headers, types, events, dialect, schedule, timezone, immediate,
			retry_at, rate, ack, from_start, description, key_made, origin, state, state_reason, state_at, stopped_at, entered_at
			from webhooks cross join ` + series + fmt.Sprintf(" where n < %d", webhooks),
		`insert into tallies (webhook) select id from webhooks where id <> 'w00000'`,
		`insert into due (webhook, active) select id, state = 'active' from webhooks where id <> 'w00000'`,
		`insert into deliveries (id, webhook, type, row_key, version, action, chatbot, state, seen_at, settled_at)
			select ` + id + `, ` + name + `, 'Lead', 'old ' || n, '', 'create', 'bot', 'delivered', entered_at, entered_at
			from webhooks cross join ` + series + ` where webhooks.id = 'w00000'`,
		`insert into row_versions (webhook, type, row_key)
			select ` + name + `, 'Lead', 'old ' || n from webhooks cross join ` + series + ` where webhooks.id = 'w00000'`,
		`insert into tokens (id, hash, chatbot, may_write, description, created_at)
			select 't' || n, ` + hash + `, 'bot', ` + no + `, '', entered_at from webhooks cross join ` + series + fmt.Sprintf(" where webhooks.id = 'w00000' and n < %d", webhooks),
	} {
		if _, err := s.write.Exec(s.text(fill)); err != nil {
			s.t.Fatal(fill, err)
		}
	}
	ids := make([]string, webhooks)
	for i := range ids {
		ids[i] = fmt.Sprintf("w%05d", i)
	}
	due = []string{ids[7], ids[webhooks/2], ids[webhooks-1]}
	var page []jobs.Delivery
	for _, w := range due {
		page = append(page, s.record(w, jobs.Pending), s.record(w, jobs.Pending))
	}
	for i := range 1000 { // these wait for their fires
		d := s.record(ids[i], jobs.Pending)
		d.NextAt = start.Add(fire)
		page = append(page, d)
	}
	s.enter("", page...)
	var failures []jobs.Outcome
	for i := range 1000 { // and failed attempts of some that are settled
		o := s.failed(s.record(ids[i], jobs.Sending), 0)
		failures = append(failures, o)
	}
	attempts := s.batch(len(failures))
	for i := range failures {
		addAttempt(attempts, &failures[i])
	}
	s.must(s.change(context.Background(), "crowd", func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, sqlAttempts, attempts.args()...)
		return err
	}))
	if !s.lite { // as autovacuum does; on SQLite nobody does
		if _, err := s.write.Exec("analyze"); err != nil {
			s.t.Fatal(err)
		}
	}
	return due
}

// With ten thousand webhooks of which three have something due, a claim finds these, and no hot statement reads a
// table whole, however many webhooks there are and however long the history is.
func TestTenThousandWebhooks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		settled := 50_000
		if s.lite {
			settled = 10_000 // it has no statistics, so its plans do not depend on how many there are
		}
		due := s.crowd(10_000, settled)
		lease := s.lease()
		claimed := s.claim(lease, 1, 100)
		if diff := cmp.Diff(map[string]int{due[0]: 1, due[1]: 1, due[2]: 1}, countBy(claimed)); diff != "" {
			t.Fatalf("claimed (-want +got):\n%s", diff)
		}
		settle := s.batch(1)
		acked := s.acked(claimed[0])
		(&tx{l: s.Ledger, now: s.Now()}).settleRow(settle, &acked)
		lower := s.batch(1)
		lower.text(due[0])
		lower.time(s.Now())
		lower.end()
		attempts := s.batch(1)
		failed := s.failed(claimed[1], time.Minute)
		addAttempt(attempts, &failed)
		rooms, served := s.batch(len(due)), s.batch(len(due))
		for _, w := range due {
			rooms.text(w)
			rooms.number(8)
			rooms.end()
			served.text(w)
			served.time(s.Now())
			served.end()
		}
		rows, states := s.batch(2), s.batch(2)
		for _, row := range []string{"old 1", "old 2"} {
			for _, b := range []batch{rows, states} {
				b.text(due[0])
				b.text("Lead")
				b.text(row)
			}
			rows.end()
			states.text("")
			states.text("")
			states.text("create")
			states.flag(false)
			states.number(0)
			states.end()
		}
		asked := s.batch(2)
		for i := range 2 {
			asked.id(claimed[i].ID)
			asked.number(int64(i))
			asked.end()
		}
		now, ids := s.Now(), []string{uuid.NewString(), claimed[0].ID.String()}
		for _, c := range []struct {
			name  string
			s     *statement
			args  []any
			small string // a table that may be read whole: it is as small as the open work, or one row a process
		}{
			{"hold", sqlHold, []any{lease}, "leases"},
			{"settle", sqlSettle, settle.args(), ""},
			{"attempts", sqlAttempts, attempts.args(), ""},
			{"candidates", sqlCandidates, []any{now, []string{"x"}, 10}, ""},
			{"due of one", sqlDueOf, []any{now, due[0], 10}, ""},
			{"due of all", sqlDueOfAll, append([]any{now}, rooms.args()...), ""},
			{"lease", sqlLease, []any{lease, false, ids}, ""},
			{"served", sqlServed, append([]any{now, now}, served.args()...), ""},
			{"probe", sqlProbe, []any{now, due[0], triedOften}, "retried waiting untried tried_often choices"},
			{"track rows", sqlTrackRows, rows.args(), ""},
			{"lock rows", sqlLockRows, rows.args(), ""},
			{"put rows", sqlPutRows, states.args(), ""},
			{"open versions", sqlOpenVersions, []any{ids}, ""},
			{"known versions", sqlKnown, []any{ids, "superseded"}, ""},
			{"revive", sqlRevive, []any{ids[0], ids[1], "update", now, "", false}, ""},
			{"end versions", sqlEnd, []any{"superseded", "newer_version", now, false, ids}, ""},
			{"wait", sqlWait, []any{ids}, ""},
			{"follow", sqlFollow, []any{ids[0], ids[1], "update", now}, ""},
			{"versions", sqlVersions, []any{due[0], "Lead", []string{"1", "2"}}, ""},
			{"turn", sqlTurnDue, []any{due[0], true, now}, ""},
			{"lower", sqlLower, lower.args(), ""},
			{"lock due", sqlLockDue, []any{due}, ""},
			{"next due", sqlNextDue, nil, ""},
			{"claimable", sqlClaimable, []any{now, true, []string{}}, ""},
			{"claimable of some", sqlClaimable, []any{now, false, due}, ""},
			{"next due of some", sqlNextDueOf, []any{due}, ""},
			{"due", sqlDue, []any{now, due}, ""},
			{"lock tallies", sqlLockTallies, []any{due}, ""},
			{"put back of one", sqlPutBackOf, []any{now, []string{lease}}, ""},
			{"put back what is lost", sqlPutBackLost, []any{now}, "leases"},
			{"put back what is in doubt", sqlUnlease, []any{now, lease, ids}, ""},
			{"released runs", sqlReleasedRuns, []any{due[0], now, false, now}, ""},
			{"release", sqlRelease, []any{due[0], now, false, now, true, false}, ""},
			{"keeping", sqlKeeping, []any{now}, "runs leases"},
			{"adoptable", sqlAdoptable, []any{now, true, true, "run", due, []string{}, true, []string{}, []string{"other"}}, ""},
			{"adopt", sqlAdopt, []any{now, true, true, "run", due, []string{}, true, []string{}, []string{"other"}}, ""},
			{"pull", sqlPull, []any{due[0], now}, ""},
			{"shift", sqlShift, []any{due[0], now, now}, ""},
			{"status of the open", sqlOpen, nil, ""},
			{"status of what is sending", sqlSending, nil, ""},
			{"owed and pending", sqlOwedPending, []any{true, due, false, []string{"bot"}, true, due}, ""},
			{"owed and sending", sqlOwedSending, []any{true, due, false, []string{"bot"}, true, due}, ""},
			{"attempts of", sqlAttemptsOf, []any{ids[0]}, ""},
			{"webhooks that stopped", sqlStopped, []any{now}, ""},
			{"token", sqlToken, []any{make([]byte, 32)}, ""},
			{"not delivered", sqlNotDelivered, asked.args(), ""},
			{"stalled", sqlStalled, []any{"run", due}, ""},
		} {
			if c.s.postgres && s.lite {
				continue
			}
			plan := s.explain(c.s.text, c.args)
			if (c.s == sqlSettle || c.s == sqlLease || c.s == sqlNotDelivered) && !strings.Contains(plan, "deliveries_pkey") && !strings.Contains(plan, "autoindex_deliveries_1") {
				t.Errorf("%s does not go by id:\n%s", c.name, plan)
			}
			scan := regexp.MustCompile(`Seq Scan on (\w+)`)
			if s.lite {
				scan = regexp.MustCompile(`SCAN (\w+)$|SCAN (\w+)\n`)
			}
			for _, m := range scan.FindAllStringSubmatch(plan, -1) {
				table := m[1]
				if table == "" && len(m) > 2 {
					table = m[2]
				}
				if !strings.Contains(c.small, table) && table != "e" && table != "json_each" && table != "value" {
					t.Errorf("%s reads all of %s:\n%s", c.name, table, plan)
				}
			}
		}
	})
}

// explain returns the plan of a statement. It runs nothing.
func (s *stage) explain(text string, args []any) string {
	s.t.Helper()
	statement, prefix := s.text(text), "explain "
	if s.lite {
		prefix = "explain query plan "
	}
	converted := make([]any, len(args))
	for i, a := range args {
		converted[i] = s.arg(a)
	}
	rows, err := s.write.Query(prefix+statement, converted...)
	if err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var line string
		dest := []any{&line}
		if s.lite {
			dest = []any{&id, &parent, &unused, &line}
		}
		s.must(rows.Scan(dest...))
		plan.WriteString(line + "\n")
	}
	s.must(rows.Err())
	return plan.String()
}

// TestStatements: PostgreSQL knows the tables and columns of every statement, whatever schemas it looks in by itself.
func TestStatements(t *testing.T) {
	s := stageOn(t, "postgres")
	for _, one := range statements {
		prepared, err := s.write.Prepare(s.texts[one.number])
		if err != nil {
			t.Errorf("%s: %v", s.texts[one.number], err)
			continue
		}
		s.must(prepared.Close())
	}
}
