package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/crmtest"
)

// enveloped is the body of every signed dialect that puts a record into an envelope.
type enveloped struct {
	Type, Event string     // one of the two, by dialect
	Data        nodeRecord // without SerialNumber, Type and CreateTime
}

// TestThreeDialects: a chatbot with three webhooks in three dialects gets each record of random Unicode three times, each
// accepted at its first attempt by that dialect's recipe in Node, Python or PHP. The two databases have between them
// every dialect that signs.
func TestThreeDialects(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for _, tt := range []struct {
		engine    string
		languages map[string]crmtest.Language // by dialect
		immediate bool
	}{
		{"sqlite", map[string]crmtest.Language{"smarterbot": crmtest.PHP, "smartsurvey": crmtest.Python, "standard-webhooks": crmtest.Node}, false},
		{"postgres", map[string]crmtest.Language{"smarterbot": crmtest.Python, "smarterlaunch": crmtest.Node, "smartlook": crmtest.PHP}, true},
	} {
		for dialect := range tt.languages {
			covered[dialect] = true
		}
		t.Run(tt.engine, func(t *testing.T) {
			t.Parallel()
			const chatbot, count = "59001dd73709417321c58b11693183a2", 300
			app := newApplication(t, tt.engine)
			var config strings.Builder
			fmt.Fprintf(&config, "source: %q\nledger: %q\nimmediate: %t\n%swebhooks:\n", app.source, newLedger(t, tt.engine), tt.immediate, local)
			crms := map[string]*crmtest.CRM{}
			for dialect, language := range tt.languages {
				key := "klíč+/= of " + dialect
				if dialect == "standard-webhooks" {
					key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
				}
				crms[dialect] = crmtest.Start(t, language, map[string][]string{dialect + "/bakery": {key}})
				fmt.Fprintf(&config, "  - {id: %s, chatbot: %s, url: %q, dialect: %s, sign_key: %q, from: beginning}\n",
					dialect, chatbot, crms[dialect].URL+dialect+"/bakery", dialect, key)
			}
			s := newSite(t, 2*time.Minute, config.String())
			var daemon *process
			if tt.immediate {
				app.installTrigger(s)
				daemon = s.serve()
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 3))
			rows := map[jobs.Key]nodeRecord{}
			for range count {
				id, rec := app.insertRandom(r, chatbot)
				rows[jobs.Key{Type: rec.Type, Row: fmt.Sprint(id), Action: jobs.ActionCreate}] = rec
			}
			app.insertRandom(r, "another chatbot") // which is nobody's
			if tt.immediate {
				s.until(func() bool {
					n := 0
					for _, crm := range crms {
						n += len(crm.Taken())
					}
					return n >= 3*count
				}, "all records came")
				daemon.stop()
			} else if run := s.runNow(0); run.Gathered != 3*count || run.Delivered != 3*count {
				t.Errorf("the run: %+v", run)
			}
			for dialect, crm := range crms {
				if dialect == sinks.DefaultDialect {
					want := map[string]nodeRecord{}
					for key, rec := range rows {
						key.Webhook = dialect
						want[key.ID().String()] = rec
					}
					if diff := cmp.Diff(want, takenBy[nodeRecord](t, crm, dialect+"/bakery")); diff != "" {
						t.Errorf("%s in %s (-want +got):\n%s", dialect, tt.languages[dialect], diff)
					}
					continue
				}
				want := map[string]enveloped{}
				for key, rec := range rows {
					key.Webhook = dialect
					body := enveloped{Type: rec.Type + ".created", Data: rec}
					if dialect == "smartsurvey" || dialect == "smarterlaunch" {
						body.Type, body.Event = "", body.Type
					}
					body.Data.SerialNumber, body.Data.Type, body.Data.CreateTime = "", "", ""
					want[key.ID().String()] = body
				}
				if diff := cmp.Diff(want, takenBy[enveloped](t, crm, dialect+"/bakery")); diff != "" {
					t.Errorf("%s in %s (-want +got):\n%s", dialect, tt.languages[dialect], diff)
				}
			}
			all := s.deliveries()
			if len(all) != 3*count {
				t.Errorf("%d deliveries, want %d", len(all), 3*count)
			}
			for _, d := range all {
				if d.State != "delivered" || d.Attempts != 1 {
					t.Errorf("not taken at its first attempt: %+v", d)
				}
			}
		})
	}
	for _, dialect := range sinks.BuiltIn().Names() {
		if d, _ := sinks.BuiltIn().Lookup(dialect); d.Signed && !covered[dialect] {
			t.Errorf("dialect %s signs, and no receiver of it is tried", dialect)
		}
	}
}
