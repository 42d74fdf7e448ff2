package config

import (
	"slices"
	"strings"
)

// schema is every key there is, by the mapping that holds it; [] stands for each entry of a list.
var schema = map[string][]string{
	"": {
		"source", "ledger", "schedule", "timezone", "immediate", "streams", "webhooks", "webhook_source", "push", "http", "admin",
		"secrets_key_file", "give_up_after", "retention", "reconcile", "dialects",
	},
	"streams[]": {
		"type", "table", "query", "id", "chatbot", "created", "updated", "deleted", "created_zone", "fields", "where", "settle", "cursor",
		"gap_keep", "lookback",
	},
	"streams[].fields.*": {"const", "json"},
	"webhooks[]": {
		"id", "chatbot", "url", "sign_key", "sign_key_of", "types", "dialect", "schedule", "timezone", "immediate", "retry_at", "rate",
		"ack", "headers", "from", "description",
	},
	"webhooks[].ack": {"path", "equals", "prefix"},
	"dialects.*": {
		"extends", "body", "time", "times", "names", "content_type", "user_agent", "headers", "signature", "key", "ack",
		"retry_at", "one_round",
	},
	"dialects.*.body.*":        {"field", "copy", "text", "integer", "object", "const", "always", "chatbot"},
	"dialects.*.names":         {"types", "verbs", "new", "actions", "groups", "event"},
	"dialects.*.names.actions": {"create", "update", "remove"},
	"dialects.*.signature":     {"form", "header", "prefix"},
	"dialects.*.key":           {"use", "form", "prefix"},
	"webhook_source":           {"query", "every"},
	"reconcile":                {"schedule", "days"},
	"push":                     {"workers", "per_webhook", "max_body"},
	"http":                     {"timeout", "allow_http", "allow_private", "allow_cidrs", "ca_file", "client_cert_file", "client_key_file", "proxy"},
	"admin":                    {"listen", "token_file", "webhooks_per_chatbot"},
}

// What holds a dialect, and the parts of one, whose keys are common words.
const (
	aDialect  = "dialects.*"
	inDialect = "dialects.*."
)

// elsewhere says where a key that is unknown in one mapping is known, "" where nowhere.
func elsewhere(key, here string) string {
	var places []string
	for place, keys := range schema {
		if place == here || !slices.Contains(keys, key) || strings.HasPrefix(place, inDialect) && !strings.HasPrefix(here, aDialect) {
			continue
		}
		if place == "" {
			place = "the top level"
		}
		places = append(places, place)
	}
	slices.Sort(places)
	return strings.Join(places, " or ")
}
