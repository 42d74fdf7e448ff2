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

// A Signature is how a dialect signs, in the words that the configuration has for it. In the forms hex and base64 no time
// is signed: somebody who has such a request can send it again for ever, so remember the X-Webhook-Ids that you have stored.
type Signature struct {
	Form   string // hex, base64, timed or standard-webhooks; empty means hex
	Header string // none in form standard-webhooks, which has three of its own
	Prefix string // before the signature, such as sha256=, in the forms hex and base64
	Key    string // the form of its keys: hex, base64 or whsec; empty means whsec in form standard-webhooks, else hex
}

// Dialects are those that sign. Write a Signature of your own for one that the operator defined.
var Dialects = map[string]Signature{
	"smarterbot":        {Form: "timed", Header: "X-Webhook-Signature"},
	"smartlook":         {Header: "Smartlook-Signature-256"},
	"smarterlaunch":     {Header: "X-Signature"},
	"smartsurvey":       {Header: "X-SmartSurvey-Signature"},
	"standard-webhooks": {Form: "standard-webhooks"},
}

// Verify says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect
// signs the time, at most tolerance ago or ahead. body is the bytes that came, not what a parser made of them. The error is
// about s and keys: anybody can sign with a key that is empty.
func Verify(s Signature, h http.Header, body []byte, keys []string, now time.Time, tolerance time.Duration) (bool, error) {
	secrets, err := s.secrets(keys)
	if err != nil {
		return false, err
	}
	return s.verify(h, body, secrets, now, tolerance), nil
}

// secrets gives the keys' bytes. An environment variable that is not set here is an empty key: it must not verify what
// anybody signed with an empty key, so it is an error.
func (s Signature) secrets(keys []string) (secrets [][]byte, err error) {
	switch s.Form {
	case "", "hex", "base64", "timed", "standard-webhooks":
	default:
		return nil, errors.New(s.Form + " is no form of signatures")
	}
	if s.Header == "" && s.Form != "standard-webhooks" {
		return nil, errors.New("this is no signed dialect: give its form and header")
	}
	if len(keys) == 0 {
		return nil, errors.New("no sign key is given")
	}
	for _, key := range keys {
		if strings.TrimSpace(key) == "" {
			return nil, errors.New("a sign key is empty")
		}
		secret := []byte(key)
		if s.Key == "whsec" || s.Key == "" && s.Form == "standard-webhooks" {
			secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
			if err != nil || len(secret) < 24 {
				return nil, errors.New("a sign key is empty or too short: it must be whsec_ and 24 bytes or more in base64")
			}
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func (s Signature) verify(h http.Header, body []byte, secrets [][]byte, now time.Time, tolerance time.Duration) bool {
	fresh := func(t string) bool {
		seconds, err := strconv.ParseUint(t, 10, 40)
		return err == nil && now.Truncate(time.Second).Sub(time.Unix(int64(seconds), 0)).Abs() <= tolerance
	}
	switch s.Form {
	case "timed":
		var t string
		var given []string
		for part := range strings.SplitSeq(h.Get(s.Header), ",") {
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
	given, ok := strings.CutPrefix(h.Get(s.Header), s.Prefix)
	if s.Form == "base64" {
		return ok && matches([]string{given}, secrets, func(secret []byte) string {
			return base64.StdEncoding.EncodeToString(sum(secret, "", body))
		})
	}
	return ok && matches([]string{strings.ToLower(given)}, secrets, func(secret []byte) string {
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

// Handler hands on what verifies, its body unread, and answers the rest 401. The error is Verify's.
func Handler(s Signature, keys []string, next http.Handler) (http.Handler, error) {
	secrets, err := s.secrets(keys)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the body cannot be read", http.StatusRequestEntityTooLarge)
			return
		}
		if !s.verify(r.Header, body, secrets, time.Now(), 5*time.Minute) {
			http.Error(w, "the signature does not verify", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	}), nil
}
