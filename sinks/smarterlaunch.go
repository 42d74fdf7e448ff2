package sinks

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// smarterlaunch is the format of Smarter Launch's webhooks, from its page "Webhooks": three attempts and never again,
// any 2xx, a hex HMAC of the body under the account's key. The page names neither the header nor the body's members;
// these are ours.
var smarterlaunch = Dialect{
	Name:        "smarterlaunch",
	Signed:      true,
	Ack:         []string{jobs.Ack2xx},
	RetryAt:     []time.Duration{10 * time.Second, 110 * time.Second}, // 10 s after the first failure, 100 s after the second
	OneRound:    true,
	contentType: "application/json",
	signature:   smarterlaunchSignature,
	public:      []string{"event", "timestamp"},
	names:       smarterlaunchNames,
	encode:      smarterlaunchBody.encode,
	sign:        hexOfBody(smarterlaunchSignature),
	verify:      verifyHexOfBody(smarterlaunchSignature),
}

const smarterlaunchSignature = "X-Signature"

// Automations are triggered by whatever the operator says, such as proposal.accepted: any verb will do.
var smarterlaunchNames = naming{
	nouns:  map[string]string{"proposals": "proposal"},
	action: pastTense,
}

var smarterlaunchBody = envelope{
	members: []member{{name: "event", is: isEvent}, {name: "data", is: isData}, {name: "timestamp", is: isTime}},
	fields:  []string{"timestamp"},
	names:   &smarterlaunchNames,
	form:    milliseconds,
}
