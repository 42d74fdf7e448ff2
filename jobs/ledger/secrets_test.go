package ledger

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func keysOf(t *testing.T, lines ...string) SecretsKeys {
	t.Helper()
	k, err := ParseSecretsKeys(strings.Join(lines, "\n") + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	firstKey  = strings.Repeat("0a", 32)
	secondKey = strings.Repeat("0b", 32)
)

// TestSealing: with a key no secret stands in the file, what stood in clear before is sealed, a newer key takes over,
// and without the right key nothing is shown.
func TestSealing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	ctx := context.Background()
	open := func(keys SecretsKeys) (*Ledger, error) {
		return Open(ctx, "sqlite:"+path, Options{Create: true, SecretsKeys: keys})
	}
	want := jobs.Webhook{
		ID: "acme", Chatbots: []string{"bot"}, URL: "https://crm.example.com/hooks/token-in-the-path", SignKey: "the-sign-key", OldKey: "the-older-key",
		OldKeyUntil: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Headers: map[string]jobs.Secret{"Authorization": "Bearer the-header"}, Dialect: "smarterbot",
		Schedule: "@daily", Timezone: "UTC", State: jobs.Active, From: jobs.FromNow, EnteredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	check := func(l *Ledger) {
		t.Helper()
		set, err := l.Webhooks(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]jobs.Webhook{want}, set.Webhooks, cmp.Transformer("reveal", jobs.Secret.Reveal)); diff != "" {
			t.Errorf("webhooks (-want +got):\n%s", diff)
		}
	}
	inClear := func() (found []string) {
		t.Helper()
		files, err := filepath.Glob(path + "*")
		if err != nil || len(files) == 0 {
			t.Fatal("no ledger file", err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"token-in-the-path", "the-sign-key", "the-older-key", "the-header"} {
				if bytes.Contains(text, []byte(secret)) {
					found = append(found, secret)
				}
			}
		}
		return found
	}

	l, err := open(nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := l.Webhooks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ChangeWebhooks(ctx, jobs.Change{Generation: set.Generation, Put: []jobs.Webhook{want}}); err != nil {
		t.Fatal(err)
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(inClear()) == 0 {
		t.Fatal("without a key nothing is in clear: this test does not see what it looks for")
	}

	for _, step := range []struct {
		name string
		keys SecretsKeys
	}{
		{"a first key", keysOf(t, firstKey)},
		{"a newer key before it", keysOf(t, secondKey, firstKey)},
		{"the newer key alone", keysOf(t, secondKey)},
	} {
		l, err := open(step.keys)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		check(l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if found := inClear(); found != nil {
			t.Errorf("%s: in clear: %q", step.name, found)
		}
	}
	for name, keys := range map[string]SecretsKeys{"no key": nil, "the old key": keysOf(t, firstKey)} {
		l, err := Open(ctx, "sqlite:"+path, Options{SecretsKeys: keys})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Webhooks(ctx); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSealedElsewhere: what was sealed for one webhook does not open for another.
func TestSealedElsewhere(t *testing.T) {
	k := keysOf(t, firstKey)
	stored := k.seal([]byte("secret"), "the sign key of webhook a")
	if _, err := k.open(stored, "the sign key of webhook b"); err == nil {
		t.Error("it opened for another webhook")
	}
	if text, err := k.open(stored, "the sign key of webhook a"); err != nil || string(text) != "secret" {
		t.Errorf("it opened as %q, %v", text, err)
	}
	if bytes.Equal(stored, k.seal([]byte("secret"), "the sign key of webhook a")) {
		t.Error("the same text was sealed to the same bytes twice")
	}
}

func TestParseSecretsKeys(t *testing.T) {
	for name, text := range map[string]string{"empty": "\n\n", "short": "abcd", "a word": "password", "a bad second line": firstKey + "\nhello"} {
		_, err := ParseSecretsKeys(text)
		if err == nil {
			t.Errorf("%s was taken for keys", name)
			continue
		}
		for _, secret := range []string{"abcd", "password", "hello", firstKey} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows what the file holds: %v", name, err)
			}
		}
	}
}
