package sinks

import "github.com/leadrelay/leadrelay/jobs"

// smartlook is the format of Smartlook's webhooks, from its page "Webhooks": issues, notes and comments in an envelope
// of project and organization, signed where the webhook was given a secret. The page says nothing of answers and
// retries; these are ours.
var smartlook = Definition{
	Name: "smartlook",
	Body: []Member{
		{Name: "type", Is: IsEvent},
		{Name: "timestamp", Is: IsTime},
		// A project is what a chatbot is elsewhere.
		{Name: "project", Is: IsObject, Always: []string{"id", "name"}, Chatbot: "id"},
		{Name: "organization", Is: IsObject, Always: []string{"id", "name"}},
		{Name: "data", Is: IsData},
	},
	Time:  Milliseconds,
	Times: []string{"createdAt", "updatedAt"},
	Names: Names{
		Types: map[string]string{
			"issue": "issue", "issues": "issue", "note": "note", "notes": "note", "comment": "comment", "comments": "comment",
		},
		Verbs:  map[string]string{"created": "created", "updated": "updated", "deleted": "deleted"},
		Groups: map[string][]string{"issues": {"issue"}, "notes": {"note", "comment"}},
	},
	Signature: Signature{Form: Hex, Header: "Smartlook-Signature-256"},
	Key:       KeyRule{Use: KeyOptional},
	Ack:       []string{jobs.Ack2xx},
	RetryAt:   quickRetries,
}
