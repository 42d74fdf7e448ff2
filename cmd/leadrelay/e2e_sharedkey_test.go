package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// TestSharedSignKey: two smarterlaunch webhooks of one account sign with one key. While it is rotated, receivers with
// the old key and with the new one both end up with every record of both; after --finish only those with the new.
func TestSharedSignKey(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crms := map[string]*accountCRM{"first": newAccountCRM(t), "second": newAccountCRM(t)}
			app := newApplication(t, engine)
			s := newSite(t, time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: second, chatbot: a, url: %q, dialect: smarterlaunch, sign_key_of: first, retry_at: [200ms, 400ms]}
  - {id: first, chatbot: a, url: %q, dialect: smarterlaunch, retry_at: [200ms, 400ms]}
`, app.source, newLedger(t, engine), local, crms["second"].url, crms["first"].url))
			s.runNow(0)
			key := func(webhook string) string {
				return s.webhook(webhook).SignKey
			}
			old := key("first")
			if old == "" || key("second") != old {
				t.Fatal("the two do not share a key")
			}
			// push sends one record to each webhook, whose receivers have these keys, and says to how many it got.
			push := func(first, second string, code int) int {
				crms["first"].takes(first)
				crms["second"].takes(second)
				app.insert("a")
				return s.runNow(code).Delivered
			}
			if got := push(old, old, 0); got != 2 {
				t.Errorf("with the key that was made %d of 2 got it", got)
			}
			s.run(exitUsage, "webhook", "rotate-key", "second")
			var rotated struct {
				SignKey string `json:"sign_key"`
			}
			s.document(&rotated, 0, "webhook", "rotate-key", "first")
			fresh := rotated.SignKey
			if fresh == old || key("second") != fresh {
				t.Fatal("the rotation did not reach the second")
			}
			if got := push(old, fresh, 0) + push(fresh, old, 0); got != 4 {
				t.Errorf("while the key was rotated %d of 4 got theirs", got)
			}
			s.run(0, "webhook", "rotate-key", "first", "--finish")
			if got := push(fresh, fresh, 0); got != 2 {
				t.Errorf("with the new key %d of 2 got it", got)
			}
			if got := push(old, old, exitPending); got != 0 {
				t.Errorf("after the rotation %d verified by the old key", got)
			}
		})
	}
}

// An accountCRM is a smarterlaunch receiver whose key can be changed.
type accountCRM struct {
	t   *testing.T
	url string
	crm atomic.Pointer[receiver.Receiver]
}

func newAccountCRM(t *testing.T) *accountCRM {
	c := &accountCRM{t: t}
	c.url = startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.crm.Load().ServeHTTP(w, r) }), func() {})
	return c
}

func (c *accountCRM) takes(key string) {
	c.t.Helper()
	crm, err := receiver.New(receiver.Options{Dialect: "smarterlaunch", SignKeys: []jobs.Secret{jobs.Secret(key)}, Answer: receiver.Success})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(crm.Close)
	c.crm.Store(crm)
}
