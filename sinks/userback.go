package sinks

import "github.com/leadrelay/leadrelay/jobs"

// userback is the format of Userback's webhooks, from its page "Webhooks": feedback and comments, unsigned. The page
// says nothing of answers and retries; these are ours.
var userback = Definition{
	Name: "userback",
	Body: []Member{
		{Name: "action", Is: IsAction},
		{Name: "type", Is: IsType},
		{Name: "data", Is: IsData},
		{Name: "timestamp", Is: IsTime},
		{Name: "url", Is: IsCopy}, // as on the page
	},
	Time: UnixSeconds,
	Names: Names{
		Types: map[string]string{"feedback": "feedback", "feedbacks": "feedback", "comment": "comment", "comments": "comment"},
		// The page lists more events than it has actions.
		Verbs: map[string]string{
			"new": "create", "created": "create", "create": "create",
			"assigned": "update", "status": "update", "status_changed": "update", "priority": "update", "priority_changed": "update",
			"voted": "update", "updated": "update", "update": "update",
			"deleted": "remove", "removed": "remove", "remove": "remove",
		},
		Actions: map[string]string{jobs.ActionCreate: "create", jobs.ActionUpdate: "update", jobs.ActionRemove: "remove"},
	},
	ContentType: "application/json; charset=utf-8",
	UserAgent:   "Userback-Webhook",
	Signature:   Signature{Form: Unsigned},
	Ack:         []string{jobs.Ack2xx},
	RetryAt:     quickRetries,
}
