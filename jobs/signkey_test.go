package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func keyOf(owner string) func(*jobs.Webhook) {
	return func(w *jobs.Webhook) { w.SignKeyOf, w.URL = owner, jobs.Secret("https://crm.example.com/"+w.ID) }
}

func (b *bench) keys() map[string]string {
	b.t.Helper()
	set := must[jobs.Registered](b.t.(*testing.T))(b.ledger.Webhooks(context.Background()))
	keys := map[string]string{}
	for _, w := range set.Webhooks {
		keys[w.ID] = w.SignKey.Reveal() + "," + w.OldKey.Reveal()
	}
	return keys
}

// TestSharedKey: a webhook that names another signs with that one's key, through provisioning, rotation and the
// other's end.
func TestSharedKey(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, hook("second", keyOf("first")), hook("first"))
	defer b.close()
	expect := func(step string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, b.keys()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	expect("entered", map[string]string{"first": "made,", "second": "made,"})
	if did := b.provision(b.hooks...); !cmp.Equal(did, jobs.Provisioned{}) {
		t.Errorf("the same file again did %+v", did)
	}
	r := b.registrar()
	w := must[jobs.Webhook](t)(r.Add(ctx, hook("by-hand", keyOf("first"))))
	if w.SignKey != "made" || w.KeyMade {
		t.Errorf("added: %+v", w)
	}
	must[jobs.Webhook](t)(r.Rotate(ctx, "first", jobs.Rotation{Overlap: time.Hour}))
	expect("rotated", map[string]string{"first": "made 1,made", "second": "made 1,made", "by-hand": "made 1,made"})
	if did := b.provision(b.hooks...); !cmp.Equal(did, jobs.Provisioned{}) {
		t.Errorf("the same file after a rotation did %+v", did)
	}
	must[jobs.Webhook](t)(r.SetState(ctx, "second", jobs.Disabled))
	must[jobs.Webhook](t)(r.SetState(ctx, "second", jobs.Active))
	must[jobs.Webhook](t)(r.SetState(ctx, "first", jobs.Disabled))
	expect("the owner is disabled", map[string]string{"first": "made 1,made", "second": "made 1,made", "by-hand": "made 1,made"})
	must[jobs.Webhook](t)(r.Rotate(ctx, "first", jobs.Rotation{Finish: true}))
	expect("finished", map[string]string{"first": "made 1,", "second": "made 1,", "by-hand": "made 1,"})

	b.provision(hook("first"), hook("second"))
	if keys := b.keys(); keys["second"] != "made," {
		t.Errorf("with a key of its own again it signs with %s", keys["second"])
	}
	own := must[jobs.Webhook](t)(r.Change(ctx, "by-hand", func(w *jobs.Webhook) error { w.SignKeyOf = ""; return nil }))
	if own.SignKey != "made 2" || !own.KeyMade {
		t.Errorf("by hand, with a key of its own: %+v", own)
	}
	own = must[jobs.Webhook](t)(r.Change(ctx, "by-hand", func(w *jobs.Webhook) error { w.SignKeyOf = "second"; return nil }))
	if own.SignKey != "made" || own.KeyMade {
		t.Errorf("by hand, with another's key again: %+v", own)
	}
}

// TestSharedKeyRefused: what would leave a webhook without a key that fits, or make a chain, is refused.
func TestSharedKeyRefused(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, hook("file"))
	defer b.close()
	r := b.registrar()
	r.Fits = func(dialect string, key jobs.Secret) bool {
		return dialect != "picky" || strings.HasPrefix(key.Reveal(), "picky")
	}
	r.Signs = func(dialect string) bool { return dialect != "unsigned" }
	elsewhere := func(url string) func(*jobs.Webhook) {
		return func(w *jobs.Webhook) { w.URL = jobs.Secret(url) }
	}
	dialect := func(d string) func(*jobs.Webhook) { return func(w *jobs.Webhook) { w.Dialect = d } }
	must[jobs.Webhook](t)(r.Add(ctx, hook("owner", elsewhere("https://owner.example.com"), func(w *jobs.Webhook) { w.SignKey = "picky key" })))
	must[jobs.Webhook](t)(r.Add(ctx, hook("user", keyOf("owner"), dialect("picky"))))
	must[jobs.Webhook](t)(r.Add(ctx, hook("keyless", elsewhere("https://none.example.com"), dialect("unsigned"))))
	set := func(id string, f func(*jobs.Webhook)) func() error {
		return func() error {
			_, err := r.Change(ctx, id, func(w *jobs.Webhook) error { f(w); return nil })
			return err
		}
	}
	add := func(change ...func(*jobs.Webhook)) func() error {
		return func() error { _, err := r.Add(ctx, hook("new", change...)); return err }
	}
	for name, c := range map[string]struct {
		do   func() error
		says string
	}{
		"itself":              {add(keyOf("new")), "names the webhook itself"},
		"nobody":              {add(keyOf("nobody")), "sign_key_of names nobody, and there is no such webhook"},
		"a chain":             {add(keyOf("user")), "names user, which signs with the key of owner itself"},
		"one without a key":   {add(keyOf("keyless")), "keyless, which has no sign key"},
		"a key that fits not": {add(keyOf("file"), dialect("picky")), "the sign key of file has not the form that dialect picky wants"},
		"a chain from behind": {set("owner", keyOf("file")), "user signs with the key of owner; name file there too"},
		"the user's key rotated": {func() error {
			_, err := r.Rotate(ctx, "user", jobs.Rotation{Overlap: time.Hour})
			return err
		}, "webhook user signs with the key of owner: rotate that one's"},
		"a new key that would not fit": {func() error {
			_, err := r.Rotate(ctx, "owner", jobs.Rotation{Overlap: time.Hour})
			return err
		}, "has not the form that dialect picky wants, and user"},
		"the owner removed": {func() error { _, err := r.Remove(ctx, "owner"); return err }, "user would have no key to sign with"},
		"the file": {func() error {
			_, err := jobs.Provisioning{
				Ledger: b.ledger, Sources: []jobs.Source{b.leads}, Origin: "config.yaml", Desired: []jobs.Webhook{hook("file", keyOf("user"))},
				NewKey: func(string) jobs.Secret { return "made" }, Signs: func(string) bool { return true },
			}.Run(ctx)
			return err
		}, "names user, which signs with the key of owner itself"},
	} {
		before := b.keys()
		err := c.do()
		if !errors.Is(err, jobs.ErrSignKeyOf) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
		if diff := cmp.Diff(before, b.keys()); diff != "" {
			t.Errorf("%s changed something:\n%s", name, diff)
		}
	}
	if _, err := r.Remove(ctx, "user"); err != nil {
		t.Errorf("remove who signs: %v", err)
	}
	if _, err := r.Remove(ctx, "owner"); err != nil {
		t.Errorf("remove whose key it was, then: %v", err)
	}
}
