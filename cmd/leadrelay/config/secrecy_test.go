package config

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

const secretFile = `source: postgres://u:0123456789012345678901234567hunter2@db/x
ledger: "postgres://u:0123456789012345678901234567hunter2@db/y"
streams:
  - {type: Lead, table: leads, fields: {Email: email}}
webhooks:
  - id: a
    chatbot: [x, y]
    url: https://crm.example.com/0123456789012345678901234567hunter2?a=b
    sign_key: 0123456789012345678901234567hunter2
    headers:
      Authorization: Bearer 0123456789012345678901234567hunter2
      X-Key: |
        0123456789012345678901234567hunter2
  - {id: b, chatbot: "*", url: "https://crm.example.com/0123456789012345678901234567hunter2", sign_key: '0123456789012345678901234567hunter2',
     headers: {A: "0123456789012345678901234567hunter2", B: 0123456789012345678901234567hunter2}, retry_at: [1m]}
http: {proxy: "http://u:0123456789012345678901234567hunter2@proxy:1"}
`

// TestMistakesKeepSecrets: however a file is mistyped around its secrets, no mistake shows one.
func TestMistakesKeepSecrets(t *testing.T) {
	const secret = "0123456789012345678901234567hunter2"
	parts := strings.Split(secretFile, secret)
	rapid.Check(t, func(t *rapid.T) {
		now := make([]string, len(parts))
		copy(now, parts)
		for range rapid.IntRange(1, 4).Draw(t, "typos") {
			i := rapid.IntRange(0, len(now)-1).Draw(t, "part")
			if now[i] == "" {
				continue
			}
			at := rapid.IntRange(0, len(now[i])-1).Draw(t, "at")
			put := rapid.SampledFrom([]string{"", " ", "\n", "- ", ":", ": ", "\"", "'", "[", "]", "{", "}", ",", "&a ", "*a ", "!x ", "|\n", "#", "?", "\t", "${", "~", "%", "@"}).Draw(t, "put")
			now[i] = now[i][:at] + put + now[i][at+rapid.IntRange(0, 1).Draw(t, "cut"):]
		}
		text := strings.Join(now, secret)
		if got := mistakesOf([]byte(text), testEnv()); strings.Contains(got, canary) {
			t.Fatalf("%s\nsays\n%s", text, got)
		}
	})
}

func TestSettingsPrintNoSecrets(t *testing.T) {
	c := mustParse(t, "c.yaml", strings.Replace(secretFile, "|\n", "|-\n", 1))
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", c.Settings, c.Settings, c.Settings), fmt.Sprintf("%v %+v", c, *c)} {
		if strings.Contains(text, canary) {
			t.Errorf("printed: %s", text)
		}
	}
	if !strings.Contains(c.Webhooks[0].SignKey.Reveal(), canary) || c.HTTP.Proxy == jobs.Secret("") {
		t.Error("the secrets are not there")
	}
}
