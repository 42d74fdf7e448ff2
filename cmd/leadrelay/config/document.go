package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// WebhookKeys are the keys that a webhook may have.
func WebhookKeys() []string { return slices.Clone(schema["webhooks[]"]) }

// IsID reports whether a text can be a webhook's id.
func IsID(text string) bool { return idForm.MatchString(text) }

// ReadWebhook reads a webhook that stands elsewhere as if it stood in the file: its keys and values as JSON has them
// (string, bool, float64, json.Number, []any, []string, map[string]any, map[string]string, nil). Nothing in it is expanded. A
// mistake's path is the key's.
func (s *Settings) ReadWebhook(doc map[string]any, o Options) (jobs.Webhook, Mistakes) {
	d := &decoder{opts: o}
	known := types{known: true, shown: true}
	for i := range s.Streams {
		known.names = append(known.names, s.Streams[i].Type)
	}
	w := d.webhook(s, value{d: d, root: "webhooks", n: documentNode(doc)}, known)
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int { return strings.Compare(a.Path, b.Path) })
	return w, d.mistakes
}

// documentNode makes of a value what the decoder reads.
func documentNode(v any) *node {
	n := &node{kind: scalar, size: 1}
	switch v := v.(type) {
	case nil:
		n.kind, n.plain = null, true
	case string:
		n.text = literal(v)
	case jobs.Secret:
		n.text = literal(v.Reveal())
	case bool, json.Number, int, int64:
		n.text, n.plain = fmt.Sprint(v), true
	case float64:
		n.text, n.plain = strconv.FormatFloat(v, 'f', -1, 64), true
	case []string:
		n.kind = list
		for _, one := range v {
			n.items = append(n.items, documentNode(one))
		}
	case []any:
		n.kind = list
		for _, one := range v {
			n.items = append(n.items, documentNode(one))
		}
	case map[string]string:
		n.kind = mapping
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n.pairs = append(n.pairs, pair{key: &node{text: key, size: 1}, value: documentNode(v[key])})
		}
	case map[string]any:
		n.kind = mapping
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n.pairs = append(n.pairs, pair{key: &node{text: key, size: 1}, value: documentNode(v[key])})
		}
	default:
		n.text = literal(fmt.Sprint(v))
	}
	return n
}

// literal is a text as the file would have it, where ${ begins a reference.
func literal(text string) string { return strings.ReplaceAll(text, "${", "$${") }
