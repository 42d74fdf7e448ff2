package sinks

import "time"

// SignatureHeader is dialect smarterbot's: t=UNIXSECONDS,v1=HEX, and a v1 more while a key is rotated.
const SignatureHeader = "X-Webhook-Signature"

// TestAnswer is the status that the vendor's page asks senders to accept besides success. A widely used CRM gives it
// when it has stored nothing, so it is counted apart, whatever the dialect.
const TestAnswer = "Success: test request received"

// quickRetries are those of most dialects.
var quickRetries = []time.Duration{time.Minute, 3 * time.Minute}

// smarterbot is the format of chat.smarterbot.ai's own webhooks, from its page "Webhook": ten keys in a fixed order,
// an HMAC over time and body, and an answer with a status word.
var smarterbot = Definition{
	Name: "smarterbot",
	Body: []Member{
		{Name: "SerialNumber", Is: IsChatbot},
		{Name: "Type", Is: IsType},
		{Name: "FirstName", Is: IsText},
		{Name: "LastName", Is: IsText},
		{Name: "Email", Is: IsText},
		{Name: "PhoneNumber", Is: IsText},
		{Name: "CreateTime", Is: IsCreated},
		{Name: "Content", Is: IsText},
		{Name: "SessionID", Is: IsInteger},
		{Name: "URI", Is: IsText},
	},
	Time:      Microseconds,
	Names:     Names{Verbs: map[string]string{}}, // a type is sent whole
	Signature: Signature{Form: Timed, Header: SignatureHeader},
	Ack:       []string{"success", TestAnswer},
	RetryAt:   quickRetries,
}
