package sinks

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// keyBytes is how many random bytes a generated key has.
const keyBytes = 32

// NewKey makes a sign key in the form that the dialect's receivers enter: 32 random bytes, in hex where the dialect has
// no form of its own; "" for a dialect that is not known.
func (r *Registry) NewKey(dialect string) jobs.Secret {
	d, ok := r.Lookup(dialect)
	if !ok {
		return ""
	}
	var random [keyBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	return d.key.write(random[:])
}

// CheckKey says what is wrong with a webhook's sign key, "" being none. It never shows the key.
func (r *Registry) CheckKey(dialect string, key jobs.Secret) error {
	d, ok := r.Lookup(dialect)
	switch {
	case !ok:
		return fmt.Errorf("no dialect is called %q", dialect)
	case key == "" && d.NeedsKey():
		return errors.New("is missing, and the dialect signs every request")
	case key == "":
		return nil
	case !d.Signed:
		return fmt.Errorf("dialect %s does not sign; leave the key out", dialect)
	}
	_, err := d.keyBytes(key)
	return err
}

func (d *Dialect) keyBytes(key jobs.Secret) ([]byte, error) {
	if d.key.Form == KeyWhsec {
		return standardKey(key)
	}
	if strings.TrimSpace(key.Reveal()) == "" { // anybody can guess how many blanks
		return nil, errors.New("is empty")
	}
	return []byte(key.Reveal()), nil
}

// write writes random bytes as a key that receivers can enter.
func (k KeyRule) write(random []byte) jobs.Secret {
	switch k.Form {
	case KeyBase64:
		return jobs.Secret(k.Prefix + base64.StdEncoding.EncodeToString(random))
	case KeyWhsec:
		return jobs.Secret(standardKeyPrefix + base64.StdEncoding.EncodeToString(random))
	}
	return jobs.Secret(k.Prefix + hex.EncodeToString(random))
}

// macs makes the macs of keys. None is an error where the dialect signs every request.
func (d *Dialect) macs(keys []jobs.Secret) ([]*mac, error) {
	if len(keys) == 0 && d.NeedsKey() {
		return nil, errors.New("the dialect signs every request, and there is no sign key")
	}
	if len(keys) > 0 && !d.Signed {
		return nil, fmt.Errorf("dialect %s does not sign", d.Name)
	}
	macs := make([]*mac, 0, len(keys))
	for _, key := range keys {
		bytes, err := d.keyBytes(key)
		if err != nil {
			return nil, fmt.Errorf("a sign key %w", err)
		}
		macs = append(macs, newMAC(bytes))
	}
	return macs, nil
}
