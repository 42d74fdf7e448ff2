package sinks

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// smarterlaunch is the format of Smarter Launch's webhooks, from its page "Webhooks": three attempts and never again,
// any 2xx, a hex HMAC of the body under the account's key. The page names neither the header nor the body's members;
// these are ours. Automations are triggered by whatever the operator says, such as proposal.accepted: any verb will do.
var smarterlaunch = Definition{
	Name:      "smarterlaunch",
	Body:      []Member{{Name: "event", Is: IsEvent}, {Name: "data", Is: IsData}, {Name: "timestamp", Is: IsTime}},
	Time:      Milliseconds,
	Names:     Names{Types: map[string]string{"proposals": "proposal"}},
	Signature: Signature{Form: Hex, Header: "X-Signature"},
	Ack:       []string{jobs.Ack2xx},
	RetryAt:   []time.Duration{10 * time.Second, 110 * time.Second}, // 10 s after the first failure, 100 s after the second
	OneRound:  new(true),
}
