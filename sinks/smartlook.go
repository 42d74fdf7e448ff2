package sinks

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// smartlook is the format of Smartlook's webhooks, from its page "Webhooks": issues, notes and comments in an envelope
// of project and organization, signed where the webhook was given a secret. The page says nothing of answers and
// retries; these are ours.
var smartlook = Dialect{
	Name:        "smartlook",
	Signed:      true,
	KeyOptional: true,
	Ack:         []string{jobs.Ack2xx},
	RetryAt:     []time.Duration{time.Minute, 3 * time.Minute},
	contentType: "application/json",
	signature:   smartlookSignature,
	public:      []string{"type", "timestamp"},
	names:       smartlookNames,
	encode:      smartlookBody.encode,
	sign:        hexOfBody(smartlookSignature),
	verify:      verifyHexOfBody(smartlookSignature),
}

const smartlookSignature = "Smartlook-Signature-256"

var smartlookNames = naming{
	nouns: map[string]string{
		"issue": "issue", "issues": "issue", "note": "note", "notes": "note", "comment": "comment", "comments": "comment",
	},
	verbs:  map[string]string{"created": "created", "updated": "updated", "deleted": "deleted"},
	action: pastTense,
	groups: map[string][]string{"issues": {"issue"}, "notes": {"note", "comment"}},
}

var smartlookBody = envelope{
	members: []member{
		{name: "type", is: isEvent},
		{name: "timestamp", is: isTime},
		// A project is what a chatbot is elsewhere.
		{name: "project", is: isObject, shape: []shape{{field: "project.id", chatbot: true}, {field: "project.name"}}},
		{name: "organization", is: isObject, shape: []shape{{field: "organization.id"}, {field: "organization.name"}}},
		{name: "data", is: isData},
	},
	fields: []string{"timestamp", "project.", "organization."},
	names:  &smartlookNames,
	form:   milliseconds,
	times:  []string{"createdAt", "updatedAt"},
}
