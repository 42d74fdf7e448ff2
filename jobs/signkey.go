package jobs

import (
	"errors"
	"fmt"
	"time"
)

// ErrSignKeyOf says that a webhook cannot sign with another's key, or cannot change while another signs with its own.
var ErrSignKeyOf = errors.New("sign_key_of")

// A keySharingError is ErrSignKeyOf with what is wrong.
type keySharingError string

func (e keySharingError) Error() string        { return string(e) }
func (e keySharingError) Is(target error) bool { return target == ErrSignKeyOf }

func keySharing(format string, args ...any) error {
	return keySharingError(fmt.Sprintf(format, args...))
}

// ShareKeys gives each webhook that signs with another's keys those keys as they are now: new, old, and until when.
// One whose other is not there has none, and is refused by what signs.
func ShareKeys(webhooks []Webhook) {
	var byID map[string]*Webhook
	for i := range webhooks {
		w := &webhooks[i]
		if w.SignKeyOf == "" {
			continue
		}
		if byID == nil {
			byID = make(map[string]*Webhook, len(webhooks))
			for j := range webhooks {
				byID[webhooks[j].ID] = &webhooks[j]
			}
		}
		w.SignKey, w.OldKey, w.OldKeyUntil = "", "", time.Time{}
		if owner := byID[w.SignKeyOf]; owner != nil && owner.SignKeyOf == "" {
			w.SignKey, w.OldKey, w.OldKeyUntil = owner.SignKey, owner.OldKey, owner.OldKeyUntil
		}
	}
}

// A keyring is a set of webhooks as they are or are to be, asked who may sign with whose key.
type keyring struct {
	byID   map[string]*Webhook
	fits   func(dialect string, key Secret) bool // nil: any key fits
	others map[string][]*Webhook                 // that stay as they are, by the webhook with whose key they sign
}

// newKeyring makes one of webhooks, of which the first changing ones are as they are to be.
func newKeyring(webhooks []Webhook, changing int, fits func(string, Secret) bool) *keyring {
	k := &keyring{byID: make(map[string]*Webhook, len(webhooks)), fits: fits, others: map[string][]*Webhook{}}
	for i := range webhooks {
		w := &webhooks[i]
		k.byID[w.ID] = w
		if w.SignKeyOf != "" && i >= changing { // each of the others is checked itself
			k.others[w.SignKeyOf] = append(k.others[w.SignKeyOf], w)
		}
	}
	return k
}

// check says why w, as it is to be, cannot sign with the key that it names, or cannot be the owner of the key that
// others sign with.
func (k *keyring) check(w *Webhook) error {
	for _, other := range k.others[w.ID] {
		switch {
		case w.SignKeyOf != "":
			return keySharing("webhook %s cannot sign with the key of %s: %s signs with the key of %[1]s; name %[2]s there too", w.ID, w.SignKeyOf, other.ID)
		case w.SignKey == "":
			return keySharing("webhook %s has no sign key any more, and %s signs with it", w.ID, other.ID)
		case !k.fit(other.Dialect, w.SignKey):
			return keySharing("the sign key of webhook %s has not the form that dialect %s wants, and %s, which signs with it, is of that dialect", w.ID, other.Dialect, other.ID)
		}
	}
	if w.SignKeyOf == "" {
		return nil
	}
	owner := k.byID[w.SignKeyOf]
	switch {
	case w.SignKeyOf == w.ID:
		return keySharing("webhook %s: sign_key_of names the webhook itself; leave it out", w.ID)
	case owner == nil:
		return keySharing("webhook %s: sign_key_of names %s, and there is no such webhook", w.ID, w.SignKeyOf)
	case owner.SignKeyOf != "":
		return keySharing("webhook %s: sign_key_of names %s, which signs with the key of %s itself; name that one", w.ID, owner.ID, owner.SignKeyOf)
	case owner.SignKey == "":
		return keySharing("webhook %s: sign_key_of names %s, which has no sign key (its dialect, %s, needs none); give it one, or this one its own", w.ID, owner.ID, owner.Dialect)
	case !k.fit(w.Dialect, owner.SignKey):
		return keySharing("webhook %s: the sign key of %s has not the form that dialect %s wants", w.ID, owner.ID, w.Dialect)
	}
	return nil
}

func (k *keyring) fit(dialect string, key Secret) bool { return k.fits == nil || k.fits(dialect, key) }
