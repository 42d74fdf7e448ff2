package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/jobs/ledger"
	"github.com/leadrelay/leadrelay/sources"
)

func TestCell(t *testing.T) {
	for _, c := range []struct {
		name, key string
		value     any
		want      any
		wrong     string
	}{
		{"NULL", "types", nil, nil, ""},
		{"empty", "retry_at", "", nil, ""},
		{"blank", "dialect", "  ", nil, ""},
		{"a text in blanks", "id", " acme ", "acme", ""},
		{"an integer id", "id", int64(4711), "4711", ""},
		{"a whole number", "chatbot", 12.0, "12", ""},
		{"a fraction", "chatbot", 1.5, nil, "select it as text"},
		{"a chatbot with commas", "chatbot", "a, b", "a, b", ""},
		{"chatbots", "chatbot", `["a", 12]`, []any{"a", json.Number("12")}, ""},
		{"chatbots in a JSON column", "chatbot", jobs.JSON(`["a"]`), []any{"a"}, ""},
		{"one chatbot in a JSON column", "chatbot", jobs.JSON(`"a\u00e4"`), "aä", ""},
		{"null in a JSON column", "headers", jobs.JSON(`null`), nil, ""},
		{"no list", "chatbot", `["a"`, nil, "JSON list"},
		{"more behind", "types", `["a"] ["b"]`, nil, "JSON list"},
		{"types with commas", "types", "Lead , Appointment", []string{"Lead", "Appointment"}, ""},
		{"no retries", "retry_at", "[]", []any{}, ""},
		{"a preset", "ack", "2xx", "2xx", ""},
		{"a word", "ack", "Success: yes, it is", []string{"Success: yes, it is"}, ""},
		{"a rule", "ack", `{"path": "ok", "equals": [true]}`, map[string]any{"path": "ok", "equals": []any{true}}, ""},
		{"headers", "headers", `{"X-A": "b"}`, map[string]any{"X-A": "b"}, ""},
		{"headers in a list", "headers", `["X-A"]`, nil, "JSON object"},
		{"headers as lines", "headers", `X-A: hunter2`, nil, "JSON object"},
		{"a key with blanks", "sign_key", " a key ", " a key ", ""},
		{"true", "immediate", true, true, ""},
		{"one", "immediate", int64(1), true, ""},
		{"f", "immediate", "f", false, ""},
		{"two", "immediate", int64(2), nil, "neither true nor false"},
		{"a word for a time", "from", "beginning", "beginning", ""},
		{"a time of a database", "from", "2026-01-31 12:00:00", "2026-01-31T12:00:00Z", ""},
		{"no time", "from", "soon", "soon", ""}, // the configuration's reader says so
		{"bytes", "id", []byte{1}, nil, "select it as text"},
	} {
		got, err := cell(c.key, c.value)
		if err != nil && (c.wrong == "" || !strings.Contains(err.Error(), c.wrong)) || err == nil && c.wrong != "" {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.wrong)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// FuzzRow: whatever a table holds, a row is a webhook or an error that does not show its secrets.
func FuzzRow(f *testing.F) {
	f.Add("acme", `["a"]`, "https://crm.example.com/x", "k", `{"X-A": "b"}`, "Lead", "2xx")
	f.Add("", "[", "${file:/etc/passwd}", "${HOME}", `{"X-A": {}}`, "[[]]", `{"path": 1}`)
	c := &config.Resolved{Path: "/c.yaml"}
	c.Schedule, c.Timezone = "@daily", "UTC"
	c.Streams = []config.Stream{{Type: "Lead"}}
	f.Fuzz(func(t *testing.T, id, chatbot, url, key, headers, types, ack string) {
		row := map[string]any{"id": id, "chatbot": chatbot, "url": url, "sign_key": key, "headers": headers, "types": types, "ack": ack}
		rows, err := newRowReader(c).read([]map[string]any{row})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		if rows[0].err != nil {
			if len(key) > 12 && strings.Contains(rows[0].err.Error(), key) && !strings.Contains(id+chatbot+types+ack, key) {
				t.Errorf("the key is shown: %v", rows[0].err)
			}
			return
		}
		if w := rows[0].webhook; w.ID != strings.TrimSpace(id) || w.URL.Reveal() != strings.TrimSpace(url) || w.SignKey.Reveal() != key && strings.TrimSpace(key) != "" {
			t.Errorf("the webhook is another than the row's: %q %q", w.ID, w.URL.Reveal())
		}
	})
}

// manyRows is a source with a table of n webhooks, and a ledger, opened.
func manyRows(t testing.TB, engine string, n int) (*application, *webhookSource) {
	t.Helper()
	ctx := context.Background()
	platform := newApplication(t, engine)
	platform.exec(customerWebhooks)
	tx, err := platform.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := tx.Exec(`insert into customer_webhooks (id, bot, endpoint, format, kinds, at_once, extra)
			values ($1, $2, $3, 'smarterlaunch', 'Lead,Appointment', true, '{"X-Token": "secret"}')`, fmt.Sprintf("w%05d", i), fmt.Sprint("bot", i), fmt.Sprintf("https://crm%d.example.com/hooks", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	c := &config.Resolved{Path: "/etc/leadrelay/config.yaml"}
	c.Schedule, c.Timezone = "@daily", "UTC"
	c.Streams = []config.Stream{{Type: "Lead"}, {Type: "Appointment"}}
	c.Rows = &config.WebhookSource{Query: customerQuery, Every: time.Minute}
	p := &parts{config: c}
	if p.tables, err = sources.Open(ctx, platform.source, sources.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"leads", "appointments"} {
		stream, err := p.tables.Stream(ctx, sources.Config{Type: map[string]string{"leads": "Lead", "appointments": "Appointment"}[table], Table: table, ID: "id", Chatbot: "chatbot_id", Created: "created_at"})
		if err != nil {
			t.Fatal(err)
		}
		p.streams = append(p.streams, stream)
	}
	if p.ledger, err = ledger.Open(ctx, newLedger(t, engine), ledger.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return platform, p.webhookSource(&app{log: quiet})
}

// TestLook: what a look decides, step by step, on both databases: entered once, left alone while nothing changes.
func TestLook(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			app, s := manyRows(t, engine, 12)
			generation := func() jobs.Generation {
				set, err := s.parts.ledger.Webhooks(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return set.Generation
			}
			look := func(what string, moves bool) {
				t.Helper()
				before := generation()
				if err := s.look(ctx); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if moved := generation() != before; moved != moves {
					t.Errorf("%s: the ledger was changed: %t", what, moved)
				}
			}
			states := func() map[string]int {
				set, err := s.parts.ledger.Webhooks(ctx)
				if err != nil {
					t.Fatal(err)
				}
				states := map[string]int{}
				for _, w := range set.Webhooks {
					states[string(w.State)+" "+w.StateReason]++
				}
				return states
			}
			look("the first", true)
			look("the second", false)
			look("the third", false)
			other := s.parts.webhookSource(s.app) // another daemon's, or one that was started again
			if before := generation(); other.look(ctx) != nil || generation() != before {
				t.Error("another daemon with the same file changes something")
			}
			if _, err := (jobs.Registrar{Ledger: s.parts.ledger, Sources: s.parts.streams}).SetState(ctx, "w00001", jobs.Disabled); err != nil {
				t.Fatal(err)
			}
			look("after one was disabled by hand", false)
			app.exec("delete from customer_webhooks where id > 'w00003'")
			look("most are gone", true)
			if diff := cmp.Diff(map[string]int{"active ": 3, "disabled by hand": 1, "disabled gone from webhook_source": 8}, states()); diff != "" {
				t.Errorf("most are gone (-want +got):\n%s", diff)
			}
			app.exec("delete from customer_webhooks")
			look("all are gone", true)
			look("all are still gone", false)
			for i := range 12 {
				app.exec("insert into customer_webhooks (id, bot, endpoint, format, kinds, at_once, extra) values ($1, $2, $3, 'smarterlaunch', 'Lead,Appointment', true, '{\"X-Token\": \"secret\"}')",
					fmt.Sprintf("w%05d", i), fmt.Sprint("bot", i), fmt.Sprintf("https://crm%d.example.com/hooks", i))
			}
			look("they are back", true)
			look("and stay", false)
			if diff := cmp.Diff(map[string]int{"active ": 11, "disabled by hand": 1}, states()); diff != "" {
				t.Errorf("they are back (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLookTwice: an id that comes to be in several rows is said at the next look, whatever they say, and once it is in one
// again, that row's webhook is what the row says.
func TestLookTwice(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			app, s := manyRows(t, engine, 3)
			app.exec("create table copies as select * from customer_webhooks where id = 'w00001'")
			app.exec("delete from copies")
			s.parts.config.Rows.Query += " UNION ALL " + strings.Replace(customerQuery, "customer_webhooks", "copies", 1)
			look := func(what string, said bool) {
				t.Helper()
				if err := s.look(t.Context()); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if got := strings.Contains(s.said["w00001"], "several rows have it"); got != said {
					t.Errorf("%s: it is said that there are several: %t", what, got)
				}
			}
			url := func() string {
				set, err := s.parts.ledger.Webhooks(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return set.Webhooks[1].URL.Reveal()
			}
			look("the first", false)
			look("the second", false)
			const other = "insert into copies select * from customer_webhooks where id = 'w00001'"
			app.exec(other)
			look("the same row twice", true)
			app.exec(other)
			look("three times", true)
			app.exec("update customer_webhooks set endpoint = 'https://changed.example.com' where id = 'w00001'")
			look("one of them is changed", true)
			look("and stays", true)
			if got := url(); got != "https://crm1.example.com/hooks" {
				t.Errorf("while there are several its URL is %s", got)
			}
			app.exec("delete from copies")
			look("there is one again", false)
			if got := url(); got != "https://changed.example.com" {
				t.Errorf("when there is one again its URL is %s", got)
			}
		})
	}
}

// BenchmarkLook: one look at ten thousand rows.
func BenchmarkLook(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine, func(b *testing.B) {
			ctx := context.Background()
			app, s := manyRows(b, engine, 10_000)
			began := time.Now()
			if err := s.look(ctx); err != nil {
				b.Fatal(err)
			}
			b.Logf("the first look, which enters all: %v", time.Since(began))
			if err := s.look(ctx); err != nil {
				b.Fatal(err)
			}
			b.Run("unchanged", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := s.look(ctx); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("ledger changed", func(b *testing.B) {
				for b.Loop() {
					s.generation = jobs.Generation{}
					if err := s.look(ctx); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("one row changed", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					app.exec("update customer_webhooks set endpoint = $1 where id = 'w00042'", fmt.Sprintf("https://other%d.example.com", i))
					if err := s.look(ctx); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
