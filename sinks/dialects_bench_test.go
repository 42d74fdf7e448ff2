package sinks

import (
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// BenchmarkEncodeEnvelope makes a body with objects within.
func BenchmarkEncodeEnvelope(b *testing.B) {
	h, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	rec := &jobs.Record{Type: "note", Chatbot: "bot", Created: time.Unix(1700000000, 123456000), Fields: fieldsOf(
		"project.name", "Project", "id", "54a52bf12", "author.name", "Zdeňka", "author.email", "a@b.c", "noteType", "session",
		"createdAt", "2022-11-29T13:25:43.258000Z", "updatedAt", nil, "text", "Note Text", "session.id", "c4", "session.sessionTime", int64(435))}
	for _, dialect := range []string{"smartlook", "standard-webhooks"} {
		w := &jobs.Webhook{Dialect: dialect}
		b.Run(dialect, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Encode(w, rec, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
