package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
	"github.com/leadrelay/leadrelay/jobs"
)

// callers are who may use the API: whoever has the token that may do everything, or one of the ledger's, which is looked
// up for every request, so that one that is removed is refused from then on by every daemon.
type callers struct {
	all    admin.Authenticator
	tokens jobs.Tokens
}

// lookupTime is how long a token's look-up may take.
const lookupTime = 5 * time.Second

// Authenticate tells whose token one is.
func (c callers) Authenticate(ctx context.Context, token string) (admin.Principal, bool, error) {
	if p, ok, err := c.all.Authenticate(ctx, token); ok || err != nil {
		return p, ok, err
	}
	if !strings.HasPrefix(token, jobs.TokenPrefix) {
		return admin.Principal{}, false, nil // no guess costs the ledger anything
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := c.tokens.Token(ctx, jobs.HashToken(jobs.Secret(token)))
	switch {
	case errors.Is(err, jobs.ErrNotFound):
		return admin.Principal{}, false, nil
	case err != nil:
		return admin.Principal{}, false, err
	}
	return admin.Principal{Name: "token " + found.ID, Chatbot: found.Chatbot, Write: found.Write}, true, nil
}
