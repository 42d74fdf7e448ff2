package jobs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// A Token lets who bears it use the API for one chatbot. Its text is shown once, when it is made.
type Token struct {
	ID          string // short: it names the token in lists, and for removing it
	Chatbot     string // it sees and touches this chatbot's things only; never AllChatbots
	Write       bool   // false: it may only read
	Description string
	CreatedAt   time.Time
}

// Tokens keeps the API's tokens, as hashes of their texts. A token is 32 random bytes, which nobody finds by trying
// hashes, so a plain SHA-256 says no more of it than a slow and salted hash, as passwords need, would.
type Tokens interface {
	// AddToken enters a token; CreatedAt is the ledger's clock where it is zero.
	AddToken(ctx context.Context, t Token, hash TokenHash) error
	// Token returns the token of that hash, or ErrNotFound. What was removed is not found from the moment that
	// RemoveToken returned, in every process.
	Token(ctx context.Context, hash TokenHash) (Token, error)
	// AllTokens returns all tokens, by chatbot and then as they were made.
	AllTokens(ctx context.Context) ([]Token, error)
	// RemoveToken forgets a token, or says ErrNotFound.
	RemoveToken(ctx context.Context, id string) error
}

// A TokenHash is the SHA-256 of a token's text.
type TokenHash [sha256.Size]byte

// HashToken is the hash that a token's text is looked up by.
func HashToken(text Secret) TokenHash { return sha256.Sum256([]byte(text.Reveal())) }

// TokenPrefix begins every token's text, so that people, and programs that look for leaked secrets, know one.
const TokenPrefix = "leadrelay_"

// NewToken makes a token's text and an id for it.
func NewToken() (id string, text Secret) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	var short [6]byte           // of its own: what is shown must say nothing of the text
	_, _ = rand.Read(short[:])
	return hex.EncodeToString(short[:]), Secret(TokenPrefix + hex.EncodeToString(random[:]))
}
