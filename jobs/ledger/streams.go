package ledger

import (
	"context"
	"database/sql"

	"github.com/leadrelay/leadrelay/jobs"
)

const streamColumns = `type, definition, bookmark, version, fresh, error, (select generation from registry), (select token from registry)`

var (
	sqlStream      = sqlText(`select ` + streamColumns + ` from streams where type = $1`)
	sqlStreams     = sqlText(`select ` + streamColumns + ` from streams order by type`)
	sqlEnterStream = sqlText(`
		insert into streams (type, definition, bookmark) values ($1, $2, $3) on conflict (type) do nothing`)
	sqlResetStream = sqlText(`
		update streams set definition = $2, bookmark = $3, error = '', version = version + 1 where type = $1`)
	sqlUnsteady   = sqlText(`update subscriptions set steady = $2, filled = '[]' where type = $1`)
	sqlStopStream = sqlText(`update streams set error = $2 where type = $1`)
)

func scanStream(row interface{ Scan(...any) error }) (jobs.Stream, error) {
	var s jobs.Stream
	err := row.Scan(&s.Type, &s.Definition, &s.Bookmark, &s.Version, &s.Fresh, &s.Error, &s.Generation.Number, &s.Generation.Token)
	return s, err
}

// Stream returns one stream, or ErrNotFound.
func (l *Ledger) Stream(ctx context.Context, typ string) (jobs.Stream, error) {
	var s jobs.Stream
	err := l.view("stream "+typ, func(t *tx) error {
		err := t.each(ctx, sqlStream, []any{typ}, func(rows *sql.Rows) (err error) {
			s, err = scanStream(rows)
			return err
		})
		if err == nil && s.Version == 0 {
			return jobs.ErrNotFound
		}
		return err
	})
	return s, err
}

// AllStreams returns all streams, by type.
func (l *Ledger) AllStreams(ctx context.Context) ([]jobs.Stream, error) {
	var all []jobs.Stream
	err := l.view("streams", func(t *tx) error {
		all = nil
		return t.each(ctx, sqlStreams, nil, func(rows *sql.Rows) error {
			s, err := scanStream(rows)
			all = append(all, s)
			return err
		})
	})
	return all, err
}

// EnterStream makes a stream that is not there yet.
func (l *Ledger) EnterStream(ctx context.Context, typ, definition string, first jobs.Bookmark) error {
	return l.change(ctx, "enter stream "+typ, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, sqlEnterStream, typ, definition, string(first))
		return err
	})
}

// ResetStream sets a stream's bookmark and definition; a page that is being read is then refused. It is a change of the
// webhooks, too: they begin anew to be known to have had all.
func (l *Ledger) ResetStream(ctx context.Context, typ, definition string, b jobs.Bookmark) error {
	return l.change(ctx, "reset stream "+typ, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, sqlChanged, newToken()); err != nil {
			return err
		}
		n, err := t.exec(ctx, sqlResetStream, typ, definition, string(b))
		if err == nil && n == 0 {
			return jobs.ErrNotFound
		}
		if err == nil {
			_, err = t.exec(ctx, sqlUnsteady, typ, string(b))
		}
		return err
	})
}

// StopStream records why a stream cannot go on.
func (l *Ledger) StopStream(ctx context.Context, typ, why string) error {
	return l.changeOne(ctx, "stop stream "+typ, sqlStopStream, typ, why)
}

// changeOne runs a statement that changes one row, or ErrNotFound.
func (l *Ledger) changeOne(ctx context.Context, what string, s *statement, args ...any) error {
	return l.change(ctx, what, func(ctx context.Context, t *tx) error {
		n, err := t.exec(ctx, s, args...)
		if err == nil && n == 0 {
			return jobs.ErrNotFound
		}
		return err
	})
}
