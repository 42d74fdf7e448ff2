package jobs

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// AckGoHighLevel in Webhook.Ack, alone, is the answer rule of the CRM GoHighLevel: see package sinks.
const AckGoHighLevel = "gohighlevel"

// AckPresets are the rules that have a name. Each stands alone in Webhook.Ack.
var AckPresets = []string{Ack2xx, AckGoHighLevel}

// An AckRule accepts an answer by one of its members, wherever that stands. In Webhook.Ack it is one element, its JSON
// text, so that every form of the rule is a list of texts to those who keep it.
type AckRule struct {
	Path   string   `json:"path"`             // the member's name; names with dots between for one within objects
	Equals []string `json:"equals,omitempty"` // accepted values; true, false and numbers as JavaScript prints them
	Prefix []string `json:"prefix,omitempty"` // accepted beginnings of a string
}

// Ack returns the rule as it stands in Webhook.Ack.
func (r AckRule) Ack() []string {
	text, _ := json.Marshal(r) // it cannot fail but for what is no UTF-8, which Check refuses
	return []string{string(text)}
}

// AckRuleOf returns the rule that Webhook.Ack holds, where it holds one and not words or a preset.
func AckRuleOf(ack []string) (r AckRule, ok bool) {
	if len(ack) != 1 || !strings.HasPrefix(ack[0], "{") {
		return r, false
	}
	err := json.Unmarshal([]byte(ack[0]), &r, json.RejectUnknownMembers(true))
	return r, err == nil && r.Check() == nil
}

// AckDocument is a Webhook.Ack as one writes it in the configuration: a preset's name, an AckRule, or the accepted values.
func AckDocument(ack []string) any {
	if len(ack) == 1 && slices.Contains(AckPresets, ack[0]) {
		return ack[0]
	}
	if r, ok := AckRuleOf(ack); ok {
		return r
	}
	return append([]string{}, ack...)
}

// Names returns the names that lead to the rule's member, outermost first.
func (r AckRule) Names() []string { return strings.Split(r.Path, ".") }

// Check says what is wrong with a rule.
func (r AckRule) Check() error {
	const most = 10
	switch names := r.Names(); {
	case slices.Contains(names, "") || len(names) > most:
		return errors.New("path must be a member's name, or names with dots between, such as result.ok")
	case len(r.Equals)+len(r.Prefix) == 0:
		return errors.New("nothing would be accepted; give equals or prefix a value")
	case slices.Contains(r.Prefix, ""):
		return errors.New("prefix holds an empty text, with which everything begins")
	}
	return nil
}

// CheckAck says what is wrong with a Webhook.Ack, of whatever form.
func CheckAck(ack []string) error {
	for _, one := range ack {
		switch {
		case one == "":
			return errors.New("ack holds an empty text")
		case len(ack) > 1 && slices.Contains(AckPresets, one):
			return errors.New("ack: " + one + " stands alone")
		}
	}
	if len(ack) == 1 && strings.HasPrefix(ack[0], "{") {
		r := AckRule{}
		if err := json.Unmarshal([]byte(ack[0]), &r, json.RejectUnknownMembers(true)); err != nil {
			return errors.New("ack: write {path, equals, prefix}")
		}
		return r.Check()
	}
	return nil
}
