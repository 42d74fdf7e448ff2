// Package verify is a recipe for receivers of leadrelay's webhooks: it needs nothing but the standard library and
// nothing of leadrelay. Copy this file and change it as you like. Beside it stand the same for Node.js, Python and PHP,
// and vectors.json to try one's own with.
package verify

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// plainHeaders are those of the dialects that sign the body alone. Who has such a request can send it again for ever, so
// remember the X-Webhook-Ids that you have stored.
var plainHeaders = map[string]string{
	"smartlook":     "Smartlook-Signature-256",
	"smarterlaunch": "X-Signature",
	"smartsurvey":   "X-SmartSurvey-Signature",
}

// Verify says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect
// signs the time, at most tolerance ago or ahead. body is the bytes that came, not what a parser made of them. Of a
// dialect that does not sign, no request verifies. The error is about keys: anybody can sign with one that is empty.
func Verify(dialect string, h http.Header, body []byte, keys []string, now time.Time, tolerance time.Duration) (bool, error) {
	secrets, err := secretsOf(dialect, keys)
	if err != nil {
		return false, err
	}
	return verify(dialect, h, body, secrets, now, tolerance), nil
}

// secretsOf gives the keys' bytes. An environment variable that is not set here is an empty key: it must not verify what
// anybody signed with an empty key, so it is an error.
func secretsOf(dialect string, keys []string) (secrets [][]byte, err error) {
	if len(keys) == 0 {
		return nil, errors.New("no sign key is given")
	}
	for _, key := range keys {
		if strings.TrimSpace(key) == "" {
			return nil, errors.New("a sign key is empty")
		}
		secret := []byte(key)
		if dialect == "standard-webhooks" {
			secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
			if err != nil || len(secret) < 24 {
				return nil, errors.New("a sign key is empty or too short: it must be whsec_ and 24 bytes or more in base64")
			}
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func verify(dialect string, h http.Header, body []byte, secrets [][]byte, now time.Time, tolerance time.Duration) bool {
	fresh := func(t string) bool {
		seconds, err := strconv.ParseUint(t, 10, 40)
		return err == nil && now.Truncate(time.Second).Sub(time.Unix(int64(seconds), 0)).Abs() <= tolerance
	}
	switch dialect {
	case "smarterbot":
		var t string
		var given []string
		for part := range strings.SplitSeq(h.Get("X-Webhook-Signature"), ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch {
			case name == "t" && t != "":
				return false
			case name == "t":
				t = value
			case name == "v1":
				given = append(given, strings.ToLower(value))
			}
		}
		return fresh(t) && matches(given, secrets, func(secret []byte) string {
			return hex.EncodeToString(sum(secret, t+".", body))
		})
	case "standard-webhooks":
		id, t := h.Get("webhook-id"), h.Get("webhook-timestamp")
		var given []string
		for one := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
			if signature, ok := strings.CutPrefix(one, "v1,"); ok {
				given = append(given, signature)
			}
		}
		return id != "" && fresh(t) && matches(given, secrets, func(secret []byte) string {
			return base64.StdEncoding.EncodeToString(sum(secret, id+"."+t+".", body))
		})
	}
	header, ok := plainHeaders[dialect]
	return ok && matches([]string{strings.ToLower(h.Get(header))}, secrets, func(secret []byte) string {
		return hex.EncodeToString(sum(secret, "", body))
	})
}

func sum(secret []byte, before string, body []byte) []byte {
	m := hmac.New(sha256.New, secret)
	io.WriteString(m, before)
	m.Write(body)
	return m.Sum(nil)
}

// matches compares every signature with every key's, in constant time.
func matches(given []string, secrets [][]byte, sign func(secret []byte) string) bool {
	found := false
	for _, secret := range secrets {
		want := []byte(sign(secret))
		for _, signature := range given {
			if hmac.Equal([]byte(signature), want) {
				found = true
			}
		}
	}
	return found
}

// Handler hands on what verifies, its body unread, and answers the rest 401. The error is about keys, as Verify's.
func Handler(dialect string, keys []string, next http.Handler) (http.Handler, error) {
	secrets, err := secretsOf(dialect, keys)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the body cannot be read", http.StatusRequestEntityTooLarge)
			return
		}
		if !verify(dialect, r.Header, body, secrets, time.Now(), 5*time.Minute) {
			http.Error(w, "the signature does not verify", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	}), nil
}
