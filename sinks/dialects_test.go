package sinks

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// every has the built-in dialects, and own ones with what those do not have.
var every = func() *Registry {
	r, faults := BuiltIn().With(ownDialects)
	if len(faults) > 0 {
		panic(faults[0])
	}
	return r
}()

var dialects = every.dialects

// signatureOf is the header that holds a dialect's signatures.
func signatureOf(dialect string) string {
	headers := dialects[dialect].SignatureHeaders()
	return headers[len(headers)-1]
}

// keysOf are two good keys of a dialect, new and old.
func keysOf(dialect string) []jobs.Secret {
	if dialects[dialect].key.Form == KeyWhsec {
		return []jobs.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_plJ3nmyCDGBKInavdOK15jsl+hTkl7UNjkjQpKjvxC0="}
	}
	return []jobs.Secret{"new key", "old key ž"}
}

func signedDialects() []string {
	var all []string
	for _, name := range every.Names() {
		if dialects[name].Signed {
			all = append(all, name)
		}
	}
	return all
}

// TestDialectTable holds each dialect to what its page and the contract say.
func TestDialectTable(t *testing.T) {
	type row struct {
		Signed, KeyOptional, OneRound bool
		Ack                           []string
		RetryAt                       []time.Duration
	}
	quick := []time.Duration{time.Minute, 3 * time.Minute}
	any2xx := []string{jobs.Ack2xx}
	want := map[string]row{
		"smarterbot":        {Signed: true, Ack: []string{"success", TestAnswer}, RetryAt: quick},
		"smartlook":         {Signed: true, KeyOptional: true, Ack: any2xx, RetryAt: quick},
		"smarterlaunch":     {Signed: true, OneRound: true, Ack: any2xx, RetryAt: []time.Duration{10 * time.Second, 110 * time.Second}},
		"smartsurvey":       {Signed: true, Ack: any2xx, RetryAt: quick},
		"userback":          {Ack: any2xx, RetryAt: quick},
		"standard-webhooks": {Signed: true, Ack: any2xx, RetryAt: quick},
	}
	got := map[string]row{}
	h := newSink(t, Options{})
	for _, name := range builtIn.Names() {
		d := dialects[name]
		got[name] = row{d.Signed, d.KeyOptional, h.OneRound(name), d.Ack, h.RetryAt(name)}
		if err := jobs.CheckAck(d.Ack); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h.OneRound("nosuch") {
		t.Error("an unknown dialect has one round")
	}
}

func TestRequestHeaders(t *testing.T) {
	h := newSink(t, Options{Version: "1"})
	id := uuid.MustParse("0b3f0c5e-30c1-5c07-9f04-8d2f0e8f2a11")
	now := time.Unix(1614265330, 999)
	const body = `{"test": 2432232314}`
	// By openssl: printf '{"test": 2432232314}' | openssl dgst -sha256 -hmac 'new key'
	const ofBody = "4d7ab099684c8d82740fe498ce54196c3e6e1953d0e2de9797aa3c57369f6fd1"
	common := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"leadrelay/1"}, "X-Webhook-Id": {id.String()}}
	with := func(pairs ...string) http.Header {
		all := common.Clone()
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = []string{pairs[i+1]}
		}
		return all
	}
	for name, tt := range map[string]struct {
		dialect string
		key     jobs.Secret
		want    http.Header
	}{
		"smartlook":                  {"smartlook", "new key", with("Smartlook-Signature-256", ofBody)},
		"smartlook without a secret": {"smartlook", "", common},
		"smarterlaunch":              {"smarterlaunch", "new key", with("X-Signature", ofBody)},
		"smartsurvey":                {"smartsurvey", "new key", with("X-SmartSurvey-Signature", ofBody)},
		"userback":                   {"userback", "", with("Content-Type", "application/json; charset=utf-8", "User-Agent", "Userback-Webhook")},
		"userback with a key left from another dialect": {"userback", "new key", with("Content-Type", "application/json; charset=utf-8", "User-Agent", "Userback-Webhook")},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := h.Request(&jobs.Webhook{URL: "https://crm.example.com/", Dialect: tt.dialect, SignKey: tt.key}, id, []byte(body), now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Header); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStandardVector is the example that Standard Webhooks' own libraries are tested with.
func TestStandardVector(t *testing.T) {
	const body = `{"test": 2432232314}`
	key := keysOf("standard-webhooks")[:1]
	now := time.Unix(1614265330, 0)
	h := http.Header{
		"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	if err := builtIn.Verify("standard-webhooks", h, []byte(body), key, now, time.Second); err != nil {
		t.Error(err)
	}
	bytes, err := standardKey(key[0])
	if err != nil {
		t.Fatal(err)
	}
	made := http.Header{}
	signStandard(made, signing{id: "msg_p5jXN8AQM9LWM0D4loKWxJek", time: now, body: []byte(body), macs: []*mac{newMAC(bytes)}})
	if diff := cmp.Diff(h.Get("webhook-signature"), headerValues(made, standardSignature)[0]); diff != "" {
		t.Error(diff)
	}
}

// TestRotation: while a key is rotated, a receiver with the old key verifies a first attempt, one with the new key the
// next one; where a header has room for both signatures, a receiver that looks at all of them verifies any.
func TestRotation(t *testing.T) {
	now := time.Unix(1700000000, 0)
	body := []byte(`{"a":"ž"}`)
	for _, dialect := range signedDialects() {
		t.Run(dialect, func(t *testing.T) {
			keys := keysOf(dialect)
			verifies := func(h http.Header, key jobs.Secret) bool {
				return every.Verify(dialect, h, body, []jobs.Secret{key}, now, time.Minute) == nil
			}
			for attempt := range 5 {
				h, err := every.SignHeaders(dialect, keys, uuid.New(), now, body, attempt)
				if err != nil {
					t.Fatal(err)
				}
				verified := [2]bool{verifies(h, keys[0]), verifies(h, keys[1])}
				want := [2]bool{true, true}
				if form := dialects[dialect].signature.Form; form == Hex || form == Base64 {
					swapped := attempt == 2 || attempt == 4
					want = [2]bool{swapped, !swapped}
				}
				if verified != want {
					t.Errorf("attempt %d verifies with the new key and the old: %v, want %v", attempt, verified, want)
				}
				if dialect == "smarterbot" {
					value := h[SignatureHeader][0]
					last := Sign(keys[1], now, body)
					if attempt == 2 || attempt == 4 {
						last = Sign(keys[0], now, body)
					}
					if !strings.HasSuffix(value, last[strings.Index(last, ",v1="):]) || strings.Count(value, "v1=") != 2 {
						t.Errorf("attempt %d: %s", attempt, value)
					}
				}
			}
		})
	}
}

// TestOldKeyEnds: the old key signs beside the new one until its time, and never alone.
func TestOldKeyEnds(t *testing.T) {
	h := newSink(t, Options{})
	until := time.Unix(1700000000, 0)
	body := []byte("{}")
	for _, dialect := range signedDialects() {
		keys := keysOf(dialect)
		w := &jobs.Webhook{URL: "https://crm.example.com/", Dialect: dialect, SignKey: keys[0], OldKey: keys[1], OldKeyUntil: until}
		for now, want := range map[time.Time]bool{until.Add(-time.Second): true, until: false} {
			r, err := h.Request(w, uuid.New(), body, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := every.Verify(dialect, r.Header, body, keys[1:], now, 0) == nil; got != want {
				t.Errorf("%s at %v: the old key verifies: %t, want %t", dialect, now, got, want)
			}
		}
		if w.OldKey = "a key of another dialect"; dialect == "standard-webhooks" {
			if r, err := h.Request(w, uuid.New(), body, until.Add(-1)); err != nil || every.Verify(dialect, r.Header, body, keys[:1], until, 0) != nil {
				t.Errorf("an old key of another form: %v", err)
			}
		}
	}
}

func TestVerifyDialects(t *testing.T) {
	now := time.Unix(1700000000, 0)
	body := []byte(`{"type":"Lead.created","data":{"FirstName":"Zdeňka"}}`)
	for _, dialect := range signedDialects() {
		keys := keysOf(dialect)
		name := signatureOf(dialect)
		good := func() http.Header {
			h, err := every.SignHeaders(dialect, keys[1:], uuid.New(), now, body, 1)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		form := dialects[dialect].signature.Form
		timed := form == Timed || form == StandardWebhooks
		tests := map[string]struct {
			change func(http.Header)
			body   []byte
			now    time.Time
			want   error
		}{
			"right":           {},
			"any case":        {change: func(h http.Header) { h[strings.ToUpper(name)] = h[name]; delete(h, name) }},
			"another body":    {body: append([]byte(" "), body...), want: ErrSignatureMismatch},
			"none":            {change: func(h http.Header) { delete(h, name) }, want: ErrSignatureMissing},
			"two headers":     {change: func(h http.Header) { h[name] = append(h[name], h[name]...) }, want: ErrSignatureMalformed},
			"empty":           {change: func(h http.Header) { h[name] = []string{""} }, want: ErrSignatureMalformed},
			"cut short":       {change: func(h http.Header) { h[name] = []string{h[name][0][:len(h[name][0])-2]} }, want: ErrSignatureMalformed},
			"not encoded":     {change: func(h http.Header) { h[name] = []string{h[name][0][:len(h[name][0])-3] + "?!?"} }, want: ErrSignatureMalformed},
			"something else":  {change: func(h http.Header) { h[name] = []string{strings.Repeat("v1,", 2000)} }, want: ErrSignatureMalformed},
			"within the time": {now: now.Add(5 * time.Minute)},
			"too old":         {now: now.Add(6 * time.Minute), want: ErrSignatureTime},
			"ahead":           {now: now.Add(-6 * time.Minute), want: ErrSignatureTime},
		}
		if dialect == "standard-webhooks" {
			for header, values := range map[string][2]string{standardID: {"another", ""}, standardTime: {"1700000001", "+1700000000"}} {
				tests["another "+header] = struct {
					change func(http.Header)
					body   []byte
					now    time.Time
					want   error
				}{change: func(h http.Header) { h[header] = []string{values[0]} }, want: ErrSignatureMismatch}
				tests["a bad "+header] = struct {
					change func(http.Header)
					body   []byte
					now    time.Time
					want   error
				}{change: func(h http.Header) { h[header] = []string{values[1]} }, want: ErrSignatureMalformed}
				tests["no "+header] = struct {
					change func(http.Header)
					body   []byte
					now    time.Time
					want   error
				}{change: func(h http.Header) { delete(h, header) }, want: ErrSignatureMissing}
			}
		}
		for name, tt := range tests {
			t.Run(dialect+"/"+name, func(t *testing.T) {
				h := good()
				if tt.change != nil {
					tt.change(h)
				}
				if tt.body == nil {
					tt.body = body
				}
				if tt.now.IsZero() {
					tt.now = now
				}
				if tt.want == ErrSignatureTime && !timed {
					tt.want = nil
				}
				err := every.Verify(dialect, h, tt.body, keys, tt.now, 5*time.Minute)
				if !errors.Is(err, tt.want) || tt.want == nil && err != nil || err != nil && !errors.Is(err, ErrSignature) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if err != nil && every.Verify(dialect, h, tt.body, keysOf(dialect)[:1], tt.now, 0) == nil {
					t.Error("the key that did not sign verifies")
				}
			})
		}
	}
}

func TestKeys(t *testing.T) {
	seen := map[jobs.Secret]bool{}
	for _, dialect := range builtIn.Names() {
		key := builtIn.NewKey(dialect)
		if seen[key] {
			t.Errorf("%s: the same key again", dialect)
		}
		seen[key] = true
		if dialects[dialect].Signed {
			if err := builtIn.CheckKey(dialect, key); err != nil {
				t.Errorf("%s does not take its own key: %v", dialect, err)
			}
		}
		bytes, err := dialects[dialect].keyBytes(key)
		if dialect == "standard-webhooks" {
			if err != nil || len(bytes) != 32 || !strings.HasPrefix(key.Reveal(), "whsec_") {
				t.Errorf("%s: %d bytes, %v", dialect, len(bytes), err)
			}
		} else if raw, err := hex.DecodeString(key.Reveal()); err != nil || len(raw) != 32 {
			t.Errorf("%s: %v", dialect, err)
		}
	}
	for name, tt := range map[string]struct {
		dialect string
		key     jobs.Secret
		good    bool
	}{
		"any text":              {"smarterbot", "ž", true},
		"none":                  {"smarterbot", "", false},
		"none, and none needed": {"smartlook", "", true},
		"none for the unsigned": {"userback", "", true},
		"one for the unsigned":  {"userback", "secret", false},
		"not whsec_":            {"standard-webhooks", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false},
		"not base64":            {"standard-webhooks", "whsec_secret-secret-secret-secret-secret", false},
		"too short":             {"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==", false},
		"a line break":          {"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjU\nPD8ILPZIo2LaLaSw", false},
		"no such dialect":       {"nosuch", "secret", false},
	} {
		err := builtIn.CheckKey(tt.dialect, tt.key)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the key is shown: %v", name, err)
		}
	}
	w := webhook("https://crm.example.com/")
	w.Dialect, w.SignKey = "standard-webhooks", "secret"
	if err := push(t, newSink(t, Options{}), w); reason(err) != ReasonKey {
		t.Errorf("push with a key of another form: %v", err)
	}
}

func TestEventsAndTypes(t *testing.T) {
	streams := []string{"issue", "notes", "Comment", "Lead", "response", "response.disqualified", "feedback.voted"}
	for _, tt := range []struct {
		dialect, words         string
		types, events, unknown string
	}{
		{"smarterbot", "Lead", "Lead", "", ""},
		{"smarterbot", "notes", "notes", "", ""},
		{"smarterbot", "Lead.created", "", "", "Lead.created"},
		{"smartlook", "notes", "Comment notes", "", ""},
		{"smartlook", "issues", "issue", "", ""},
		{"smartlook", "issue", "issue", "", ""},
		{"smartlook", "note.created", "notes", "note.created", ""},
		{"smartlook", "nosuch", "", "", "nosuch"},
		{"smartlook", "nosuch issue.updated neither", "issue", "issue.updated", "nosuch neither"},
		{"smartlook", "notes comment.created", "Comment notes", "comment.created comment.deleted comment.updated note.created note.deleted note.updated", ""},
		{"smartlook", "comment.created issue", "Comment issue", "comment.created issue.created issue.deleted issue.updated", ""},
		{"smartlook", "note.updated note.created note.deleted", "notes", "note.created note.deleted note.updated", ""},
		{"smartlook", "Lead Lead.updated", "Lead", "Lead.created Lead.deleted Lead.updated", ""},
		{"smartsurvey", "response.completed", "response", "response.completed", ""},
		{"smartsurvey", "response.disqualified", "response.disqualified", "response.disqualified", ""},
		{"smartsurvey", "response.updated", "response response.disqualified", "response.updated", ""},
		{"smartsurvey", "response.updated response.completed", "response response.disqualified", "response.completed response.updated", ""},
		{"smartsurvey", "response", "response", "", ""},
		{"userback", "feedback.voted", "feedback.voted", "", ""},
		{"userback", "feedback.update", "feedback.voted", "feedback.update", ""},
	} {
		types, events, unknown := dialects[tt.dialect].Choose(strings.Fields(tt.words), streams)
		want := [][]string{strings.Fields(tt.types), strings.Fields(tt.events), strings.Fields(tt.unknown)}
		if diff := cmp.Diff(want, [][]string{types, events, unknown}, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.dialect, tt.words, diff)
		}
	}
	if got := dialects["smarterbot"].Event("Lead", ""); got != "" {
		t.Errorf("smarterbot has an event %q", got)
	}
	if got := dialects["userback"].Event("feedback.priority", ""); got != "feedback.update" {
		t.Errorf("userback has an event %q", got)
	}
}
