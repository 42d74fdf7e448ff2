package sinks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// standardWebhooks is the format of the Standard Webhooks specification (standardwebhooks.com), for which there are
// receivers in many languages. It leaves retries to the sender; these are ours.
var standardWebhooks = Definition{
	Name:      "standard-webhooks",
	Body:      []Member{{Name: "type", Is: IsEvent}, {Name: "timestamp", Is: IsTime}, {Name: "data", Is: IsData}},
	Time:      Microseconds,
	Signature: Signature{Form: StandardWebhooks},
	Ack:       []string{jobs.Ack2xx},
	RetryAt:   quickRetries,
}

// Headers of dialect standard-webhooks, as the specification spells them.
const (
	standardID        = "webhook-id"
	standardTime      = "webhook-timestamp" // unix seconds
	standardSignature = "webhook-signature" // v1,BASE64, with spaces between several
)

const standardKeyPrefix = "whsec_"

// standardKey decodes whsec_BASE64 of 24 to 64 bytes, the sizes that the specification allows.
func standardKey(key jobs.Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(key.Reveal(), standardKeyPrefix)
	bytes, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(bytes) < 24 || len(bytes) > 64 || strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("must be whsec_ and 24 to 64 bytes in base64")
	}
	return bytes, nil
}

func signStandard(h http.Header, s signing) {
	stamp := strconv.FormatInt(s.time.Unix(), 10)
	var b strings.Builder
	for i, m := range s.macs {
		if i > 0 {
			b.WriteByte(' ')
		}
		sum := m.sum([]byte(s.id), dot, []byte(stamp), dot, s.body)
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(sum[:]))
	}
	h[standardID], h[standardTime], h[standardSignature] = []string{s.id}, []string{stamp}, []string{b.String()}
}

// verifyStandard accepts any v1 of the signature header, in constant time. The time is judged last.
func verifyStandard(h http.Header, body []byte, macs []*mac, now time.Time, tolerance time.Duration) error {
	var parts [3]string
	for i, name := range [...]string{standardID, standardTime, standardSignature} {
		switch values := headerValues(h, name); len(values) {
		case 0:
			return ErrSignatureMissing
		case 1:
			parts[i] = values[0]
		default:
			return errStandard
		}
	}
	id, stamp, header := parts[0], parts[1], parts[2]
	if id == "" || !isUnixSeconds(stamp) || len(header) > maxSignatureHeader {
		return errStandard
	}
	var signatures [][]byte
	for _, one := range strings.Fields(header) {
		version, text, ok := strings.Cut(one, ",")
		if !ok {
			return errStandard
		}
		if version != "v1" { // such as v1a, of public keys
			continue
		}
		sum, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(sum) != sha256.Size || len(signatures) == maxSignatures {
			return errStandard
		}
		signatures = append(signatures, sum)
	}
	if len(signatures) == 0 {
		return errStandard
	}
	matched := false
	for _, m := range macs {
		want := m.sum([]byte(id), dot, []byte(stamp), dot, body)
		for _, sum := range signatures {
			if hmac.Equal(want[:], sum) {
				matched = true
			}
		}
	}
	return judged(matched, stamp, now, tolerance)
}

var errStandard = malformed("webhook-id, webhook-timestamp: UNIXSECONDS and webhook-signature: v1,BASE64")
