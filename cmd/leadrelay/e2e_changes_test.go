package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A changeLog is a CRM that keeps what it was told of each row, and refuses one request in seven.
type changeLog struct {
	t testing.TB

	mu       sync.Mutex
	requests int
	under    map[int64]bool
	told     map[int64][]change // acknowledged
	ids      map[string]string  // what came under an X-Webhook-Id
}

type change struct {
	action string
	n      int    // of the row's changes, as its body said
	id     string // X-Webhook-Id
}

func (c *changeLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Action string `json:"action"`
		Type   string `json:"type"`
		Data   struct {
			ID int64 `json:"id"`
			N  int   `json:"n"`
		} `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		c.t.Errorf("a body: %v", err)
	}
	row := body.Data.ID
	c.mu.Lock()
	c.requests++
	number := c.requests
	if c.under[row] {
		c.t.Errorf("two versions of row %d are under way at once", row)
	}
	c.under[row] = true
	what := fmt.Sprint(row, body.Action)
	if before, ok := c.ids[r.Header.Get("X-Webhook-Id")]; ok && before != what {
		c.t.Errorf("one X-Webhook-Id stands for %q and %q", before, what)
	}
	c.ids[r.Header.Get("X-Webhook-Id")] = what
	c.mu.Unlock()

	time.Sleep(time.Duration(number%5) * 15 * time.Millisecond) // edits come while it is sent

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, row)
	if number%7 == 3 {
		http.Error(w, "try again", http.StatusBadGateway)
		return
	}
	there := len(c.told[row]) > 0 && c.told[row][len(c.told[row])-1].action != "remove"
	if there && body.Action == "create" || !there && body.Action == "update" { // a removal may follow a create that failed
		c.t.Errorf("row %d: told %v, and then %s", row, c.told[row], body.Action)
	}
	c.told[row] = append(c.told[row], change{body.Action, body.Data.N, r.Header.Get("X-Webhook-Id")})
}

// TestChanges: rows are edited, deleted and brought back by several sessions at once, some with their transactions held
// open, before and while and after they are delivered. Of each row the CRM hears one version at a time, in an order
// that makes sense, and in the end what the row is; two daemons share the work where the ledger is PostgreSQL.
func TestChanges(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t, engine)
			now := app.makeVisits()
			crm := &changeLog{t: t, under: map[int64]bool{}, told: map[int64][]change{}, ids: map[string]string{}}
			url := startServer(t, crm, func() {})
			s := newSite(t, 3*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
immediate: true
%sstreams:
  - {type: visit, table: visits, updated: updated_at, deleted: deleted_at, fields: {id: id, n: n}}
webhooks: [{id: w, chatbot: a, url: %q, dialect: userback, retry_at: [300ms, 700ms, 1500ms, 3s, 6s]}]
`, app.source, newLedger(t, engine), local, url))
			if engine == "postgres" {
				app.installTrigger(s)
			}
			daemons := []*process{s.serve()}
			if engine == "postgres" {
				daemons = append(daemons, s.serve())
			}

			const rows, editors, each = 24, 6, 25
			for range rows {
				app.exec(`insert into visits (chatbot_id) values ('a')`)
			}
			var work sync.WaitGroup
			for i := range editors {
				work.Go(func() {
					r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))
					for range each {
						if err := app.edit(r, now, 1+r.Int64N(rows)); err != nil {
							t.Errorf("an editor: %v", err)
							return
						}
						time.Sleep(time.Duration(r.IntN(120)) * time.Millisecond)
					}
				})
			}
			work.Wait()

			type state struct {
				n       int
				deleted bool
			}
			want := map[int64]state{}
			found, err := app.db.Query(`select id, n, deleted_at is not null from visits`)
			if err != nil {
				t.Fatal(err)
			}
			defer found.Close()
			for found.Next() {
				var id int64
				var st state
				if err := found.Scan(&id, &st.n, &st.deleted); err != nil {
					t.Fatal(err)
				}
				want[id] = st
			}
			wrong := func() (all []string) {
				crm.mu.Lock()
				defer crm.mu.Unlock()
				for id, st := range want {
					told := crm.told[id]
					last := change{action: "remove", n: st.n}
					if len(told) > 0 {
						last = told[len(told)-1]
					}
					if st.deleted != (last.action == "remove") || !st.deleted && last.n != st.n {
						all = append(all, fmt.Sprintf("row %d is %+v, and the CRM was told %v", id, st, told))
					}
				}
				slices.Sort(all)
				return all
			}
			began := time.Now()
			s.until(func() bool { return len(wrong()) == 0 }, "the CRM knows of each row what it is")
			took := time.Since(began)
			time.Sleep(500 * time.Millisecond) // what comes too often would come now
			for _, line := range wrong() {
				t.Error(line)
			}
			for _, p := range daemons {
				p.stop()
			}
			updates := 0
			for _, told := range crm.told {
				for i, c := range told {
					if c.action == "update" {
						updates++
					}
					if i > 0 && c.action == told[i-1].action && c.n == told[i-1].n {
						t.Errorf("told twice of one version: %v", told)
					}
				}
			}
			if updates == 0 {
				t.Error("no edit came after a delivery")
			}
			for _, d := range s.deliveries() {
				if d.State != "delivered" && (d.State != "dead" || d.Reason != "superseded" && d.Reason != "withdrawn") {
					t.Errorf("version %s of row %s is %s (%s)", d.ID, d.Row, d.State, d.Reason)
				}
			}
			t.Logf("%d edits, %d requests, %d updates; the CRM was right %v after the last edit", editors*each, crm.requests, updates, took.Round(time.Millisecond))
		})
	}
}

// edit changes, deletes or brings back one row; some transactions are held open.
func (a *application) edit(r *rand.Rand, now string, row int64) error {
	tx, err := a.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	set := "n = n + 1, updated_at = NOW, deleted_at = null"
	if r.IntN(6) == 0 {
		set = "n = n + 1, updated_at = NOW, deleted_at = NOW"
	}
	if _, err := tx.Exec("update visits set "+strings.ReplaceAll(set, "NOW", now)+" where id = $1", row); err != nil {
		return err
	}
	if r.IntN(8) == 0 {
		time.Sleep(300 * time.Millisecond)
	}
	return tx.Commit()
}
