package main

import (
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// sampleText says what a sample is, to whoever finds it in a CRM.
const sampleText = "This is a test of leadrelay. It is no real record and can be deleted."

// sample makes up a record of the first type, in the streams' order, that a webhook wants, with every field that the
// stream maps. event is what a dialect calls what happened: some webhooks want only some events.
func sample(w *jobs.Webhook, streams []config.Stream, event func(dialect, typ, action string) (string, bool), now time.Time) jobs.Record {
	stream, action := wanted(w, streams, event)
	rec := jobs.Record{Row: "test", Chatbot: w.Chatbots[0], Created: now.UTC().Truncate(time.Microsecond), Action: action}
	if w.AllChatbots() {
		rec.Chatbot = "test"
	}
	if stream == nil { // the webhook's types are no longer this configuration's
		stream = &config.Stream{Type: "Lead"}
		if len(w.Types) > 0 {
			stream.Type = w.Types[0]
		}
		if d, ok := sinks.BuiltIn().Lookup(sinks.DefaultDialect); ok {
			for _, name := range d.Fields {
				stream.Fields = append(stream.Fields, config.Field{Name: name, Column: name})
			}
		}
	}
	rec.Type = stream.Type
	for _, f := range stream.Fields {
		value := f.Const
		if f.Column != "" {
			value = sampleValue(f.Name, now)
		}
		if f.JSON {
			value = jobs.JSON(`{"sample":true}`)
		}
		rec.Fields = append(rec.Fields, jobs.Field{Name: f.Name, Value: value})
	}
	return rec
}

// wanted is the first stream of which a webhook wants records, and what of it: new rows where it wants these.
func wanted(w *jobs.Webhook, streams []config.Stream, event func(dialect, typ, action string) (string, bool)) (*config.Stream, string) {
	var first *config.Stream
	for i := range streams {
		s := &streams[i]
		if !w.WantsType(s.Type) {
			continue
		}
		if first == nil {
			first = s
		}
		for _, action := range []string{jobs.ActionCreate, jobs.ActionUpdate, jobs.ActionRemove} {
			name, _ := event(w.Dialect, s.Type, action)
			if len(w.Events) == 0 || slices.Contains(w.Events, name) {
				return s, action
			}
		}
	}
	return first, jobs.ActionCreate
}

// sampleValue is what a field of this name may well hold. Names are told by their last part, whatever their spelling.
func sampleValue(name string, now time.Time) any {
	name = name[strings.LastIndexByte(name, '.')+1:]
	if value, ok := sampleValues[strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))]; ok {
		return value
	}
	ends := func(word string) bool { // user_email and userEmail, but not format for at
		return strings.EqualFold(name, word) || strings.HasSuffix(name, "_"+word) || strings.HasSuffix(name, strings.ToUpper(word[:1])+word[1:])
	}
	switch {
	case ends("at"), ends("time"), ends("date"), ends("timestamp"):
		return now.UTC().Format("2006-01-02T15:04:05.000Z")
	case ends("email"):
		return "test@example.com"
	case ends("url"), ends("uri"):
		return "https://example.com/test"
	}
	return "test"
}

// sampleValues are of domains and numbers that are kept free for examples: RFC 2606, and 555-0100 to 555-0199.
var sampleValues = map[string]any{
	"firstname": "Test", "lastname": "Leadrelay", "name": "Test Leadrelay", "fullname": "Test Leadrelay",
	"email": "test@example.com", "phonenumber": "+1 202 555 0100", "phone": "+1 202 555 0100",
	"content": sampleText, "message": sampleText, "text": sampleText, "body": sampleText, "description": sampleText, "note": sampleText,
	"sessionid": int64(31305), "uri": "www.example.com", "url": "https://example.com/test", "link": "https://example.com/test",
	"rating": int64(5), "score": int64(5), "count": int64(1), "number": int64(1),
}
