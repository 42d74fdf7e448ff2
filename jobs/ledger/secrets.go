package ledger

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/leadrelay/leadrelay/jobs"
)

// ErrSealed says that the ledger's secrets were sealed with a key that was not given.
var ErrSealed = errors.New("the ledger's secrets are sealed with another key: secrets_key_file must hold it, in its first line or a later one")

// SecretsKeys seal the secrets of webhooks (URLs, sign keys, headers) in the ledger. The first seals; all open. None:
// secrets stand in clear.
type SecretsKeys []secretsKey

type secretsKey struct {
	id   [8]byte // of its hash: says which key opens what
	aead cipher.AEAD
}

// ParseSecretsKeys reads a secrets_key_file: a line a key, each 32 random bytes in hex or base64, the newest first. To
// change the key put a new line before the old one; once a daemon has started with both, the old line may go. Errors
// name lines, never what they hold.
func ParseSecretsKeys(text string) (SecretsKeys, error) {
	var keys SecretsKeys
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		raw, err := hex.DecodeString(line)
		if err != nil || len(raw) != 32 {
			raw, err = base64.StdEncoding.DecodeString(line)
		}
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("line %d is no key: write 32 random bytes in hex, such as `openssl rand -hex 32` prints", i+1)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		hash := sha256.Sum256(raw)
		keys = append(keys, secretsKey{id: [8]byte(hash[:8]), aead: aead})
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key: write 32 random bytes in hex, such as `openssl rand -hex 32` prints")
	}
	return keys, nil
}

// sealedMark begins what is sealed; no URL, key or JSON does.
var sealedMark = []byte("\x00leadrelay1")

// seal returns text as it is stored: mark, key id, nonce and ciphertext, bound to the place where it stands, so that it
// opens nowhere else.
func (k SecretsKeys) seal(text []byte, place string) []byte {
	if len(k) == 0 || len(text) == 0 {
		return text
	}
	head := append(bytes.Clone(sealedMark), k[0].id[:]...)
	return k[0].aead.Seal(head, nil, text, []byte(place))
}

// open is seal's counterpart; what was never sealed is returned as it stands.
func (k SecretsKeys) open(stored []byte, place string) ([]byte, error) {
	rest, sealed := bytes.CutPrefix(stored, sealedMark)
	if !sealed {
		return stored, nil
	}
	if len(rest) < 8 {
		return nil, fmt.Errorf("%s in the ledger is damaged", place)
	}
	for _, key := range k {
		if [8]byte(rest[:8]) != key.id {
			continue
		}
		text, err := key.aead.Open(nil, nil, rest[8:], []byte(place))
		if err != nil {
			return nil, fmt.Errorf("%s in the ledger is damaged", place)
		}
		return text, nil
	}
	return nil, ErrSealed
}

// current reports whether stored is as seal would store it now.
func (k SecretsKeys) current(stored []byte) bool {
	if len(stored) == 0 {
		return true
	}
	rest, sealed := bytes.CutPrefix(stored, sealedMark)
	if len(k) == 0 {
		return true // without a key nothing can be opened or sealed
	}
	return sealed && bytes.HasPrefix(rest, k[0].id[:])
}

// sealed is how a webhook's secrets stand in the ledger.
type sealed struct{ url, signKey, oldKey, headers []byte }

func (k SecretsKeys) sealWebhook(w *jobs.Webhook) (sealed, error) {
	open := make(map[string]string, len(w.Headers))
	for name, value := range w.Headers {
		open[name] = value.Reveal()
	}
	headers, err := json.Marshal(open, json.Deterministic(true))
	if err != nil {
		return sealed{}, fmt.Errorf("store the headers of webhook %s: they are no valid UTF-8", w.ID)
	}
	return sealed{
		url:     k.seal([]byte(w.URL.Reveal()), placeOf(w, "url")),
		signKey: k.seal([]byte(w.SignKey.Reveal()), placeOf(w, "sign key")),
		oldKey:  k.seal([]byte(w.OldKey.Reveal()), placeOf(w, "old sign key")),
		headers: k.seal(headers, placeOf(w, "headers")),
	}, nil
}

func placeOf(w *jobs.Webhook, what string) string { return "the " + what + " of webhook " + w.ID }

func (k SecretsKeys) openWebhook(s sealed, w *jobs.Webhook) error {
	headers, err := k.open(s.headers, placeOf(w, "headers"))
	if err != nil {
		return err
	}
	for _, secret := range []struct {
		to     *jobs.Secret
		stored []byte
		what   string
	}{{&w.URL, s.url, "url"}, {&w.SignKey, s.signKey, "sign key"}, {&w.OldKey, s.oldKey, "old sign key"}} {
		text, err := k.open(secret.stored, placeOf(w, secret.what))
		if err != nil {
			return err
		}
		*secret.to = jobs.Secret(text)
	}
	var open map[string]string
	if err := json.Unmarshal(headers, &open); err != nil {
		return fmt.Errorf("the headers of webhook %s cannot be read", w.ID)
	}
	if len(open) > 0 {
		w.Headers = make(map[string]jobs.Secret, len(open))
		for name, value := range open {
			w.Headers[name] = jobs.Secret(value)
		}
	}
	return nil
}

var (
	sqlSealed = sqlText(`select id, url, sign_key, old_key, headers from webhooks where state <> 'removed' order by id`)
	sqlReseal = sqlText(`update webhooks set url = $2, sign_key = $3, old_key = $4, headers = $5 where id = $1`)
)

// reseal seals with the first key what stands in clear or under an older key. It changes no webhook, so no scan has to
// begin anew.
func (l *Ledger) reseal(ctx context.Context) error {
	if len(l.keys) == 0 {
		return nil
	}
	return l.change(ctx, "seal the webhooks' secrets", func(ctx context.Context, t *tx) error {
		var stale []jobs.Webhook
		err := t.each(ctx, sqlSealed, nil, func(rows *sql.Rows) error {
			var w jobs.Webhook
			var s sealed
			if err := rows.Scan(&w.ID, &s.url, &s.signKey, &s.oldKey, &s.headers); err != nil {
				return err
			}
			if l.keys.current(s.url) && l.keys.current(s.signKey) && l.keys.current(s.oldKey) && l.keys.current(s.headers) {
				return nil
			}
			if err := l.keys.openWebhook(s, &w); err != nil {
				return err
			}
			stale = append(stale, w)
			return nil
		})
		if err != nil {
			return err
		}
		for i := range stale {
			s, err := l.keys.sealWebhook(&stale[i])
			if err != nil {
				return err
			}
			if _, err := t.exec(ctx, sqlReseal, stale[i].ID, s.url, s.signKey, s.oldKey, s.headers); err != nil {
				return err
			}
		}
		return nil
	})
}
