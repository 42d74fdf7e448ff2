package admin

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// Names are taken as they are written: a configuration knows no URL beside url.
func init() { huma.ValidateStrictCasing = true }

type (
	// newDocument is a webhook as it is entered: the configuration's keys.
	newDocument map[string]any
	// changeDocument is a merge patch of one.
	changeDocument map[string]any
)

// Schema describes it.
func (newDocument) Schema(r huma.Registry) *huma.Schema {
	return documentSchema(r, "NewWebhook", false)
}

// Schema describes it.
func (changeDocument) Schema(r huma.Registry) *huma.Schema {
	return documentSchema(r, "WebhookChange", true)
}

// webhookMember is one member of the document that a webhook is entered by.
type webhookMember struct {
	name   string
	schema *huma.Schema
}

// webhookMembers are as in the configuration, whose reader judges their values.
func webhookMembers() []webhookMember {
	text := func(doc string, examples ...any) *huma.Schema {
		return &huma.Schema{Type: "string", Description: doc, Examples: examples}
	}
	texts := func(doc string, examples ...any) *huma.Schema {
		return &huma.Schema{Type: "array", Items: &huma.Schema{Type: "string"}, Description: doc, Examples: examples}
	}
	either := func(doc string, example any, of ...*huma.Schema) *huma.Schema {
		return &huma.Schema{AnyOf: of, Description: doc, Examples: []any{example}}
	}
	one, several := &huma.Schema{Type: "string"}, texts("")
	return []webhookMember{
		{"chatbot", either("The chatbot whose records it gets, a list of them, or * for all.", "59001dd73709417321c58b11693183a2", one, several)},
		{"url", text("Where records are POSTed.", "https://crm.example.com/hooks/leads")},
		{"id", text("Its name: letters, digits, - and _. Left out, one is made. A chatbot's token leaves it out.", "acme")},
		{"types", texts("The types it gets, or events of its dialect. Left out: all.", []any{"Lead"})},
		{"dialect", text("The format that the receiver understands.", "smarterbot")},
		{"schedule", text("When it is pushed to: cron, @hourly, @every 1h… Left out: the configuration's.", "@hourly")},
		{"timezone", text("The schedule's time zone. Left out: the configuration's.", "Europe/Prague")},
		{"immediate", &huma.Schema{Type: "boolean", Description: "Also as soon as a record is committed. Left out: the configuration's."}},
		{"from", text("now, beginning or a time: which older rows it gets. Only when it is entered.", "now")},
		{"retry_at", texts("Offsets from the first failure. Left out: the dialect's.", []any{"1m", "3m"})},
		{"rate", text("The most requests in a time, over all daemons: a number, and s, m, h or d. Left out: no bound.", "5/s")},
		{"ack", either("The answers that acknowledge a record: values of status, 2xx, or a rule. Left out: the dialect's.", []any{"success"}, one, several, &huma.Schema{
			Type: "object", AdditionalProperties: false,
			Properties: map[string]*huma.Schema{"path": one, "equals": {Type: "array", Items: &huma.Schema{}}, "prefix": several},
			Required:   []string{"path"},
		})},
		{"headers", &huma.Schema{
			Type: "object", AdditionalProperties: &huma.Schema{Type: "string"}, WriteOnly: true,
			Description: "Static headers of every request. Values are secrets, and never shown.",
			Examples:    []any{map[string]any{"Authorization": "Bearer c2VjcmV0"}},
		}},
		{"sign_key", &huma.Schema{Type: "string", WriteOnly: true, Description: "The key of its signatures. Left out, one is made."}},
		{"sign_key_of", text("The webhook whose keys sign its requests, rotations included, in place of a key of its own.", "acme")},
		{"description", text("For people.", "leads of the bakery")},
	}
}

// documentSchema is the schema of a document; patch: of one that changes a webhook, where null is the default.
func documentSchema(r huma.Registry, name string, patch bool) *huma.Schema {
	if _, there := r.Map()[name]; !there {
		s := &huma.Schema{Type: "object", AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
		for _, m := range webhookMembers() {
			s.Properties[m.name] = m.schema
			switch m.name {
			case "chatbot", "url":
				if !patch {
					s.Required = append(s.Required, m.name)
				}
			case "id", "from", "sign_key":
			default:
				if patch {
					s.Properties[m.name] = orNull(m.schema)
				}
			}
		}
		precompute(s)
		r.Map()[name] = s
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

// orNull lets null be written too.
func orNull(s *huma.Schema) *huma.Schema {
	nullable := *s
	if s.Type != "" {
		nullable.Nullable = true
	} else {
		nullable.AnyOf = append(slices.Clone(s.AnyOf), &huma.Schema{Type: "null"})
	}
	return &nullable
}

// precompute makes a schema and those in it ready for huma's validation.
func precompute(s *huma.Schema) {
	for _, of := range slices.Concat(s.AnyOf, s.OneOf) {
		precompute(of)
	}
	for _, of := range s.Properties {
		precompute(of)
	}
	if s.Items != nil {
		precompute(s.Items)
	}
	if more, ok := s.AdditionalProperties.(*huma.Schema); ok {
		precompute(more)
	}
	s.PrecomputeMessages()
}
