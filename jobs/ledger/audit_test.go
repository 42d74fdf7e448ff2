package ledger

import (
	"cmp"
	"fmt"
	"strings"
)

// The rules that hold between the ledger's rows whenever no transaction is under way. Each finds the rows that break it.
var rules = []struct{ name, offenders string }{
	{"a delivery is in a state", `
		select id, state, reason, lease from deliveries
		where state not in ('pending', 'sending', 'delivered', 'dead') or (state = 'sending') <> (lease <> '')
			or (state = 'dead') <> (reason <> '') or (state in ('delivered', 'dead')) <> (settled_at is not null)
			or reason not in ('', 'expired', 'withdrawn', 'rejected', 'superseded', 'removed', 'exhausted')`},
	{"what is sending is sent under a lease", `
		select id, lease from deliveries where state = 'sending' and lease not in (select token from leases)`},
	{"what is pending falls due, or waits for another version, which does or is sent", `
		select id, next_at from deliveries
		where state = 'pending' and (next_at is null) <> (cast(id as text) in (
			select behind_id from row_versions where open_id in (
				select cast(id as text) from deliveries where state = 'sending' or state = 'pending' and next_at is not null)))`},
	{"of a row's versions one is open", `
		select webhook, type, row_key, count(*) from deliveries
		where version <> '' and (state = 'sending' or state = 'pending' and next_at is not null)
		group by webhook, type, row_key having count(*) > 1`},
	{"a version that is open is known as it", `
		select id, open_id from deliveries join row_versions using (webhook, type, row_key)
		where version <> '' and (state = 'sending' or state = 'pending' and next_at is not null) and open_id <> cast(id as text)`},
	{"tallies are counts", `
		select tallies.webhook, delivered, test_answers, dead, r, s, t from tallies left join (
			select webhook, sum(case when state = 'delivered' and not test_answer then 1 else 0 end) as r,
				sum(case when state = 'delivered' and test_answer then 1 else 0 end) as s,
				sum(case when state = 'dead' and reason <> 'superseded' then 1 else 0 end) as t
			from deliveries group by webhook) as counted on counted.webhook = tallies.webhook
		where delivered <> coalesce(r, 0) or test_answers <> coalesce(s, 0) or dead <> coalesce(t, 0)`},
	{"due follows the webhook's state", `
		select webhook, active, probe_at, due_at, state, stopped_at from due join webhooks on id = webhook
		where active <> (state in ('active', 'held')) or (probe_at is not null) <> (state = 'held') and active
			or not active and due_at is not null or (state = 'active') <> (stopped_at is null) and state <> 'removed'`},
	{"due is not later than what may be claimed", `
		select webhook, due_at, probe_at, rate_at, earliest from due join (
			select webhook, min(next_at) as earliest, max(case when attempts > 0 then 1 else 0 end) as tried
			from deliveries where state = 'pending' and next_at is not null group by webhook) as p using (webhook)
		where active and (due_at is null or (rate_at is null or due_at > rate_at) and
			case when probe_at is null then due_at > earliest when tried = 1 then due_at > probe_at else due_at > probe_at and due_at > earliest end)`},
	{"an open run's counts are counts", `
		select id, gathered, carried, delivered, test_answers, failed, dead, under_way, r, s, t from runs left join (
			select run, sum(case when state in ('pending', 'sending') and not spent_in_run then 1 else 0 end) as under_way,
				sum(case when state = 'delivered' and not test_answer then 1 else 0 end) as r,
				sum(case when state = 'delivered' and test_answer then 1 else 0 end) as s,
				sum(case when state = 'dead' and reason <> 'superseded' then 1 else 0 end) as t
			from deliveries group by run) as counted on counted.run = id
		where ended_at is null and (gathered + carried - delivered - test_answers - failed - dead <> coalesce(under_way, 0)
			or delivered <> coalesce(r, 0) or test_answers <> coalesce(s, 0) or dead <> coalesce(t, 0)
			or gathered < 0 or carried < 0 or failed < 0)`},
	{"attempts are of deliveries that were tried so often", `
		select delivery, number, attempts from attempts left join deliveries on id = delivery where number > attempts or id is null`},
	{"what was removed has no secrets", `select id from webhooks where state = 'removed' and (length(url) > 0 or length(sign_key) > 0)`},
}

// audit returns what of the rules the ledger's rows break.
func (l *Ledger) audit() error {
	var broken []string
	for _, r := range rules {
		rows, err := l.read.Query(l.text(r.offenders))
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		names, err := rows.Columns()
		for n := 0; err == nil && rows.Next() && n < 5; n++ {
			values, into := make([]any, len(names)), make([]any, len(names))
			for i := range values {
				into[i] = &values[i]
			}
			err = rows.Scan(into...)
			var row strings.Builder
			for i, v := range values {
				if b, ok := v.([]byte); ok {
					v = string(b)
				}
				fmt.Fprintf(&row, " %s=%v", names[i], v)
			}
			broken = append(broken, r.name+":"+row.String())
		}
		if err == nil {
			err = rows.Err()
		}
		if err = cmp.Or(err, rows.Close()); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("the ledger breaks its rules:\n%s", strings.Join(broken, "\n"))
	}
	return nil
}
