package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// nodeRecord is a record as the Node CRM took it.
type nodeRecord struct {
	SerialNumber, Type, FirstName, LastName, Email, PhoneNumber, CreateTime, Content string
	SessionID                                                                        int64
	URI                                                                              string
}

type nodeTaken struct {
	Taken []struct {
		ID   string     `json:"id"`
		Body nodeRecord `json:"body"`
	} `json:"taken"`
	Refused int `json:"refused"`
}

// startNode starts testdata/crm.js and returns its URL.
func startNode(t *testing.T, key string) string {
	t.Helper()
	cmd := exec.Command("node", "testdata/crm.js", key)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("Node.js is needed to run the vendor's recipe: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

func askNode(t *testing.T, url string) (n nodeTaken) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&n); err != nil {
		t.Fatal(err)
	}
	return n
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

// TestNodeVerifies pushes 300 records of random Unicode to a Node.js CRM: each verifies by the vendor's recipe and says
// what its row says, and a second run gathers nothing.
func TestNodeVerifies(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const key, count = "ключ+/= with 'quotes'", 300
			crm := startNode(t, key)
			app := newApplication(t, engine)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			want := map[string]nodeRecord{}
			for i := range count {
				typ, table := "Lead", "leads"
				if i%3 == 0 {
					typ, table = "Appointment", "appointments"
				}
				text := func() string { return anyText(r, engine == "sqlite") } // PostgreSQL holds no NUL
				created := time.UnixMicro(1_600_000_000_000_000 + r.Int64N(100_000_000_000_000)).UTC()
				rec := nodeRecord{
					SerialNumber: "bot " + nasty[r.IntN(len(nasty))], Type: typ,
					FirstName: text(), LastName: text(), Email: text(), PhoneNumber: text(), Content: text(), URI: text(),
					CreateTime: created.Format("2006-01-02T15:04:05.000000Z"),
					SessionID:  r.Int64N(1<<54-1) - (1<<53 - 1),
				}
				var id int64
				err := app.db.QueryRow(fmt.Sprintf(`insert into %s (chatbot_id, created_at, first_name, last_name, email, phone_number, content, session_id, uri)
					values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning id`, table),
					rec.SerialNumber, created.Format("2006-01-02 15:04:05.000000"), rec.FirstName, rec.LastName, rec.Email, rec.PhoneNumber,
					rec.Content, rec.SessionID, rec.URI).Scan(&id)
				if err != nil {
					t.Fatal(err)
				}
				want[jobs.Key{Webhook: "node", Type: typ, Row: fmt.Sprint(id), Action: jobs.ActionCreate}.ID().String()] = rec
			}
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks: [{id: node, chatbot: "*", url: %q, sign_key: %q, from: beginning, retry_at: []}]
`, app.source, newLedger(t, engine), local, crm+"/hook", key))
			if run := s.runNow(0); run.Gathered != count || run.Delivered != count {
				t.Errorf("the first run: %+v", run)
			}
			taken := askNode(t, crm)
			got := map[string]nodeRecord{}
			for _, record := range taken.Taken {
				got[record.ID] = record.Body
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if run := s.runNow(0); run.Gathered != 0 || run.Carried != 0 {
				t.Errorf("the second run: %+v", run)
			}
			if again := askNode(t, crm); len(again.Taken) != count || again.Refused != 0 {
				t.Errorf("%d records were taken and %d refused, of %d", len(again.Taken), again.Refused, count)
			}
		})
	}
}
