package ledger

import (
	"context"
	"database/sql"
	"errors"

	"github.com/leadrelay/leadrelay/jobs"
)

const tokenColumns = `id, chatbot, may_write, description, created_at`

var (
	sqlAddToken = sqlText(`
		insert into tokens (` + tokenColumns + `, hash) values ($1, $2, $3, $4, $5, $6)`)
	sqlToken       = sqlText(`select ` + tokenColumns + ` from tokens where hash = $1`)
	sqlTokens      = sqlText(`select ` + tokenColumns + ` from tokens order by chatbot, created_at, id`)
	sqlRemoveToken = sqlText(`delete from tokens where id = $1`)
)

var _ jobs.Tokens = (*Ledger)(nil)

func scanToken(row interface{ Scan(...any) error }) (jobs.Token, error) {
	var t jobs.Token
	err := row.Scan(&t.ID, &t.Chatbot, &t.Write, &t.Description, instant{&t.CreatedAt})
	return t, err
}

// AddToken enters a token under the hash of its text.
func (l *Ledger) AddToken(ctx context.Context, token jobs.Token, hash jobs.TokenHash) error {
	return l.change(ctx, "add token "+token.ID, func(ctx context.Context, t *tx) error {
		at := token.CreatedAt
		if at.IsZero() {
			at = t.now
		}
		_, err := t.exec(ctx, sqlAddToken, token.ID, token.Chatbot, token.Write, token.Description, at, hash[:])
		return err
	})
}

// Token returns the token of that hash, or ErrNotFound. Databases find it by an index, and how long they look tells
// nothing: who does not know the text cannot choose the hash.
func (l *Ledger) Token(ctx context.Context, hash jobs.TokenHash) (jobs.Token, error) {
	var found jobs.Token
	err := l.view("look up a token", func(t *tx) (err error) {
		found, err = scanToken(t.query(ctx, sqlToken).QueryRowContext(ctx, hash[:]))
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrNotFound
		}
		return err
	})
	return found, err
}

// AllTokens returns all tokens, by chatbot and then as they were made.
func (l *Ledger) AllTokens(ctx context.Context) ([]jobs.Token, error) {
	var all []jobs.Token
	err := l.view("read the tokens", func(t *tx) error {
		all = nil
		return t.each(ctx, sqlTokens, nil, func(rows *sql.Rows) error {
			token, err := scanToken(rows)
			all = append(all, token)
			return err
		})
	})
	return all, err
}

// RemoveToken forgets a token, or says ErrNotFound.
func (l *Ledger) RemoveToken(ctx context.Context, id string) error {
	return l.changeOne(ctx, "remove token "+id, sqlRemoveToken, id)
}
