package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// webhookFlags are the parts of a webhook as `webhook add` and `set` take them. Their texts are read by the
// configuration's own decoder, so a webhook may be written here just as it may be there.
type webhookFlags struct {
	chatbots, types, retryAt, ack, headers                                                    []string
	url, dialect, schedule, timezone, immediate, rate, from, key, keyFile, keyOf, description string
}

func (w *webhookFlags) register(f *pflag.FlagSet, add bool) {
	f.StringArrayVar(&w.chatbots, "chatbot", nil, "the chatbot whose records it gets, or \"*\" for all (repeatable)")
	f.StringVar(&w.url, "url", "", "where they are POSTed")
	f.StringArrayVar(&w.types, "type", nil, "a type of record, or an event of its dialect, that it gets (repeatable; default all)")
	f.StringVar(&w.dialect, "dialect", "", "the format that the receiver understands (default smarterbot)")
	f.StringVar(&w.schedule, "schedule", "", "when it is pushed to: cron, @hourly, @every 1h… (default the configuration's)")
	f.StringVar(&w.timezone, "timezone", "", "the schedule's zone (default the configuration's)")
	f.StringVar(&w.immediate, "immediate", "", "true: also as soon as a record is committed (default the configuration's)")
	f.StringArrayVar(&w.retryAt, "retry-at", nil, "an offset from the first failure, such as 1m (repeatable; default the dialect's; none: no retries)")
	f.StringVar(&w.rate, "rate", "", "the most requests in a time, over all daemons, such as 5/s or 100/m (default no bound)")
	f.StringArrayVar(&w.ack, "ack", nil, "an accepted value of the answer's status (repeatable), or 2xx, gohighlevel or a rule as JSON, {\"path\": …} (default the dialect's)")
	f.StringArrayVar(&w.headers, "header", nil, "a static header, `NAME: VALUE`, or @FILE with one a line (repeatable); values are secrets")
	f.StringVar(&w.keyOf, "sign-key-of", "", "the webhook whose keys sign its requests, rotations included, in place of a key of its own")
	f.StringVar(&w.description, "description", "", "a note for people")
	f.StringVar(&w.keyFile, "key-file", "", "a `FILE` that holds the key of its signatures (default one is made)")
	f.StringVar(&w.key, "sign-key", "", "the same as @FILE, or - for standard input")
	if add {
		f.StringVar(&w.from, "from", "", "now, beginning or a time: which older rows it gets (default now)")
	}
}

// document is these flags as a configuration has them. changed says which were given.
func (w *webhookFlags) document(changed func(string) bool, stdin io.Reader) (map[string]any, error) {
	doc := map[string]any{}
	for _, one := range []struct {
		flag, key string
		value     any
	}{
		{"chatbot", "chatbot", w.chatbots},
		{"url", "url", w.url},
		{"type", "types", w.types},
		{"dialect", "dialect", w.dialect},
		{"schedule", "schedule", w.schedule},
		{"timezone", "timezone", w.timezone},
		{"rate", "rate", w.rate},
		{"from", "from", w.from},
		{"description", "description", w.description},
		{"sign-key-of", "sign_key_of", w.keyOf},
	} {
		if changed(one.flag) {
			doc[one.key] = one.value
		}
	}
	if len(w.chatbots) == 1 {
		doc["chatbot"] = w.chatbots[0]
	}
	if changed("immediate") {
		switch w.immediate {
		case "true", "false":
			doc["immediate"] = w.immediate == "true"
		case "":
			doc["immediate"] = ""
		default:
			return nil, usageErrorf("--immediate %q: write true or false", w.immediate)
		}
	}
	if changed("retry-at") {
		doc["retry_at"] = w.retryAt
		if len(w.retryAt) == 1 && w.retryAt[0] == "none" {
			doc["retry_at"] = []string{}
		}
	}
	if changed("ack") {
		doc["ack"] = w.ack
		if len(w.ack) == 1 && strings.HasPrefix(w.ack[0], "{") {
			rule, err := cellJSON(w.ack[0], '{', `a JSON object, such as {"path": "result.ok", "equals": ["true"]}`)
			if err != nil {
				return nil, usageErrorf("--ack: %w", err)
			}
			doc["ack"] = rule
		}
	}
	if changed("header") {
		headers, err := readHeaders(w.headers)
		if err != nil {
			return nil, err
		}
		doc["headers"] = headers
	}
	switch {
	case changed("key-file") && changed("sign-key"):
		return nil, usageErrorf("--key-file, --sign-key: give one of them")
	case changed("key-file"):
		key, err := readKeyFile("--key-file", w.keyFile)
		if err != nil {
			return nil, err
		}
		doc["sign_key"] = key
	case changed("sign-key"):
		key, err := readSecret("--sign-key", w.key, stdin)
		if err != nil {
			return nil, err
		}
		doc["sign_key"] = key
	}
	return doc, nil
}

// readSecret reads a secret that must not stand on a command line, where every user of the machine sees it.
func readSecret(flag, where string, stdin io.Reader) (string, error) {
	if file, named := strings.CutPrefix(where, "@"); named {
		return readKeyFile(flag, file)
	}
	if where != "-" {
		return "", usageErrorf("%s: write @FILE, or - for standard input: other users see what is on a command line", flag)
	}
	text, err := io.ReadAll(io.LimitReader(stdin, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return withoutLineBreak(text), nil
}

func readHeaders(given []string) (map[string]string, error) {
	headers := map[string]string{}
	if slices.Equal(given, []string{""}) {
		return headers, nil
	}
	for _, text := range given {
		lines := []string{text}
		if file, named := strings.CutPrefix(text, "@"); named {
			read, err := environment().ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--header: %w", err)
			}
			lines = strings.Split(strings.TrimSpace(string(read)), "\n")
		}
		for _, line := range lines {
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, usageErrorf("--header: write NAME: VALUE, or @FILE")
			}
			headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return headers, nil
}
