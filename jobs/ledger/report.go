package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// A WebhookStatus counts one webhook's deliveries.
type WebhookStatus struct {
	Webhook       string
	Pending       int
	Failing       int // pending with a failed attempt
	Sending       int
	Delivered     int // without TestAnswers
	TestAnswers   int
	Dead          int       // without Superseded ones, whose rows go as newer versions and are counted as these
	OldestPending time.Time // when the one pending longest was first seen; zero: none
	LastError     string    // reason code of the last failure since the last acknowledgement, else of one that is failing; "": none
	LastRun       time.Time // when its last run began; zero: none
}

var (
	sqlTallies = sqlText(`
		select webhook, delivered, test_answers, dead, last_error, last_run_at from tallies order by webhook`)
	sqlOpen = sqlText(`
		select webhook, count(*), sum(case when attempts > 0 then 1 else 0 end), min(seen_at),
			coalesce(max(case when attempts > 0 then last_error end), '')
		from deliveries where state = 'pending' group by webhook`)
	sqlSending = sqlText(`
		select webhook, count(*) from deliveries where state = 'sending' group by webhook`)
	sqlAttemptsOf = sqlText(`
		select began_at, took_us, status, error, word from attempts where delivery = $1 order by number`)
	sqlFirstAttempt = sqlText(`
		select began_at, took_us, status, '', word from deliveries where id = $1 and began_at is not null`)
	sqlThere    = sqlText(`select 1 from deliveries where id = $1`)
	sqlDelivery = sqlText(`select ` + deliveryColumns + ` from deliveries where id = $1`)
	sqlRuns     = sqlText(`select ` + runColumns + ` from runs where id < $1 order by id desc limit $2`)
)

// Status counts every webhook's deliveries, by id. What is settled comes from counts that are kept; what is open is
// counted anew.
func (l *Ledger) Status(ctx context.Context) ([]WebhookStatus, error) {
	var all []WebhookStatus
	err := l.view("count the deliveries", func(t *tx) error {
		all = nil
		place := map[string]int{}
		err := t.each(ctx, sqlTallies, nil, func(rows *sql.Rows) error {
			var s WebhookStatus
			err := rows.Scan(&s.Webhook, &s.Delivered, &s.TestAnswers, &s.Dead, &s.LastError, instant{&s.LastRun})
			place[s.Webhook] = len(all)
			all = append(all, s)
			return err
		})
		if err != nil {
			return err
		}
		of := func(webhook string) *WebhookStatus {
			i, ok := place[webhook]
			if !ok {
				return &WebhookStatus{} // no webhook of ours
			}
			return &all[i]
		}
		err = t.each(ctx, sqlOpen, nil, func(rows *sql.Rows) error {
			var n WebhookStatus
			err := rows.Scan(&n.Webhook, &n.Pending, &n.Failing, instant{&n.OldestPending}, &n.LastError)
			s := of(n.Webhook)
			s.Pending, s.Failing, s.OldestPending, s.LastError = n.Pending, n.Failing, n.OldestPending, cmp.Or(s.LastError, n.LastError)
			return err
		})
		if err != nil {
			return err
		}
		return t.each(ctx, sqlSending, nil, func(rows *sql.Rows) error {
			var webhook string
			var n int
			err := rows.Scan(&webhook, &n)
			of(webhook).Sending = n
			return err
		})
	})
	return all, err
}

// A Filter chooses deliveries; what is left zero does not matter.
type Filter struct {
	Webhooks []string
	Chatbot  string
	Type     string
	State    jobs.State
	Reason   jobs.Reason
	Row      string
	Run      string
	Since    time.Time // first seen at or after
	Until    time.Time // first seen before
	Limit    int       // at most this many; 0: 100
	After    string    // next of the page before; "" for the first
}

// Deliveries returns a page of deliveries, those first seen last first, and what to name in After for the next one;
// "" at the end. An After that Deliveries did not give is ErrNotFound.
func (l *Ledger) Deliveries(ctx context.Context, f Filter) (items []jobs.Delivery, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	var where []string
	var args []any
	and := func(condition string, v any) {
		args = append(args, v)
		where = append(where, strings.ReplaceAll(condition, "$", fmt.Sprintf("$%d", len(args))))
	}
	if f.Webhooks != nil {
		and("webhook = any($::text[])", f.Webhooks)
	}
	for _, c := range []struct{ column, value string }{
		{"chatbot", f.Chatbot}, {"type", f.Type}, {"reason", string(f.Reason)}, {"row_key", f.Row}, {"run", f.Run},
	} {
		if c.value != "" {
			and(c.column+" = $", c.value)
		}
	}
	switch f.State {
	case "":
	case jobs.Pending, jobs.Sending, jobs.Delivered, jobs.Dead: // named, so that a partial index is used
		where = append(where, "state = '"+string(f.State)+"'")
	default:
		return nil, "", fmt.Errorf("%q is no state of a delivery", f.State)
	}
	if !f.Since.IsZero() {
		and("seen_at >= $", f.Since)
	}
	if !f.Until.IsZero() {
		and("seen_at < $", f.Until)
	}
	if f.After != "" {
		at, id, err := parseAfter(f.After)
		if err != nil {
			return nil, "", err
		}
		and("(seen_at, id) < ($, ", at)
		where[len(where)-1] += fmt.Sprintf("$%d)", len(args)+1)
		args = append(args, id)
	}
	query := "select " + deliveryColumns + " from deliveries"
	if len(where) > 0 {
		query += " where " + strings.Join(where, " and ")
	}
	query += fmt.Sprintf(" order by seen_at desc, id desc limit %d", f.Limit+1)
	query = l.text(query)
	err = l.view("list deliveries", func(t *tx) error {
		items = nil
		rows, err := l.read.QueryContext(ctx, query, t.convert(args)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d, err := scanDelivery(rows)
			if err != nil {
				return err
			}
			items = append(items, d)
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	if err != nil {
		return nil, "", err
	}
	if len(items) > f.Limit {
		items = items[:f.Limit]
		last := items[f.Limit-1]
		next = fmt.Sprintf("%d.%s", last.SeenAt.UnixMicro(), last.ID)
	}
	return items, next, nil
}

func parseAfter(after string) (time.Time, uuid.UUID, error) {
	var us int64
	var id string
	if _, err := fmt.Sscanf(strings.Replace(after, ".", " ", 1), "%d %s", &us, &id); err == nil {
		// PostgreSQL knows no time before the year -4713, and one like that is none that Deliveries gave.
		if u, err := uuid.Parse(id); err == nil && us >= 0 {
			return time.UnixMicro(us).UTC(), u, nil
		}
	}
	return time.Time{}, uuid.Nil, fmt.Errorf("continue a list of deliveries after %q: %w", after, jobs.ErrNotFound)
}

// Attempts returns what is known of a delivery's attempts, oldest first; ErrNotFound where there is no such delivery.
func (l *Ledger) Attempts(ctx context.Context, id uuid.UUID) ([]jobs.Attempt, error) {
	var all []jobs.Attempt
	err := l.view("attempts of delivery "+id.String(), func(t *tx) error {
		all = nil
		var there int
		if err := t.one(ctx, sqlThere, []any{id}, &there); errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrNotFound
		} else if err != nil {
			return err
		}
		for _, s := range []*statement{sqlFirstAttempt, sqlAttemptsOf} {
			err := t.each(ctx, s, []any{id}, func(rows *sql.Rows) error {
				var a jobs.Attempt
				var us int64
				err := rows.Scan(instant{&a.At}, &us, &a.Status, &a.Error, &a.Word)
				a.Duration = time.Duration(us) * time.Microsecond
				all = append(all, a)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// Delivery returns one delivery, or ErrNotFound.
func (l *Ledger) Delivery(ctx context.Context, id uuid.UUID) (jobs.Delivery, error) {
	var d jobs.Delivery
	err := l.view("delivery "+id.String(), func(t *tx) error {
		found := false
		err := t.each(ctx, sqlDelivery, []any{id}, func(rows *sql.Rows) (err error) {
			found = true
			d, err = scanDelivery(rows)
			return err
		})
		if err == nil && !found {
			return jobs.ErrNotFound
		}
		return err
	})
	return d, err
}

// ListRuns returns a page of at most limit runs, the newest first, and what to name as after for the next one; "" at the
// end. Runs' ids are of the order in which they were begun.
func (l *Ledger) ListRuns(ctx context.Context, limit int, after string) (page []jobs.Run, next string, err error) {
	if after == "" {
		after = "g" // behind all hexadecimal digits
	}
	err = l.view("list runs", func(t *tx) error {
		page = nil
		return t.each(ctx, sqlRuns, []any{after, limit + 1}, func(rows *sql.Rows) error {
			r, err := scanRun(rows)
			page = append(page, r)
			return err
		})
	})
	if err == nil && len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, err
}
