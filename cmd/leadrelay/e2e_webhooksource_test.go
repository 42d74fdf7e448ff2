package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/sinks/receiver"
)

// customerWebhooks is a platform's own table of webhooks.
const customerWebhooks = `create table customer_webhooks (id text primary key, bot text not null, endpoint text, format text, kinds text,
	secret text, at_once boolean, extra text)`

const customerQuery = "SELECT id, bot AS chatbot, endpoint AS url, format AS dialect, kinds AS types, secret AS sign_key, at_once AS immediate, extra AS headers FROM customer_webhooks"

// A shownWebhook is what tests look at of `webhook show`.
type shownWebhook struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	SignKey     string `json:"sign_key"`
	Immediate   bool   `json:"immediate"`
	State       string `json:"state"`
	StateReason string `json:"state_reason"`
}

func (s *site) webhook(id string) (w shownWebhook) {
	s.t.Helper()
	s.document(&w, 0, "webhook", "show", id, "--reveal")
	return w
}

// TestWebhookSource: webhooks that a platform enters, changes and takes away in its own table are pushed to, changed and
// disabled by a running daemon within seconds, and nobody else's are touched.
func TestWebhookSource(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			crm, url := startCRM(t, nil)
			other, otherURL := startCRM(t, nil)
			app := newApplication(t, engine)
			app.exec(customerWebhooks)
			s := newSite(t, 2*time.Minute, fmt.Sprintf(`source: %q
ledger: %q
%swebhooks:
  - {id: file, chatbot: none, url: %q, sign_key: %[5]q}
webhook_source: {query: %[6]q, every: 1s}
immediate: true
`, app.source, newLedger(t, engine), local, url, signKey, customerQuery))
			s.env = append(s.env, "CUSTOMER_KEY=expanded")
			s.run(0, "run-now")
			s.run(0, "webhook", "add", "--id", "hand", "--chatbot", "none", "--url", url+"/hand")
			app.installTrigger(s)
			p := s.serve()
			state := func(id, want string) func() bool {
				return func() bool {
					set, _, code := s.try("webhook", "show", id, "--json")
					return code == 0 && strings.Contains(set, `"state": "`+want+`"`)
				}
			}

			// A row that comes: its records get pushed.
			insert := "insert into customer_webhooks (id, bot, endpoint, secret, at_once) values ($1, $2, $3, $4, $5)"
			app.exec(insert, "acme", "bot", url, signKey, true)
			s.soon(state("acme", "active"), "the row's webhook is entered")
			ids := app.insertMany("bot", 3)
			s.soon(func() bool { return crm.Counts().Acked == 3 }, "the row's webhook gets its records")

			// Wrong rows, and ids that others have, stop nobody; each is said once.
			app.exec(insert, "bad", "bot", "ftp://user:hunter2@example.com/hunter2", nil, nil)
			app.exec(insert, "file", "bot", otherURL, signKey, nil)
			app.exec(insert, "hand", "bot", otherURL, signKey, nil)
			app.exec("update customer_webhooks set endpoint = $1 where id = 'acme'", otherURL) // a change
			app.exec(insert, "made", "bot", otherURL+"/made", nil, false)                      // its key is made
			s.soon(func() bool { return s.webhook("acme").URL == otherURL }, "the changed row changes its webhook")
			s.soon(state("made", "active"), "the other row's webhook is entered")
			if w := s.webhook("made"); len(w.SignKey) != 64 || w.Immediate {
				t.Errorf("a webhook without a key: %d characters, immediate %t", len(w.SignKey), w.Immediate)
			}
			more := app.insertMany("bot", 2)
			s.soon(func() bool { return other.Counts().Acked == 2 }, "records go to the changed URL")
			if s.webhook("file").URL != url || s.webhook("hand").URL != url+"/hand" {
				t.Error("rows took over webhooks of others")
			}

			// A row that goes: disabled, gathering. It comes back: its records too.
			app.exec("delete from customer_webhooks where id = 'acme'")
			s.soon(state("acme", "disabled"), "the vanished row's webhook is disabled")
			if w := s.webhook("acme"); w.StateReason != "gone from webhook_source" {
				t.Errorf("it is disabled because of %q", w.StateReason)
			}
			more = append(more, app.insertMany("bot", 2)...)
			// A row that becomes wrong has not vanished.
			app.exec("update customer_webhooks set format = 'nonsense' where id = 'made'")
			p.says("webhook=made")
			if w := s.webhook("made"); w.State != "active" {
				t.Errorf("a row that became wrong made its webhook %s (%s)", w.State, w.StateReason)
			}
			app.exec(insert, "acme", "bot", otherURL, signKey, true)
			s.soon(func() bool { return other.Counts().Acked == 4 }, "what it is owed comes when the row is back")

			// A query that fails changes nothing, and is said once.
			app.exec("alter table customer_webhooks rename to elsewhere")
			p.says("webhook_source cannot be read; its webhooks stay as they are")
			time.Sleep(2500 * time.Millisecond)
			if w := s.webhook("acme"); w.State != "active" {
				t.Errorf("a failing query made it %s", w.State)
			}
			app.exec("alter table elsewhere rename to customer_webhooks")
			p.says("webhook_source is read again")

			p.stop()
			exactlyOnce(t, crm, "acme", "Lead", ids)
			exactlyOnce(t, other, "acme", "Lead", more)
			log := p.errs.String()
			for text, times := range map[string]int{
				"webhook=bad": 1, "webhook=file ": 1, "webhook=hand ": 1, "webhook=made ": 1, "cannot be read; its webhooks stay": 1, "hunter2": 0, "example.com/": 0,
			} {
				if got := strings.Count(log, text); got != times {
					t.Errorf("%q is in the log %d times, want %d", text, got, times)
				}
			}
		})
	}
}

// TestWebhookSourceReload: another query, or none, takes effect with a reload; a query that is wrong is refused.
func TestWebhookSourceReload(t *testing.T) {
	t.Parallel()
	crm, url := startCRM(t, receiver.Success)
	app := newApplication(t, "sqlite")
	app.exec(customerWebhooks)
	for _, id := range []string{"a", "b"} {
		app.exec("insert into customer_webhooks (id, bot, endpoint, secret) values ($1, 'bot', $2, $3)", id, url+"/"+id, signKey)
	}
	configuration := func(query string) string {
		return fmt.Sprintf("source: %q\nledger: %q\n%swebhooks: []\nimmediate: true\nwebhook_source: {query: %q, every: 1s}\n",
			app.source, "sqlite:ledger.db", local, query)
	}
	s := newSite(t, time.Minute, configuration(customerQuery))
	p := s.serve()
	states := func(want string) func() bool {
		return func() bool {
			var list struct {
				Items []shownWebhook `json:"items"`
			}
			s.document(&list, 0, "webhook", "list")
			got := ""
			for _, w := range list.Items {
				got += w.ID + " " + w.State + ","
			}
			return got == want
		}
	}
	s.soon(states("a active,b active,"), "the rows' webhooks are there")
	reload := func(query, says string) {
		s.configure(configuration(query))
		p.signal(syscall.SIGHUP)
		p.says(says)
	}
	reload("SELECT nothing FROM customer_webhooks", "the new configuration was refused")
	reload(customerQuery+" WHERE id = 'a'", "the configuration was read again")
	s.soon(states("a active,b disabled,"), "the new query's rows are the webhooks")
	time.Sleep(2 * time.Second)
	if !states("a active,b disabled,")() {
		t.Error("the old query's poll goes on")
	}
	app.insert("bot")
	s.soon(func() bool { return crm.Counts().Acked == 1 }, "the webhook that is left gets its record")
	s.configure(strings.Replace(configuration(""), "webhook_source", "#", 1))
	p.signal(syscall.SIGHUP)
	p.says("the configuration was read again", 2)
	s.soon(states("a disabled,b disabled,"), "without webhook_source its webhooks are disabled")
	p.stop()
}
