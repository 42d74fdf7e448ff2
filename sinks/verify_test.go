package sinks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestSign(t *testing.T) {
	// By openssl: printf '1492774577.{"a":1}' | openssl dgst -sha256 -hmac key
	const want = "t=1492774577,v1=b47ff869cac67fa42e024f96a1ad404e1177fcf4e269d3a187ec6fac93f041ae"
	if got := Sign("key", time.Unix(1492774577, 999), []byte(`{"a":1}`)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1700000000, 0)
	body := []byte(exampleBody)
	right := Sign("key", now, body)
	v1 := func(key jobs.Secret) string { return strings.SplitN(Sign(key, now, body), ",", 2)[1] }
	tests := []struct {
		name   string
		header []string
		now    time.Time
		want   error
	}{
		{"right", []string{right}, now, nil},
		{"the second of the keys", []string{Sign("other", now, body)}, now, nil},
		{"new and old", []string{"t=1700000000," + v1("new") + "," + v1("key")}, now, nil},
		{"old and new", []string{"t=1700000000," + v1("key") + "," + v1("new")}, now, nil},
		{"spaces", []string{strings.ReplaceAll(right, ",", " , ")}, now, nil},
		{"capital hex", []string{"t=1700000000,v1=" + strings.ToUpper(v1("key")[3:])}, now, nil},
		{"a later scheme besides", []string{right + ",v2=xyz"}, now, nil},
		{"old enough", []string{right}, now.Add(5 * time.Minute), nil},
		{"too old", []string{right}, now.Add(5*time.Minute + time.Second), ErrSignatureTime},
		{"ahead", []string{right}, now.Add(-6 * time.Minute), ErrSignatureTime},
		{"ages ahead", []string{Sign("key", time.Unix(999999999999, 0), body)}, now, ErrSignatureTime},
		{"another key", []string{Sign("wrong", now, body)}, now, ErrSignatureMismatch},
		{"another key, and too old", []string{Sign("wrong", now, body)}, now.Add(time.Hour), ErrSignatureMismatch},
		{"another body", []string{Sign("key", now, body[1:])}, now, ErrSignatureMismatch},
		{"another time", []string{strings.Replace(right, "t=1", "t=2", 1)}, now, ErrSignatureMismatch},
		{"a zero before the time", []string{strings.Replace(right, "t=", "t=0", 1)}, now, ErrSignatureMismatch},
		{"none", nil, now, ErrSignatureMissing},
		{"two headers", []string{right, right}, now, ErrSignatureMalformed},
		{"empty", []string{""}, now, ErrSignatureMalformed},
		{"two times", []string{"t=1700000000," + right}, now, ErrSignatureMalformed},
		{"no time", []string{v1("key")}, now, ErrSignatureMalformed},
		{"no v1", []string{"t=1700000000"}, now, ErrSignatureMalformed},
		{"an empty v1", []string{"t=1700000000,v1="}, now, ErrSignatureMalformed},
		{"a short v1", []string{right[:len(right)-2]}, now, ErrSignatureMalformed},
		{"no hex", []string{right[:len(right)-1] + "g"}, now, ErrSignatureMalformed},
		{"a signed time", []string{strings.Replace(right, "t=", "t=+", 1)}, now, ErrSignatureMalformed},
		{"a negative time", []string{Sign("key", time.Unix(-5, 0), body)}, now, ErrSignatureMalformed},
		{"a time beyond all", []string{"t=99999999999999999999," + v1("key")}, now, ErrSignatureMalformed},
		{"another format", []string{"sha256=" + v1("key")[3:]}, now, ErrSignatureMalformed},
		{"no pairs", []string{"abc"}, now, ErrSignatureMalformed},
		{"too many v1", []string{right + strings.Repeat(","+v1("key"), 16)}, now, ErrSignatureMalformed},
		{"too long", []string{right + "," + strings.Repeat("x=,", 2000)}, now, ErrSignatureMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{SignatureHeader: tt.header}
			err := builtIn.Verify("smarterbot", h, body, []jobs.Secret{"key", "other"}, tt.now, 5*time.Minute)
			if !errors.Is(err, tt.want) || (tt.want != nil && !errors.Is(err, ErrSignature)) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	old := http.Header{SignatureHeader: {right}}
	if err := builtIn.Verify("smarterbot", old, body, []jobs.Secret{"key"}, now.Add(1e6*time.Hour), 0); err != nil {
		t.Errorf("without a tolerance any time is right: %v", err)
	}
}

func TestVerifierNeedsKeys(t *testing.T) {
	for name, err := range map[string]error{
		"no key":     second(builtIn.NewVerifier("smarterbot", nil, 0)),
		"empty key":  second(builtIn.NewVerifier("smarterbot", []jobs.Secret{"a", ""}, 0)),
		"no dialect": second(builtIn.NewVerifier("nosuch", []jobs.Secret{"a"}, 0)),
	} {
		if err == nil || errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSignaturesVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := jobs.Secret(rapid.StringN(1, 200, -1).Draw(t, "key"))
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(0, 999999999999).Draw(t, "time"), 0)
		header := Sign(key, at, body)
		err := builtIn.Verify("smarterbot", http.Header{SignatureHeader: {header}}, body, []jobs.Secret{key}, at, time.Second)
		if blank := strings.TrimSpace(key.Reveal()) == ""; blank != (err != nil) || errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		plain := hmac.New(sha256.New, []byte(key))
		plain.Write([]byte(header[2:strings.IndexByte(header, ',')] + "." + string(body)))
		if want := hex.EncodeToString(plain.Sum(nil)); !strings.HasSuffix(header, ",v1="+want) {
			t.Fatalf("%s is not %s", header, want)
		}
	})
}

// TestOneKeyInManyHands signs with one keyed state from many goroutines, as pushes to one webhook do.
func TestOneKeyInManyHands(t *testing.T) {
	m := newMAC([]byte("key"))
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 500 {
				at := time.Unix(int64(i*1000+j), 0)
				if got, want := signature(at, []byte(exampleBody), m), Sign("key", at, []byte(exampleBody)); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	group.Wait()
}

// FuzzVerifyOthers is FuzzVerify for the other dialects' headers.
func FuzzVerifyOthers(f *testing.F) {
	at := time.Unix(1700000000, 0)
	body := []byte(`{"a":1}`)
	for _, dialect := range signedDialects() {
		h, err := every.SignHeaders(dialect, keysOf(dialect), uuid.Nil, at, body, 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(h[signatureOf(dialect)][0], "1700000000")
	}
	for _, seed := range []string{"", "v1,", "v1,AAAA", "v1a,x v1,y", ",", " ", strings.Repeat("0", 64), strings.Repeat("g", 64)} {
		f.Add(seed, "0")
	}
	f.Fuzz(func(t *testing.T, signature, stamp string) {
		for _, dialect := range signedDialects() {
			good, err := every.SignHeaders(dialect, keysOf(dialect), uuid.Nil, at, body, 1)
			if err != nil {
				t.Fatal(err)
			}
			name := signatureOf(dialect)
			h := http.Header{standardID: {uuid.Nil.String()}, standardTime: {stamp}, name: {signature}}
			err = every.Verify(dialect, h, body, keysOf(dialect), at, time.Hour)
			if err != nil && !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %v", dialect, err)
			}
			if want := good[name][0]; err == nil && (dialects[dialect].signature.Form == Hex || dialects[dialect].signature.Form == Base64) && !strings.EqualFold(signature, want) {
				if other, _ := every.SignHeaders(dialect, keysOf(dialect), uuid.Nil, at, body, 2); !strings.EqualFold(signature, other[name][0]) {
					t.Errorf("%s: %q verifies", dialect, signature)
				}
			}
			if err == nil && dialect == "standard-webhooks" && (stamp != "1700000000" || !strings.Contains(signature, "v1,")) {
				t.Errorf("%q at %q verifies", signature, stamp)
			}
		}
	})
}

// FuzzVerify checks that no header breaks the parser, and that none but a right one verifies.
func FuzzVerify(f *testing.F) {
	at := time.Unix(1700000000, 0)
	body := []byte(`{"a":1}`)
	right := Sign("key", at, body)
	for _, seed := range []string{right, right + "," + right[13:], "t=,v1=", "t=1,v1=00", ",,,", "t=1=2,v1==", "v1=" + strings.Repeat("0", 64) + ",t=0", strings.ToUpper(right)} {
		f.Add(seed)
	}
	hexes := strings.ToLower(right[strings.LastIndexByte(right, '=')+1:])
	f.Fuzz(func(t *testing.T, header string) {
		err := builtIn.Verify("smarterbot", http.Header{SignatureHeader: {header}}, body, []jobs.Secret{"key"}, at, time.Hour)
		if err == nil {
			if !strings.Contains(strings.ToLower(header), hexes) || !strings.Contains(header, "t=1700000000") {
				t.Errorf("%q verifies", header)
			}
		} else if !errors.Is(err, ErrSignature) {
			t.Errorf("%v", err)
		}
	})
}
