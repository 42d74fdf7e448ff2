package sinks

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// userback is the format of Userback's webhooks, from its page "Webhooks": feedback and comments, unsigned. The page
// says nothing of answers and retries; these are ours.
var userback = Dialect{
	Name:        "userback",
	Ack:         []string{jobs.Ack2xx},
	RetryAt:     []time.Duration{time.Minute, 3 * time.Minute},
	contentType: "application/json; charset=utf-8",
	userAgent:   "Userback-Webhook",
	reserved:    []string{"User-Agent"},
	public:      []string{"action", "type", "timestamp"},
	names:       userbackNames,
	encode:      userbackBody.encode,
}

var userbackNames = naming{
	nouns: map[string]string{"feedback": "feedback", "feedbacks": "feedback", "comment": "comment", "comments": "comment"},
	// The page lists more events than it has actions.
	verbs: map[string]string{
		"new": "create", "created": "create", "create": "create",
		"assigned": "update", "status": "update", "status_changed": "update", "priority": "update", "priority_changed": "update",
		"voted": "update", "updated": "update", "update": "update",
		"deleted": "remove", "removed": "remove", "remove": "remove",
	},
	action: map[string]string{jobs.ActionCreate: "create", jobs.ActionUpdate: "update", jobs.ActionRemove: "remove"},
}

var userbackBody = envelope{
	members: []member{
		{name: "action", is: isVerb},
		{name: "type", is: isNoun},
		{name: "data", is: isData},
		{name: "timestamp", is: isTime},
		{name: "url", is: isField}, // which data has too, as on the page
	},
	fields: []string{"timestamp"},
	names:  &userbackNames,
	form:   unixSeconds,
}
