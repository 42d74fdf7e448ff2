package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

var (
	sqlSubscriptions = sqlText(`
		select webhook, type, start_at, since, before_at, backfill, until_at, steady, filled
		from subscriptions order by webhook, type`)
	sqlPutSubscription = sqlText(`
		insert into subscriptions (webhook, type, start_at, since, before_at, backfill, until_at, steady, filled)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (webhook, type) do update set start_at = excluded.start_at, since = excluded.since, before_at = excluded.before_at,
			backfill = excluded.backfill, until_at = excluded.until_at, steady = excluded.steady, filled = excluded.filled`)
	sqlMoveBackfill = sqlText(`
		update subscriptions set backfill = $3, until_at = $4, filled = $5
		where webhook = $1 and type = $2 and backfill = $6 and until_at = $7 and steady = $8 and filled = $9
			and since is not distinct from $10::timestamptz and before_at is not distinct from $11::timestamptz`)
	sqlRewanted = sqlText(`
		update subscriptions set steady = (select bookmark from streams where streams.type = subscriptions.type),
			filled = '[]', backfill = ''
		where webhook = any($1::text[]) and type in (select type from streams)`)
)

func scanSubscription(rows *sql.Rows) (jobs.Subscription, error) {
	var s jobs.Subscription
	var filled []string
	err := rows.Scan(&s.Webhook, &s.Type, &s.Start, instant{&s.Since}, instant{&s.Before}, &s.Backfill, &s.Until, &s.Steady, list{&filled})
	for i := 0; i < len(filled) && err == nil; i++ {
		var span jobs.Span
		span, err = parseSpan(filled[i])
		s.Filled = append(s.Filled, span)
	}
	return s, err
}

func (t *tx) putSubscription(ctx context.Context, s *jobs.Subscription) error {
	_, err := t.exec(ctx, sqlPutSubscription, s.Webhook, s.Type, string(s.Start), s.Since, s.Before, string(s.Backfill),
		string(s.Until), string(s.Steady), spansText(s.Filled))
	return err
}

// moveBackfill moves the cursor of a backfill that is as the page was read for: a backfill that begins again, of more
// rows or for other records, may have the same cursor.
func (t *tx) moveBackfill(ctx context.Context, e jobs.Entries) error {
	was := *e.Backfill
	is := was
	if is.Backfill = e.Bookmark; e.Done {
		is = was.BackfillEnded()
	}
	n, err := t.exec(ctx, sqlMoveBackfill, was.Webhook, was.Type, string(is.Backfill), string(is.Until), spansText(is.Filled),
		string(was.Backfill), string(was.Until), string(was.Steady), spansText(was.Filled), was.Since, was.Before)
	if err == nil && n == 0 {
		return jobs.ErrBookmarkMoved
	}
	return err
}

// spansText is a list of spans as the table has it.
func spansText(spans []jobs.Span) string {
	texts := make([]string, len(spans))
	for i, s := range spans {
		texts[i] = boundText(s.Since) + "/" + boundText(s.Before)
	}
	return list{&texts}.String()
}

func boundText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func parseSpan(text string) (s jobs.Span, err error) {
	since, before, _ := strings.Cut(text, "/")
	for bound, text := range map[*time.Time]string{&s.Since: since, &s.Before: before} {
		if text == "" {
			continue
		}
		if *bound, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return s, fmt.Errorf("a subscription's spans in the ledger: %w", err)
		}
	}
	return s, nil
}
