package ledger

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/leadrelay/leadrelay/jobs"
)

// sealed is how a webhook's secrets stand in the ledger: bytes, so that encrypting them changes this file alone.
type sealed struct{ url, signKey, headers []byte }

func seal(w *jobs.Webhook) (sealed, error) {
	open := make(map[string]string, len(w.Headers))
	for name, value := range w.Headers {
		open[name] = value.Reveal()
	}
	headers, err := json.Marshal(open, json.Deterministic(true))
	if err != nil {
		return sealed{}, fmt.Errorf("store the headers of webhook %s: they are no valid UTF-8", w.ID)
	}
	return sealed{[]byte(w.URL.Reveal()), []byte(w.SignKey.Reveal()), headers}, nil
}

func (s sealed) unseal(w *jobs.Webhook) error {
	var open map[string]string
	if err := json.Unmarshal(s.headers, &open); err != nil {
		return fmt.Errorf("the headers of webhook %s cannot be read", w.ID)
	}
	w.URL, w.SignKey = jobs.Secret(s.url), jobs.Secret(s.signKey)
	if len(open) > 0 {
		w.Headers = make(map[string]jobs.Secret, len(open))
		for name, value := range open {
			w.Headers[name] = jobs.Secret(value)
		}
	}
	return nil
}
