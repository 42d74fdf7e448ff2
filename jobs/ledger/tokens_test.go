package ledger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, s *stage) {
		ctx := context.Background()
		other := s.open() // another daemon
		if all := must[[]jobs.Token](t)(s.AllTokens(ctx)); len(all) != 0 {
			t.Errorf("a new ledger has the tokens %+v", all)
		}
		var want []jobs.Token
		texts := map[string]jobs.Secret{}
		for _, token := range []jobs.Token{
			{Chatbot: "bakery", Write: true, Description: "Die Größe"},
			{Chatbot: "bakery"},
			{Chatbot: "café\"", Write: true, CreatedAt: start.Add(-time.Hour)},
		} {
			var text jobs.Secret
			token.ID, text = jobs.NewToken()
			texts[token.ID] = text
			s.must(s.AddToken(ctx, token, jobs.HashToken(text)))
			if token.CreatedAt.IsZero() {
				token.CreatedAt = s.Now()
			}
			want = append(want, token)
			s.pass(time.Second)
		}
		if diff := cmp.Diff(want, must[[]jobs.Token](t)(other.AllTokens(ctx))); diff != "" {
			t.Errorf("all (-want +got):\n%s", diff)
		}
		for _, token := range want {
			if diff := cmp.Diff(token, must[jobs.Token](t)(other.Token(ctx, jobs.HashToken(texts[token.ID])))); diff != "" {
				t.Errorf("by its text (-want +got):\n%s", diff)
			}
		}

		// The same text again, or the same id, is refused and changes nothing.
		id, text := jobs.NewToken()
		for name, again := range map[string]error{
			"text": s.AddToken(ctx, jobs.Token{ID: id, Chatbot: "other"}, jobs.HashToken(texts[want[0].ID])),
			"id":   s.AddToken(ctx, jobs.Token{ID: want[0].ID, Chatbot: "other"}, jobs.HashToken(text)),
		} {
			if again == nil {
				t.Errorf("the same %s was entered twice", name)
			}
		}
		for _, unknown := range []jobs.Secret{"", text, texts[want[0].ID] + " ", jobs.Secret(strings.ToUpper(texts[want[0].ID].Reveal()))} {
			if got, err := s.Token(ctx, jobs.HashToken(unknown)); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("token of another text: %+v, %v", got, err)
			}
		}

		s.must(s.RemoveToken(ctx, want[0].ID))
		if _, err := other.Token(ctx, jobs.HashToken(texts[want[0].ID])); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("a removed token: %v", err)
		}
		if err := s.RemoveToken(ctx, want[0].ID); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
		if diff := cmp.Diff(want[1:], must[[]jobs.Token](t)(s.AllTokens(ctx))); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
}

// TestTokensAreHashed: no part of a token's text that says anything stands in the file.
func TestTokensAreHashed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	ctx := context.Background()
	l, err := Open(ctx, "sqlite:"+path, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	id, text := jobs.NewToken()
	if err := l.AddToken(ctx, jobs.Token{ID: id, Chatbot: "bakery"}, jobs.HashToken(text)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal("no ledger file", err)
	}
	var bytesOf []byte
	for _, file := range files {
		read, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bytesOf = append(bytesOf, read...)
	}
	hash := jobs.HashToken(text)
	if !bytes.Contains(bytesOf, hash[:]) {
		t.Error("the hash is not there: this test does not see what it looks for")
	}
	secret, known := strings.CutPrefix(text.Reveal(), jobs.TokenPrefix)
	if !known || len(secret) != 64 {
		t.Fatalf("a token of %d characters without its prefix", len(secret))
	}
	raw, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string][]byte{"text": []byte(secret), "half of the text": []byte(secret[:32]), "bytes": raw} {
		if bytes.Contains(bytesOf, part) {
			t.Errorf("the token's %s is in the file", name)
		}
	}
}
