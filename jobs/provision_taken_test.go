package jobs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// of makes a webhook one of these chatbots.
func of(chatbots ...string) func(*jobs.Webhook) {
	return func(w *jobs.Webhook) { w.Chatbots = chatbots }
}

// enter provisions webhooks as a file or a table does.
func (b *bench) enter(origin string, hooks ...jobs.Webhook) (jobs.Provisioned, error) {
	rows := strings.HasSuffix(origin, jobs.RowsOf(""))
	gone := map[bool]string{true: jobs.ReasonNotRow}[rows]
	return jobs.Provisioning{
		Ledger: b.ledger, Sources: []jobs.Source{b.leads}, Origin: origin, Rows: rows, Gone: gone, Desired: slices.Clone(hooks),
		NewKey: func(string) jobs.Secret { return "made" }, Signs: func(string) bool { return true },
	}.Run(context.Background())
}

// TestProvisioningTakes: a file or a table takes no webhook over that a customer may have entered, nor one that was
// another chatbot's: its leads would be signed with a key that others know, and be sent what the other is owed.
func TestProvisioningTakes(t *testing.T) {
	const ours, other, table = "config.yaml", "other.yaml", "config.yaml webhook_source"
	for _, test := range []struct {
		name, first string // what enters acme of chatbot bot first: a file, a table, or ""
		gone        bool   // and names it no more
		origin      string
		chatbots    []string
		wrong       string // what the refusal holds; "": it is entered
	}{
		{"by hand", "", false, ours, []string{"bot"}, "webhook acme: there is a webhook of this id already, entered by hand, which stays as it is; give this one another id, or remove that webhook: leadrelay webhook remove acme"},
		{"by hand, of another chatbot", "", false, ours, []string{"b"}, "entered by hand, for other chatbots, which"},
		{"by hand, and a row", "", false, table, []string{"bot"}, "give the row another id, or remove that webhook"},
		{"a row's", table, false, ours, []string{"bot"}, "from the webhook_source of config.yaml, which stays as it is; give this one another id"},
		{"another file's", other, false, ours, []string{"bot"}, ""},
		{"another file's, of other chatbots", other, false, ours, []string{"b"}, "from other.yaml, for other chatbots, which"},
		{"another file's, of more chatbots", other, false, ours, []string{"b", "bot"}, "for other chatbots"},
		{"another file's, and a row", other, false, table, []string{"bot"}, "from other.yaml, which stays as it is; give the row another id"},
		{"the file's own", ours, false, ours, []string{"b"}, ""},
		{"a row's own", table, false, table, []string{"b"}, ""},
		{"back in the file", ours, true, ours, []string{"bot"}, ""},
		{"back in the file, for another chatbot", ours, true, ours, []string{"b"}, "for other chatbots, which stays as it is; give this one another id, or remove that webhook"},
		{"back in the table, for another chatbot", table, true, table, []string{"b"}, "or remove that webhook: leadrelay webhook remove acme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				ctx := context.Background()
				entered := hook("acme", of("bot"), func(w *jobs.Webhook) { w.URL, w.SignKey = "https://first.example.com", "known" })
				if test.first == "" {
					must[jobs.Webhook](t)(b.registrar().Add(ctx, entered))
				} else {
					must[jobs.Provisioned](t)(b.enter(test.first, entered))
				}
				if test.gone {
					must[jobs.Provisioned](t)(b.enter(test.first))
				}
				was := must[jobs.Registered](t)(b.ledger.Webhooks(ctx)).Webhooks[0]
				did, err := b.enter(test.origin, hook("acme", of(test.chatbots...)), hook("beside"))
				refusal := err
				if test.origin == table && test.wrong != "" {
					if refusal = did.Refused["acme"]; err != nil || !slices.Equal(did.Entered, []string{"beside"}) {
						t.Errorf("beside a refused row %v is entered, %v", did.Entered, err)
					}
				}
				is := must[jobs.Registered](t)(b.ledger.Webhooks(ctx)).Webhooks[0]
				switch {
				case test.wrong == "":
					if err != nil || is.Origin != test.origin || !slices.Equal(is.Chatbots, test.chatbots) {
						t.Errorf("it is %+v; %v", is, err)
					}
				case !errors.Is(refusal, jobs.ErrTaken) || !strings.Contains(refusal.Error(), test.wrong):
					t.Errorf("refused: %v; want one that says %q", refusal, test.wrong)
				default:
					if diff := cmp.Diff(was, is); diff != "" {
						t.Errorf("the webhook that is there (-was +is):\n%s", diff)
					}
				}
			})
		})
	}
}

// TestProvisioningTakesAll: every webhook that a file cannot take over is named at once, and the rows of a table that
// would sign with the key of one are refused too.
func TestProvisioningTakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		for _, id := range []string{"one", "two"} {
			must[jobs.Webhook](t)(b.registrar().Add(context.Background(), hook(id, of(id), func(w *jobs.Webhook) { w.SignKey = "known" })))
		}
		_, err := b.enter("config.yaml", hook("one"), hook("new"), hook("two"))
		if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "webhook one:") || !strings.Contains(err.Error(), "webhook two:") {
			t.Errorf("a file: %v", err)
		}
		did := must[jobs.Provisioned](t)(b.enter("config.yaml webhook_source", hook("one"),
			hook("shares", func(w *jobs.Webhook) { w.SignKeyOf = "one" }), hook("two, by its id", func(w *jobs.Webhook) { w.SignKeyOf = "two" })))
		if !slices.Equal(did.Entered, []string{"two, by its id"}) || len(did.Refused) != 2 || !errors.Is(did.Refused["shares"], jobs.ErrSignKeyOf) {
			t.Errorf("a table: %+v", did)
		}
	})
}
