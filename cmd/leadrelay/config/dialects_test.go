package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

// TestDialectRequests compares what is sent in dialects of a configuration, whole requests, with NAME.http.
func TestDialectRequests(t *testing.T) {
	const path = "testdata/dialects/requests.txtar"
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range a.Files {
		name, isCase := strings.CutSuffix(f.Name, ".yaml")
		if !isCase {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text := "source: sqlite:a\nwebhooks:\n  - {id: a, chatbot: bot, url: 'https://a.example/', dialect: acme}\ndialects:\n"
			for line := range strings.Lines(string(f.Data)) {
				text += "  " + line
			}
			c := mustResolve(t, mustParse(t, "c.yaml", text), noEnv)
			got := requestsOf(t, c)
			if *update {
				a.Files[i+1].Data = []byte(got)
				return
			}
			if diff := cmp.Diff(string(a.Files[i+1].Data), got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// requestsOf makes the requests that the configuration's webhook gets, and says what rules it has.
func requestsOf(t *testing.T, c *Resolved) string {
	t.Helper()
	sink, err := sinks.New(sinks.Options{Dialects: c.Dialects, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	w := c.Webhooks[0]
	d, _ := c.Dialects.Lookup(w.Dialect)
	if d.Signed {
		w.SignKey = "key"
		if !c.Dialects.Fits(w.Dialect, w.SignKey) {
			w.SignKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "key needed %t, optional %t; ack %q; retry_at %v; one round %t\n", d.NeedsKey(), d.KeyOptional, w.Ack, w.RetryAt, d.OneRound)
	now := time.Unix(1700000000, 0)
	id := uuid.MustParse("0b3f0c5e-30c1-5c07-9f04-8d2f0e8f2a11")
	for _, r := range []struct{ typ, action string }{{"Lead", jobs.ActionCreate}, {"Lead", jobs.ActionUpdate}, {"deal.won", ""}, {"Lead", jobs.ActionRemove}} {
		rec := jobs.Record{
			Type: r.typ, Action: r.action, Chatbot: "bot", Created: time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC), Version: "2024-05-07T00:00:00Z",
			Fields: []jobs.Field{
				{Name: "email", Value: "z@example.com"},
				{Name: "url", Value: "https://b.example/"},
				{Name: "summary", Value: "Žluťoučký"},
				{Name: "session", Value: "31305"},
				{Name: "writer.name", Value: "Zdeňka"},
				{Name: "writer.tags", Value: jobs.JSON(`[ 1.0, {"b": 0, "1": 0} ]`)},
				{Name: "seen", Value: "2024-05-06 00:00:00"},
				{Name: "7", Value: true},
			},
		}
		event, told := sink.Event(w.Dialect, r.typ, r.action)
		body, err := sink.Encode(&w, &rec, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		request, err := sink.Request(&w, id, body, now)
		if err != nil {
			t.Fatal(err)
		}
		if d.Signed {
			if err := c.Dialects.Verify(w.Dialect, request.Header, body, []jobs.Secret{w.SignKey}, now, time.Minute); err != nil {
				t.Error(err)
			}
		}
		if r.action == jobs.ActionCreate {
			for _, name := range slices.Sorted(maps.Keys(request.Header)) {
				fmt.Fprintf(&out, "%s: %s\n", name, request.Header[name][0])
			}
		}
		fmt.Fprintf(&out, "\n# %s %s: event %q, told %t\n%s\n", r.typ, r.action, event, told, body)
	}
	return out.String()
}
