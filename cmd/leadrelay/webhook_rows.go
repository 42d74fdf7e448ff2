package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/jobs"
)

// maxRows bounds what is read of webhook_source. More than this is an error: rows left out would look like rows that
// are gone.
const maxRows = 100_000

// A webhookRow is one row of webhook_source's table: the webhook that it gives, or what is wrong with it.
type webhookRow struct {
	id      string // "" where the row has none
	sum     uint64 // of its text, and of those of other rows that have its id
	webhook jobs.Webhook
	err     error // names keys, never a URL, key or header
}

// A rowReader makes webhooks of rows. It keeps what it read: most rows are as they were the last time.
type rowReader struct {
	config *config.Resolved
	seed   maphash.Seed
	taken  map[string]bool       // ids of the configuration's own webhooks
	last   map[string]webhookRow // by id
}

func newRowReader(c *config.Resolved) *rowReader {
	r := &rowReader{config: c, seed: maphash.MakeSeed(), taken: map[string]bool{}}
	for i := range c.Webhooks {
		r.taken[c.Webhooks[i].ID] = true
	}
	return r
}

// required are the columns that must be there.
var required = []string{"id", "chatbot", "url"}

// read makes webhooks of rows. The error is one of the query itself.
func (r *rowReader) read(rows []map[string]any) ([]webhookRow, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	if err := checkColumns(rows[0]); err != nil {
		return nil, err
	}
	all, at, now := make([]webhookRow, 0, len(rows)), map[string]int{}, make(map[string]webhookRow, len(rows))
	names := slices.Sorted(maps.Keys(rows[0]))
	for _, row := range rows {
		sum := r.sum(names, row)
		id, err := cellText(row["id"])
		if err == nil && id == "" {
			err = errors.New("is NULL or empty; every row needs one")
		}
		if err != nil {
			all = append(all, webhookRow{sum: sum, err: fmt.Errorf("id: %w", err)})
			continue
		}
		one, known := r.last[id]
		if !known || one.sum != sum {
			one = webhookRow{id: id, sum: sum}
			one.webhook, one.err = r.webhook(row, id)
			if !config.IsID(id) {
				one.id = strconv.Quote(id[:min(len(id), 40)]) // for people: it may be anything
			}
		}
		now[id] = one
		if i, twice := at[id]; twice {
			all[i].err = errors.New("id: several rows have it; an id is one webhook's")
			all[i].sum += sum // else one that comes or goes would change nothing
			continue
		}
		at[id] = len(all)
		all = append(all, one)
	}
	r.last = now
	return all, nil
}

// sum tells one text of a row from another.
func (r *rowReader) sum(names []string, row map[string]any) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, name := range names {
		_, _ = fmt.Fprintf(&h, "%T %v\x00", row[name], row[name])
	}
	return h.Sum64()
}

// checkColumns says which columns are no webhook's keys, and which are missing.
func checkColumns(row map[string]any) error {
	keys := config.WebhookKeys()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(row)) {
		if slices.Contains(keys, name) {
			continue
		}
		if low := strings.ToLower(name); slices.Contains(keys, low) {
			errs = append(errs, fmt.Errorf("column %q: write it in lower case: AS \"%s\"", name, low))
			continue
		}
		errs = append(errs, fmt.Errorf("column %q is no key of a webhook; leave it out, or name it AS one of %s", name, strings.Join(keys, ", ")))
	}
	for _, name := range required {
		if _, ok := row[name]; !ok {
			errs = append(errs, fmt.Errorf("column %s is missing; select it, perhaps as SOMETHING AS %[1]s", name))
		}
	}
	return errors.Join(errs...)
}

// webhook reads one row as the configuration's webhooks are read.
func (r *rowReader) webhook(row map[string]any, id string) (w jobs.Webhook, err error) {
	if r.taken[id] {
		return w, fmt.Errorf("id: the configuration has a webhook of this id, which stays as it is; give the row another id")
	}
	doc, errs := map[string]any{}, []error{}
	for _, name := range slices.Sorted(maps.Keys(row)) {
		value, err := cell(name, row[name])
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			doc[name] = row[name]
		case value != nil:
			doc[name] = value
		}
	}
	if len(errs) > 0 {
		return w, errors.Join(errs...)
	}
	return webhookOf(r.config, doc)
}

// cell is a column's value as a configuration would have it; nil: the key is left out.
func cell(name string, v any) (any, error) {
	if text, ok := v.(jobs.JSON); ok {
		v = string(text)
		var plain *string
		if json.Unmarshal([]byte(text), &plain) == nil { // null, or a text of its own
			if v = nil; plain != nil {
				v = *plain
			}
		}
	}
	if v == nil {
		return nil, nil
	}
	if name == "immediate" {
		switch fmt.Sprint(v) {
		case "true", "1", "t":
			return true, nil
		case "false", "0", "f":
			return false, nil
		case "":
			return nil, nil
		}
		return nil, errors.New("is neither true nor false")
	}
	text, err := cellText(v)
	if err != nil || text == "" {
		return nil, err
	}
	switch name {
	case "sign_key":
		return v, nil // spaces and all
	case "headers":
		return cellJSON(text, '{', "a JSON object of texts, such as {\"X-Token\": \"…\"}")
	case "ack":
		switch {
		case text[0] == '{' || text[0] == '[':
			return cellJSON(text, text[0], "a JSON list or object, such as [\"success\"]")
		case slices.Contains(jobs.AckPresets, text):
			return text, nil
		}
		return []string{text}, nil
	case "chatbot":
		if text[0] == '[' {
			return cellJSON(text, '[', "a JSON list of chatbots' ids, such as [\"a\", \"b\"]")
		}
	case "types", "retry_at":
		if text[0] == '[' {
			return cellJSON(text, '[', "a JSON list, such as [\"a\", \"b\"]")
		}
		var list []string
		for word := range strings.SplitSeq(text, ",") {
			list = append(list, strings.TrimSpace(word))
		}
		return list, nil
	case "from":
		if text != jobs.FromNow && text != jobs.FromBeginning {
			if t, err := parseTime(text); err == nil {
				return t.Format(time.RFC3339Nano), nil
			}
		}
	}
	return text, nil
}

// cellText is a value that is one text. Numbers are as the database prints them, so that an id may be one.
func cellText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return strings.TrimSpace(v), nil
	case jobs.JSON:
		return strings.TrimSpace(string(v)), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<53 {
			return "", errors.New("is a number that is not whole, or too large; select it as text")
		}
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("is of a type that is not taken; select it as text")
}

// cellJSON reads a JSON list or object. The error does not show the text, which may be a secret.
func cellJSON(text string, begins byte, wanted string) (any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if _, more := d.Token(); err != nil || more != io.EOF || text[0] != begins {
		return nil, fmt.Errorf("cannot be read; write %s", wanted)
	}
	return v, nil
}
