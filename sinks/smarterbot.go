package sinks

import (
	"net/http"
	"strconv"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// SignatureHeader is dialect smarterbot's: t=UNIXSECONDS,v1=HEX, and a v1 more while a key is rotated.
const SignatureHeader = "X-Webhook-Signature"

// TestAnswer is the status that the vendor's page asks senders to accept besides success. A widely used CRM gives it
// when it has stored nothing, so it is counted apart, whatever the dialect.
const TestAnswer = "Success: test request received"

// smarterbot is the format of chat.smarterbot.ai's own webhooks, from its page "Webhook": ten keys in a fixed order,
// an HMAC over time and body, and an answer with a status word.
var smarterbot = Dialect{
	Name:        "smarterbot",
	Signed:      true,
	Fields:      []string{"FirstName", "LastName", "Email", "PhoneNumber", "Content", "SessionID", "URI"},
	Ack:         []string{"success", TestAnswer},
	RetryAt:     []time.Duration{time.Minute, 3 * time.Minute},
	contentType: "application/json",
	signature:   SignatureHeader,
	public:      []string{"SerialNumber", "Type"},
	encode:      encodeSmarterbot,
	sign: func(h http.Header, s signing) {
		h[SignatureHeader] = []string{signature(s.time, s.body, s.macs...)}
	},
	verify: verifySmarterbot,
}

func encodeSmarterbot(dst []byte, _ *jobs.Webhook, rec *jobs.Record, created time.Time) ([]byte, error) {
	var err error
	text := func(member, field string) {
		dst = append(dst, member...)
		if e := appendText(&dst, rec.Field(field)); e != nil && err == nil {
			err = encodeError(field, e)
		}
	}
	dst = append(dst, `{"SerialNumber":`...)
	dst = appendString(dst, rec.Chatbot)
	dst = append(dst, `,"Type":`...)
	dst = appendString(dst, rec.Type)
	text(`,"FirstName":`, "FirstName")
	text(`,"LastName":`, "LastName")
	text(`,"Email":`, "Email")
	text(`,"PhoneNumber":`, "PhoneNumber")
	if year := created.Year(); year < 0 || year > 9999 {
		return nil, encodeError("CreateTime", errYear)
	}
	dst = append(dst, `,"CreateTime":"`...)
	dst = created.AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	dst = append(dst, '"')
	text(`,"Content":`, "Content")
	dst = append(dst, `,"SessionID":`...)
	session, e := integer(rec.Field("SessionID"))
	if e != nil && err == nil {
		err = encodeError("SessionID", e)
	}
	dst = strconv.AppendInt(dst, session, 10)
	text(`,"URI":`, "URI")
	if err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}
