package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/crmtest"
)

// nodeRecord is a record as the Node CRM took it.
type nodeRecord struct {
	SerialNumber, Type, FirstName, LastName, Email, PhoneNumber, CreateTime, Content string
	SessionID                                                                        int64
	URI                                                                              string
}

// takenBy reads what a CRM took, by id. The body of each is put into a new T; what came twice is an error.
func takenBy[T any](t *testing.T, crm *crmtest.CRM, path string) map[string]T {
	t.Helper()
	got := map[string]T{}
	for _, one := range crm.Taken() {
		if one.Path != path {
			continue
		}
		var body T
		if err := json.Unmarshal(one.Body, &body); err != nil {
			t.Fatal(err)
		}
		if _, twice := got[one.ID]; twice {
			t.Errorf("%s came twice to %s", one.ID, path)
		}
		got[one.ID] = body
	}
	return got
}

// nasty are texts that have broken writers and readers of JSON, HTML and SQL before.
var nasty = []string{
	"\x01", "\b", "\t", "\n", "\v", "\f", "\r", "\x1f", "\x7f", "\u0080", "\u0085", "\u00a0", "\u00ad", "\u200d", "\u2028", "\u2029", "\u202e",
	"<", ">", "&", "<&>", "'", `"`, `\`, "/", "</script>", "&amp;", `\u0041`, `\ud83d`, `\n`, "👍", "👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "e\u0301", "\ufeff", "\ufffd", "\uffff", "\U0010ffff",
	"مرحبا", "日本語", "__proto__", "%s%00", "$1", "${HOME}", "null", "0", " ", "  ",
}

// anyText draws what people and programs put into text columns.
func anyText(r *rand.Rand, nul bool) string {
	var b strings.Builder
	for range r.IntN(12) {
		switch r.IntN(4) {
		case 0:
			b.WriteString(nasty[r.IntN(len(nasty))])
		case 1:
			b.WriteRune(rune(r.IntN(0x80)))
		case 2:
			b.WriteRune(rune(r.IntN(0x3000)))
		default:
			b.WriteRune(rune(r.IntN(unicode.MaxRune + 1))) // a surrogate becomes U+FFFD
		}
	}
	if !nul {
		return strings.ReplaceAll(b.String(), "\x00", "")
	}
	return b.String()
}

// insertRandom commits a lead or an appointment of random Unicode, and returns its id and what a CRM is to get.
func (a *application) insertRandom(r *rand.Rand, chatbot string) (id int64, rec nodeRecord) {
	a.t.Helper()
	typ, table := "Lead", "leads"
	if r.IntN(3) == 0 {
		typ, table = "Appointment", "appointments"
	}
	text := func() string { return anyText(r, a.engine == "sqlite") } // PostgreSQL holds no NUL
	created := time.UnixMicro(1_600_000_000_000_000 + r.Int64N(100_000_000_000_000)).UTC()
	rec = nodeRecord{
		SerialNumber: chatbot, Type: typ,
		FirstName: text(), LastName: text(), Email: text(), PhoneNumber: text(), Content: text(), URI: text(),
		CreateTime: created.Format("2006-01-02T15:04:05.000000Z"),
		SessionID:  r.Int64N(1<<54-1) - (1<<53 - 1),
	}
	err := a.db.QueryRow(fmt.Sprintf(`insert into %s (chatbot_id, created_at, first_name, last_name, email, phone_number, content, session_id, uri)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning id`, table),
		rec.SerialNumber, created.Format("2006-01-02 15:04:05.000000"), rec.FirstName, rec.LastName, rec.Email, rec.PhoneNumber,
		rec.Content, rec.SessionID, rec.URI).Scan(&id)
	if err != nil {
		a.t.Fatal(err)
	}
	return id, rec
}

// TestNodeVerifies pushes 300 records of random Unicode to a Node.js CRM: each verifies by the vendor's recipe and says
// what its row says, and a second run gathers nothing.
func TestNodeVerifies(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const key, count = "ключ+/= with 'quotes'", 300
			crm := crmtest.Start(t, crmtest.Vendor, map[string][]string{"hook": {key}})
			app := newApplication(t, engine)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			want := map[string]nodeRecord{}
			for range count {
				id, rec := app.insertRandom(r, "bot "+nasty[r.IntN(len(nasty))])
				want[jobs.Key{Webhook: "node", Type: rec.Type, Row: fmt.Sprint(id), Action: jobs.ActionCreate}.ID().String()] = rec
			}
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks: [{id: node, chatbot: "*", url: %q, sign_key: %q, from: beginning, retry_at: []}]
`, app.source, newLedger(t, engine), local, crm.URL+"hook", key))
			if run := s.runNow(0); run.Gathered != count || run.Delivered != count {
				t.Errorf("the first run: %+v", run)
			}
			if diff := cmp.Diff(want, takenBy[nodeRecord](t, crm, "hook")); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if run := s.runNow(0); run.Gathered != 0 || run.Carried != 0 {
				t.Errorf("the second run: %+v", run)
			}
			if n := len(takenBy[nodeRecord](t, crm, "hook")); n != count {
				t.Errorf("%d records were taken, of %d", n, count)
			}
		})
	}
}
