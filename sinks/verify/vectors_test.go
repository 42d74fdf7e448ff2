package verify_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
)

var update = flag.Bool("update", false, "write vectors.json")

// A vector is a request, and whether it verifies.
type vector struct {
	Name      string            `json:"name"`
	Dialect   string            `json:"dialect"`
	Signature *signature        `json:"signature,omitempty"` // how an operator's own dialect signs
	Keys      []string          `json:"keys"`                // any of them verifies
	Now       int64             `json:"now"`                 // unix seconds
	Tolerance int               `json:"tolerance"`
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"` // the text that came, in UTF-8
	Valid     bool              `json:"valid"`
}

// A signature is what recipes are told of an operator's own dialect.
type signature struct {
	Form   string `json:"form,omitempty"`
	Header string `json:"header,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Key    string `json:"key,omitempty"`
}

// dialects are the built-in ones, and some that an operator could define.
var dialects = func() *sinks.Registry {
	all, faults := sinks.BuiltIn().With([]sinks.Definition{
		{Name: "own-hex", Extends: "smartsurvey", Signature: sinks.Signature{Header: "X-Acme-Signature", Prefix: "sha256="}},
		{
			Name: "own-base64", Extends: "smartsurvey", Signature: sinks.Signature{Form: sinks.Base64, Header: "X-Shop-Hmac", Prefix: "hmac="},
			Key: sinks.KeyRule{Form: sinks.KeyWhsec},
		},
		{Name: "own-timed", Extends: "smartsurvey", Signature: sinks.Signature{Form: sinks.Timed, Header: "Acme-Signature"}},
		{Name: "own-standard", Extends: "standard-webhooks", Key: sinks.KeyRule{Form: sinks.KeyHex}},
	})
	if len(faults) > 0 {
		panic(faults[0])
	}
	return all
}()

// ownSignatures are these, as a receiver writes them.
var ownSignatures = map[string]*signature{
	"own-hex":      {Header: "X-Acme-Signature", Prefix: "sha256="},
	"own-base64":   {Form: "base64", Header: "X-Shop-Hmac", Prefix: "hmac=", Key: "whsec"},
	"own-timed":    {Form: "timed", Header: "Acme-Signature"},
	"own-standard": {Form: "standard-webhooks", Key: "hex"},
}

// formOf is what a dialect's signature looks like.
func formOf(dialect string) string {
	switch dialect {
	case "smarterbot":
		return "timed"
	case "standard-webhooks":
		return dialect
	}
	if own := ownSignatures[dialect]; own != nil && own.Form != "" {
		return own.Form
	}
	return "hex"
}

type vectorFile struct {
	Note    string   `json:"note"`
	Vectors []vector `json:"vectors"`
}

const (
	sentAt    = 1700764581
	tolerance = 300
)

// bodies are what records become, and what has broken verifiers that do not take the bytes as they came.
var bodies = map[string]string{
	"a plain body":           `{"type":"Lead.created","data":{"FirstName":"David","SessionID":31305}}`,
	"names of all the world": `{"data":{"FirstName":"Zdeňka","LastName":"Мария 日本語 مرحبا","Content":"👩‍👩‍👧 e` + "\u0301" + ` 👍"}}`,
	"what escapers escape":   `{"data":{"Content":"</script>&amp;'é/\\\"\n\u0000` + "\u2028\u2029\ufeff\u007f" + `"}}`,
	"not as a parser writes": "{\n  \"b\": 1.0,\n  \"a\": \"\\u00e9\\/\"\n}\n",
	"an empty body":          ``,
}

// keysOf are a dialect's keys: new, old, and another webhook's.
func keysOf(dialect string) (newKey, oldKey, other string) {
	if dialect == "standard-webhooks" || dialect == "own-base64" {
		return "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_plJ3nmyCDGBKInavdOK15jsl+hTkl7UNjkjQpKjvxC0=",
			"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgy2rDgXw="
	}
	return "4f1d8a…new key", "klíč+/= with 'quotes'", "another webhook's key"
}

func signedDialects() []string {
	var all []string
	for _, name := range dialects.Names() {
		if d, _ := dialects.Lookup(name); d.Signed {
			all = append(all, name)
		}
	}
	return all
}

// signatureHeader is where each dialect's signature stands.
var signatureHeader = map[string]string{
	"smarterbot": "X-Webhook-Signature", "smartlook": "Smartlook-Signature-256", "smarterlaunch": "X-Signature",
	"smartsurvey": "X-SmartSurvey-Signature", "standard-webhooks": "webhook-signature",
	"own-hex": "X-Acme-Signature", "own-base64": "X-Shop-Hmac", "own-timed": "Acme-Signature", "own-standard": "webhook-signature",
}

// blank is a key that anybody can sign with.
func blank(key string) bool { return strings.Trim(strings.TrimPrefix(key, "whsec_"), " \n*") == "" }

// mistaken reports whether v's receiver has no key, or an empty one: a recipe must say so.
func mistaken(v *vector) bool { return len(v.Keys) == 0 || slices.ContainsFunc(v.Keys, blank) }

// forge signs v with bytes that anybody knows; v's headers are those of its dialect.
func forge(v *vector, secret string) {
	m := hmac.New(sha256.New, []byte(secret))
	header := signatureHeader[v.Dialect]
	sum := func(before string) []byte {
		m.Write([]byte(before + v.Body))
		return m.Sum(nil)
	}
	switch formOf(v.Dialect) {
	case "timed":
		v.Headers[header] = fmt.Sprintf("t=%d,v1=%x", sentAt, sum(fmt.Sprintf("%d.", sentAt)))
	case "standard-webhooks":
		before := v.Headers["webhook-id"] + "." + v.Headers["webhook-timestamp"] + "."
		v.Headers[header] = "v1," + base64.StdEncoding.EncodeToString(sum(before))
	case "base64":
		v.Headers[header] = v.Signature.Prefix + base64.StdEncoding.EncodeToString(sum(""))
	default:
		v.Headers[header] = hex.EncodeToString(sum(""))
		if v.Signature != nil {
			v.Headers[header] = v.Signature.Prefix + v.Headers[header]
		}
	}
}

func makeVectors(t *testing.T) []vector {
	var all []vector
	for _, dialect := range signedDialects() {
		newKey, oldKey, other := keysOf(dialect)
		signed := func(body string, attempt int, keys ...string) map[string]string {
			var secrets []jobs.Secret
			for _, key := range keys {
				secrets = append(secrets, jobs.Secret(key))
			}
			id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(dialect+body))
			h, err := dialects.SignHeaders(dialect, secrets, id, time.Unix(sentAt, 0), []byte(body), attempt)
			if err != nil {
				t.Fatal(err)
			}
			flat := map[string]string{}
			for name, values := range h {
				flat[name] = values[0]
			}
			return flat
		}
		add := func(valid bool, name string, change func(*vector)) {
			v := vector{
				Name: dialect + ": " + name, Dialect: dialect, Signature: ownSignatures[dialect], Keys: []string{newKey}, Now: sentAt + 7, Tolerance: tolerance,
				Headers: signed(bodies["a plain body"], 1, newKey), Body: bodies["a plain body"], Valid: valid,
			}
			change(&v)
			all = append(all, v)
		}
		header := signatureHeader[dialect]
		edit := func(f func(string) string) func(*vector) {
			return func(v *vector) { v.Headers[header] = f(v.Headers[header]) }
		}
		for _, name := range []string{"a plain body", "names of all the world", "what escapers escape", "not as a parser writes", "an empty body"} {
			add(true, name, func(v *vector) { v.Body, v.Headers = bodies[name], signed(bodies[name], 1, newKey) })
		}
		add(true, "the second of the receiver's keys", func(v *vector) { v.Keys = []string{other, newKey} })
		add(true, "spelt in capitals", func(v *vector) {
			v.Headers[strings.ToUpper(header)] = v.Headers[header]
			delete(v.Headers, header)
		})
		rotated := func(attempt int, key string) func(*vector) {
			return func(v *vector) { v.Headers, v.Keys = signed(v.Body, attempt, newKey, oldKey), []string{key} }
		}
		form := formOf(dialect)
		one := form == "hex" || form == "base64" // whose header has room for one signature
		add(true, "rotation, a first attempt, the old key", rotated(1, oldKey))
		add(!one, "rotation, a first attempt, the new key", rotated(1, newKey))
		add(!one, "rotation, the next attempt, the old key", rotated(2, oldKey))
		add(true, "rotation, the next attempt, the new key", rotated(2, newKey))
		add(true, "rotation, a receiver with both keys", func(v *vector) {
			v.Headers, v.Keys = signed(v.Body, 1, newKey, oldKey), []string{newKey, oldKey}
		})

		add(false, "rotation, another webhook's key", rotated(1, other))
		add(false, "another webhook's key", func(v *vector) { v.Keys = []string{other} })
		add(false, "no key", func(v *vector) { v.Keys = []string{} })
		forged := func(secret string, keys ...string) func(*vector) {
			return func(v *vector) {
				forge(v, secret)
				v.Keys = keys
			}
		}
		add(false, "signed with an empty key, the receiver's is empty", forged("", ""))
		add(false, "signed with an empty key, the receiver's old one is empty", forged("", newKey, ""))
		add(false, "signed with a blank key, the receiver's is blank", forged(" \n", " \n"))
		if strings.HasPrefix(newKey, "whsec_") {
			add(false, "signed with an empty key, the receiver's is its prefix alone", forged("", "whsec_"))
			add(false, "signed with an empty key, the receiver's is no base64", forged("", "whsec_****"))
		}
		add(false, "another body", func(v *vector) { v.Body = strings.Replace(v.Body, "David", "Davíd", 1) })
		add(false, "the same body written anew", func(v *vector) {
			v.Headers = signed(bodies["not as a parser writes"], 1, newKey)
			v.Body = `{"b":1,"a":"é/"}`
		})
		add(false, "a line break behind", func(v *vector) { v.Body += "\n" })
		add(false, "no signature", func(v *vector) { delete(v.Headers, header) })
		add(false, "an empty signature", edit(func(string) string { return "" }))
		add(false, "a signature cut short", edit(func(s string) string { return s[:len(s)-4] }))
		add(false, "a signature of another", edit(func(s string) string { return s[:len(s)-8] + "AAAAAAA=" }))
		if one {
			add(false, "a signature in another form", edit(func(s string) string { return "sha256=" + s }))
			if own := ownSignatures[dialect]; own != nil {
				add(false, "a signature without its prefix", edit(func(s string) string { return strings.TrimPrefix(s, own.Prefix) }))
				add(false, "a prefix in other letters", edit(func(s string) string { return strings.ToUpper(own.Prefix) + strings.TrimPrefix(s, own.Prefix) }))
			}
			add(false, "two signatures", edit(func(s string) string { return s + "," + s }))
			add(true, "an old request: this dialect signs no time", func(v *vector) { v.Now += 365 * 24 * 3600 })
			continue
		}
		add(true, "as old as may be", func(v *vector) { v.Now = sentAt + tolerance })
		add(true, "as far ahead as may be", func(v *vector) { v.Now = sentAt - tolerance })
		add(false, "too old", func(v *vector) { v.Now = sentAt + tolerance + 1 })
		add(false, "too far ahead", func(v *vector) { v.Now = sentAt - tolerance - 1 })
		if form == "timed" {
			add(true, "spaces", edit(func(s string) string { return strings.ReplaceAll(s, ",", " , ") }))
			add(true, "a part of a later version", edit(func(s string) string { return s + ",v2=abc" }))
			add(false, "another time", edit(func(s string) string { return strings.Replace(s, "t=1700764581", "t=1700764582", 1) }))
			add(false, "no time", edit(func(s string) string { return s[strings.Index(s, ",")+1:] }))
			add(false, "two times", edit(func(s string) string { return "t=1700764581," + s }))
			add(false, "a time with a sign", edit(func(s string) string { return strings.Replace(s, "t=", "t=+", 1) }))
			add(false, "no v1", edit(func(s string) string { return strings.Replace(s, "v1=", "v2=", 1) }))
			add(false, "an empty v1", edit(func(string) string { return "t=1700764581,v1=" }))
			continue
		}
		add(true, "a signature of a later version", edit(func(s string) string { return "v1a,abc " + s }))
		add(false, "another id", func(v *vector) { v.Headers["webhook-id"] = "msg_1" })
		add(false, "no id", func(v *vector) { delete(v.Headers, "webhook-id") })
		add(false, "another time", func(v *vector) { v.Headers["webhook-timestamp"] = "1700764582" })
		add(false, "no time", func(v *vector) { delete(v.Headers, "webhook-timestamp") })
		add(false, "a time with a sign", func(v *vector) { v.Headers["webhook-timestamp"] = "+1700764581" })
		add(false, "no version", edit(func(s string) string { return strings.TrimPrefix(s, "v1,") }))
		if dialect != "standard-webhooks" {
			continue
		}
		all = append(all, vector{
			Name: "standard-webhooks: the specification's own example", Dialect: dialect, Keys: []string{newKey},
			Now: 1614265330, Tolerance: tolerance, Body: `{"test": 2432232314}`, Valid: true,
			Headers: map[string]string{
				"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
				"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
			},
		})
	}
	return all
}

// TestVectors compares vectors.json with what is signed now, and holds this repository's own verifier to it.
func TestVectors(t *testing.T) {
	vectors := makeVectors(t)
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(vectorFile{
		Note:    "Requests of leadrelay in each signed dialect, and in some of an operator's own, which have a signature, and whether they verify with any of keys at the time now (unix seconds), tolerance seconds more or less. Header names have no case. Written by: go test ./sinks/verify -update",
		Vectors: vectors,
	})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("vectors.json", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile("vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(file), text.String()); diff != "" {
		t.Errorf("vectors.json is not what is signed now; go test ./sinks/verify -update (-file +now):\n%s", diff)
	}
	names := map[string]bool{}
	for _, v := range vectors {
		if names[v.Name] {
			t.Errorf("%s is there twice", v.Name)
		}
		names[v.Name] = true
		h := http.Header{}
		for name, value := range v.Headers {
			h.Set(name, value)
		}
		var keys []jobs.Secret
		for _, key := range v.Keys {
			keys = append(keys, jobs.Secret(key))
		}
		err := dialects.Verify(v.Dialect, h, []byte(v.Body), keys, time.Unix(v.Now, 0), tolerance*time.Second)
		if (err == nil) != v.Valid {
			t.Errorf("%s: %v, want valid: %t", v.Name, err, v.Valid)
		}
	}
}
