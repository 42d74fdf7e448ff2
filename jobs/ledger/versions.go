package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	sqlTrackRows = sqlText(`
		insert into row_versions (webhook, type, row_key) select e.webhook, e.type, e.row_key
		from unnest($1::text[], $2::text[], $3::text[]) as e(webhook, type, row_key)
		where true on conflict (webhook, type, row_key) do nothing`)
	sqlLockRows = sqlText(`
		select webhook, type, row_key, open_id, behind_id, behind_wanted, acked, tried from row_versions
		where (webhook, type, row_key) in (
			select e.webhook, e.type, e.row_key
			from unnest($1::text[], $2::text[], $3::text[]) as e(webhook, type, row_key))
		order by webhook, type, row_key for update`)
	sqlPutRows = sqlText(`
		update row_versions set open_id = e.now_open, behind_id = e.now_behind, acked = e.now_acked, tried = e.now_tried,
			behind_wanted = e.now_wanted
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::int[])
			as e(hook, kind, key, now_open, now_behind, now_acked, now_tried, now_wanted)
		where webhook = e.hook and type = e.kind and row_key = e.key`)
	sqlOpenVersions = sqlText(`
		select id, state, version, action, run, carried, spent_in_run, not_before from deliveries
		where id = any($1::uuid[]) order by id for update`)
	sqlKnown = sqlText(`select id, state = 'dead' and reason = $2 from deliveries where id = any($1::uuid[])`)
	sqlEnd   = sqlText(`
		update deliveries set state = 'dead', reason = $1, last_error = $2, settled_at = $3, next_at = null,
			spent_in_run = $4, lease = ''
		where id = any($5::uuid[])`)
	sqlWait   = sqlText(`update deliveries set next_at = null where id = any($1::uuid[])`)
	sqlFollow = sqlText(`update deliveries set id = $2, action = $3, next_at = $4, not_before = null where id = $1`)
	sqlRevive = sqlText(`
		update deliveries set id = $2, action = $3, next_at = $4, run = $5, state = 'pending', reason = '', last_error = '',
			settled_at = null, not_before = null, carried = $6
		where id = $1`)
	sqlVersions = sqlText(`
		select row_key, acked, tried from row_versions
		where webhook = $1 and type = $2 and row_key = any($3::text[])`)
)

// A rowKey is one row of a source as one webhook sees it.
type rowKey struct{ webhook, typ, row string }

func rowOf(d *jobs.Delivery) rowKey { return rowKey{d.Webhook, d.Type, d.Row} }

func compareRows(a, b rowKey) int {
	return cmp.Or(cmp.Compare(a.webhook, b.webhook), cmp.Compare(a.typ, b.typ), cmp.Compare(a.row, b.row))
}

// A tracked row is what row_versions says of it.
type tracked struct {
	open, behind string       // ids of deliveries; ""
	wanted       jobs.Actions // by the webhook of behind, when that was entered
	jobs.RowVersions
}

// A version is a delivery that may be open.
type version struct {
	id, state, version, action, run string
	carried, spent                  bool // as its run counts it
	notBefore                       time.Time
}

func (v *version) isOpen() bool {
	return v != nil && (v.state == string(jobs.Pending) || v.state == string(jobs.Sending))
}

// heldRows are the rows that a transaction holds, and what becomes of them.
type heldRows struct {
	t          *tx
	rows       map[rowKey]*tracked
	byID       map[string]*version
	known      map[uuid.UUID]bool // ids that there are; true: superseded
	runs       runCounts
	due        dues
	superseded []string
	withdrawn  []string
	dead       map[string]int // by webhook: those that are withdrawn
	waiting    []string
	follow     []following
	entered    []jobs.Delivery
}

// following is a version that waited and goes now.
type following struct {
	id, newID, action string
	at                time.Time
	revived           bool // it had been superseded
	run               string
}

// holdRows takes the right to enter and settle versions of these rows. track: rows that are not there yet begin to be.
func (t *tx) holdRows(ctx context.Context, keys []rowKey, track bool) (*heldRows, error) {
	v := &heldRows{
		t: t, rows: make(map[rowKey]*tracked, len(keys)), byID: map[string]*version{}, known: map[uuid.UUID]bool{},
		runs: runCounts{}, due: dues{}, dead: map[string]int{},
	}
	if len(keys) == 0 {
		return v, nil
	}
	slices.SortFunc(keys, compareRows)
	keys = slices.Compact(keys)
	b := t.l.batch(len(keys))
	for _, k := range keys {
		b.text(k.webhook)
		b.text(k.typ)
		b.text(k.row)
		b.end()
	}
	args := b.args()
	if track {
		if _, err := t.exec(ctx, sqlTrackRows, args...); err != nil {
			return nil, err
		}
	}
	err := t.each(ctx, sqlLockRows, args, func(rows *sql.Rows) error {
		var k rowKey
		r := &tracked{}
		err := rows.Scan(&k.webhook, &k.typ, &k.row, &r.open, &r.behind, &r.wanted, &r.Acked, &r.Tried)
		v.rows[k] = r
		return err
	})
	return v, err
}

// webhooks are those of the rows, sorted.
func (v *heldRows) webhooks() []string {
	var all []string
	for k := range v.rows {
		all = append(all, k.webhook)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// look reads the versions that are open, and which of the candidates for entering are known.
func (v *heldRows) look(ctx context.Context, candidates []*jobs.Delivery) error {
	ids := []string{}
	for _, r := range v.rows {
		for _, id := range [...]string{r.open, r.behind} {
			if id != "" {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 0 {
		err := v.t.each(ctx, sqlOpenVersions, []any{ids}, func(rows *sql.Rows) error {
			var o version
			err := rows.Scan(&o.id, &o.state, &o.version, &o.action, &o.run, &o.carried, &o.spent, instant{&o.notBefore})
			v.byID[o.id] = &o
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	ids = ids[:0]
	for _, d := range candidates {
		for _, id := range d.Key.IDs() {
			ids = append(ids, id.String())
		}
	}
	return v.t.each(ctx, sqlKnown, []any{ids, string(jobs.Superseded)}, func(rows *sql.Rows) error {
		var id uuid.UUID
		var superseded bool
		err := rows.Scan(&id, &superseded)
		v.known[id] = superseded
		return err
	})
}

// store writes what became of the rows. The webhooks' tallies and due rows are held.
func (v *heldRows) store(ctx context.Context) error {
	for _, ended := range []struct {
		why  jobs.Reason
		last string
		ids  []string
	}{{jobs.Superseded, jobs.NewerVersion, v.superseded}, {jobs.Withdrawn, jobs.RowGone, v.withdrawn}} {
		if len(ended.ids) == 0 {
			continue
		}
		if _, err := v.t.exec(ctx, sqlEnd, string(ended.why), ended.last, v.t.now, false, ended.ids); err != nil {
			return err
		}
	}
	for _, webhook := range slices.Sorted(maps.Keys(v.dead)) { // whose tallies are held
		if _, err := v.t.exec(ctx, sqlMoreDead, webhook, v.dead[webhook]); err != nil {
			return err
		}
	}
	for _, f := range v.follow {
		if f.revived {
			if _, err := v.t.exec(ctx, sqlRevive, f.id, f.newID, f.action, f.at, f.run, false); err != nil {
				return err
			}
			continue
		}
		if _, err := v.t.exec(ctx, sqlFollow, f.id, f.newID, f.action, f.at); err != nil {
			return err
		}
	}
	if len(v.waiting) > 0 {
		if _, err := v.t.exec(ctx, sqlWait, v.waiting); err != nil {
			return err
		}
	}
	if len(v.rows) == 0 {
		return nil
	}
	b := v.t.l.batch(len(v.rows))
	for k, r := range v.rows {
		for _, s := range [...]string{k.webhook, k.typ, k.row, r.open, r.behind, r.Acked} {
			b.text(s)
		}
		b.flag(r.Tried)
		b.number(int64(r.wanted))
		b.end()
	}
	_, err := v.t.exec(ctx, sqlPutRows, b.args()...)
	return err
}

// Versions returns what is known of these rows of a type at a webhook, by row.
func (l *Ledger) Versions(ctx context.Context, webhook, typ string, rows []string) (map[string]jobs.RowVersions, error) {
	var known map[string]jobs.RowVersions
	err := l.view("look up the versions of rows", func(t *tx) error {
		known = make(map[string]jobs.RowVersions, len(rows))
		return t.each(ctx, sqlVersions, []any{webhook, typ, rows}, func(rs *sql.Rows) error {
			var row string
			var v jobs.RowVersions
			err := rs.Scan(&row, &v.Acked, &v.Tried)
			known[row] = v
			return err
		})
	})
	return known, err
}
