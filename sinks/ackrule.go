package sinks

import (
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// A rule is what an answer must hold to acknowledge, read from a Webhook.Ack.
type rule struct {
	any    bool     // any 2xx will do
	path   []string // names that lead to a member of the answer
	equals []string // its accepted words
	prefix []string // or how they begin
	texts  bool     // it must be a string; else true, false and numbers are words too
	with   string   // a further member that the answer must have; "": none
	echoes []string // words that say that nothing was stored
}

var statusPath = []string{"status"}

// goHighLevel is that CRM's production answer. Its inbound webhooks also answer "Success: test request received", for
// every record, while their workflow is not published; then nothing is stored.
var goHighLevel = rule{
	path: statusPath, prefix: []string{"Success: request sent to trigger execution server"}, texts: true, with: "id",
	echoes: []string{TestAnswer},
}

var any2xx = rule{any: true, path: statusPath, texts: true}

// ruleOf reads an answer rule. Text that is none, as of a newer leadrelay, is taken for a word, and accepts nothing.
func ruleOf(ack []string) rule {
	if len(ack) == 1 {
		switch {
		case ack[0] == jobs.Ack2xx:
			return any2xx
		case ack[0] == jobs.AckGoHighLevel:
			return goHighLevel
		case strings.HasPrefix(ack[0], "{"):
			if member, ok := jobs.AckRuleOf(ack); ok {
				return rule{path: member.Names(), equals: member.Equals, prefix: member.Prefix}
			}
		}
	}
	return rule{path: statusPath, equals: ack, texts: true}
}

// refusal judges an answer that has the rule's member; nil is an acknowledgement.
func (r *rule) refusal(a answer) *jobs.RefusedError {
	switch {
	case r.accepts(a) && r.with != "" && !a.has:
		return refused(ReasonAckMismatch, 0, "The answer's status is right, and its member "+r.with+" is missing.")
	case r.accepts(a):
		return nil
	case slices.Contains(r.echoes, a.word):
		return refused(ReasonNotStored, 0, "")
	case a.kind == '{' || a.kind == '[' || a.kind == 'n':
		return refused(ReasonStatusType, 0, "The answer's "+r.name()+" is neither a text nor a number nor true or false.")
	}
	for _, want := range r.equals {
		if strings.EqualFold(strings.TrimSpace(a.word), want) {
			return refused(ReasonAckMismatch, 0, "The answer's "+r.name()+" differs from an accepted value only in upper and lower case or in spaces, which count.")
		}
	}
	return refused(ReasonAckMismatch, 0, r.advice(ReasonAckMismatch))
}

func (r *rule) accepts(a answer) bool {
	switch a.kind {
	case '"':
		return slices.Contains(r.equals, a.word) ||
			slices.ContainsFunc(r.prefix, func(begin string) bool { return strings.HasPrefix(a.word, begin) })
	case 't', 'f', '0':
		return slices.Contains(r.equals, a.word)
	}
	return false
}

// known reports whether word is one that is configured.
func (r *rule) known(word string) bool { return knownWord(word, r.equals) || knownWord(word, r.prefix) }

// plain reports whether the rule is a list of words for status, which is what the reasons' own hints are about.
func (r *rule) plain() bool {
	return len(r.path) == 1 && r.path[0] == "status" && len(r.prefix) == 0 && r.texts
}

// name is the rule's member as it is configured, and short.
func (r *rule) name() string { return cut(strings.Join(r.path, "."), 40) }

// missing is the hint where an answer has no such member; like: it has one that differs in case.
func (r *rule) missing(like bool) string {
	switch {
	case like && r.plain():
		return "The answer's member must be named status, in lower case."
	case like:
		return "The answer has no member " + r.name() + ", but one that differs in upper and lower case, which counts."
	case r.plain():
		return ""
	}
	return "The answer has no member " + r.name() + "."
}

// advice is a reason's hint where the answer should be another than {"status":"success"}; "": the reason's own will do.
func (r *rule) advice(reason string) string {
	if r.plain() {
		return ""
	}
	hint := strings.ReplaceAll(hintFor(reason, 0), `{"status":"success"}`, r.example())
	return strings.ReplaceAll(hint, "The answer's status", "The answer's "+r.name())
}

// example is an answer that the rule accepts, where it is short enough for a hint.
func (r *rule) example() string {
	if r.plain() {
		return `{"status":"success"}`
	}
	if whole := r.whole(); len([]rune(whole)) <= 60 {
		return whole
	}
	return "as the webhook's ack says"
}

// whole is an answer that the rule accepts.
func (r *rule) whole() string {
	if len(r.equals)+len(r.prefix) == 0 {
		return `{"status":"success"}`
	}
	word := slices.Concat(r.equals, r.prefix)[0]
	b := []byte("{")
	for i, name := range r.path {
		if i > 0 {
			b = append(b, '{')
		}
		b = append(appendString(b, name), ':')
	}
	b = appendString(b, word)
	if r.with != "" {
		b = append(appendString(append(b, ','), r.with), `:"…"`...)
	}
	b = append(b, strings.Repeat("}", len(r.path))...)
	return string(b)
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
