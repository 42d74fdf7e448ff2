package sinks

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// jsonTexts draws JSON texts, with all that JSON.parse treats in a way of its own.
func jsonTexts() *rapid.Generator[string] {
	quoted := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "Ž", "👍", "\u2028", "\x7f", "<", "\ufffd", `\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`, `\u0000`, `\u001F`, `\u0022`, `\u005C`, `\u0041`,
		`\u00e9`, `\u2028`, `\uD83D\uDC4D`, `\ud83d`, `\uDc4D`, `\ud83d\u0041`, `\ud83d\n`, `\ud83d\ud83d\udc4d`, `\uFFFF`, "0", "7",
	}), 0, 5), func(parts []string) string { return `"` + strings.Join(parts, "") + `"` })
	name := rapid.OneOf(quoted, rapid.SampledFrom([]string{
		`"a"`, `"\u0061"`, `"b"`, `"0"`, `"\u0030"`, `"1"`, `"2"`, `"10"`, `"01"`, `"-1"`, `"-0"`, `"1.5"`, `"4294967294"`, `"4294967295"`, `"4294967296"`,
		`"9007199254740991"`, `"__proto__"`, `"constructor"`, `"toJSON"`, `"toString"`, `"length"`, `""`, `"\ud800"`, `"\uD800"`,
	}))
	number := rapid.OneOf(
		rapid.SampledFrom([]string{
			"0", "-0", "-0.0", "1.0", "1.50", "1e21", "1E+21", "1e-7", "0.000001", "123456789012345680000e0", "9007199254740991", "-9007199254740991",
			"5e-324", "1e-400", "-1e-400", "1.7976931348623157e308", "0.1", "100", "1e2", "12345678901234.56789", "999999999999999", "-1", "0e9",
		}),
		rapid.Map(rapid.Int64Range(-maxSafe, maxSafe), func(n int64) string { return strconv.FormatInt(n, 10) }),
		rapid.Map(rapid.Float64(), func(f float64) string {
			if math.IsInf(f, 0) || math.IsNaN(f) {
				return "1"
			}
			return strconv.FormatFloat(f, 'e', -1, 64)
		}),
	)
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n", "\t", "\r\n  "})
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			kinds := 7
			if depth == 0 {
				kinds = 5
			}
			gap := func() string { return space.Draw(t, "space") }
			switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
			case 0:
				return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
			case 1, 2:
				return number.Draw(t, "number")
			case 3, 4:
				return quoted.Draw(t, "text")
			case 5:
				items := rapid.SliceOfN(value(depth-1), 0, 4).Draw(t, "items")
				return gap() + "[" + gap() + strings.Join(items, gap()+","+gap()) + gap() + "]" + gap()
			}
			most := rapid.SampledFrom([]int{4, 4, 4, 30}).Draw(t, "most")
			var members []string
			for _, n := range rapid.SliceOfN(name, 0, most).Draw(t, "names") {
				members = append(members, gap()+n+gap()+":"+gap()+value(depth-1).Draw(t, "value"))
			}
			return "{" + strings.Join(members, ",") + "}"
		})
	}
	return rapid.Map(value(4), func(s string) string { return " " + s + "\n" })
}

// TestJSONIsWhatJavaScriptWrites compares what we make of JSON columns with what Node.js makes of them.
func TestJSONIsWhatJavaScriptWrites(t *testing.T) {
	stringify := newStringify(t)
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			text := jsonTexts().Draw(t, "text")
			got, err := appendRewritten(nil, jobs.JSON(text))
			if err != nil {
				t.Fatalf("%s\n%v", text, err)
			}
			if want := stringify(t, []byte(text)); want != string(got) {
				t.Fatalf("%s (-JavaScript's +ours)\n%s", text, cmp.Diff(want, string(got)))
			}
		}
	})
}

func TestJSONValues(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":1,"a%d":[],`, n-i, i)
		}
		return "{" + b.String() + `"a0":2}`
	}
	for _, tt := range []struct {
		name, text, want string
		err              error
	}{
		{name: "white space", text: " { \"a\" : [ 1 , 2 ] }\n", want: `{"a":[1,2]}`},
		{name: "indexes first", text: `{"b":1,"10":2,"a":3,"9":4,"01":5}`, want: `{"9":4,"10":2,"b":1,"a":3,"01":5}`},
		{name: "doubled names", text: `{"a":1,"b":2,"a":{"c":3,"c":4}}`, want: `{"a":{"c":4},"b":2}`},
		{name: "doubled in other writing", text: `{"é":1,"\u00e9":2}`, want: `{"é":2}`},
		{name: "doubled indexes", text: `{"x":0,"1":1,"1":2}`, want: `{"1":2,"x":0}`},
		{name: "proto", text: `{"__proto__":{"a":1},"b":2}`, want: `{"__proto__":{"a":1},"b":2}`},
		{name: "a number with a nought", text: `01`, err: errNotJSON},
		{name: "numbers", text: `[1.0,1e21,-0,0.1e1,1e-7,100000000000000000000e0]`, want: `[1,1e+21,0,1,1e-7,100000000000000000000]`},
		{name: "lone surrogates", text: `["\uD800","\udfff\ud800","\uD83D\uDE00"]`, want: `["\ud800","\udfff\ud800","😀"]`},
		{name: "escapes", text: `"\/\u003c\u2028\u0007\u0008"`, want: "\"/<\u2028\\u0007\\b\""},
		{name: "no UTF-8", text: "\"a\xffb\"", want: `"a` + "\ufffd" + `b"`},
		{name: "scalar", text: "null", want: "null"},
		{name: "largest integers", text: "[9007199254740991,-9007199254740991]", want: "[9007199254740991,-9007199254740991]"},
		{name: "as deep as may be", text: deep(maxJSONDepth), want: deep(maxJSONDepth)},
		{name: "too deep", text: deep(maxJSONDepth + 1), err: errJSONDepth},
		{name: "far too deep", text: strings.Repeat("[", 1<<20), err: errJSONDepth},
		{name: "too large", text: `"` + strings.Repeat("x", maxJSON) + `"`, err: errJSONSize},
		{name: "an integer beyond", text: `{"a":[9007199254740992]}`, err: errJSONInteger},
		{name: "a negative one", text: `-9007199254740993`, err: errJSONInteger},
		{name: "with a point", text: `9007199254740993.0`, err: errJSONInteger},
		{name: "a numeric", text: `1000000000000000000000`, err: errJSONInteger},
		{name: "beyond doubles", text: `1E400`, err: errJSONNumber},
		{name: "beyond doubles below zero", text: `-1e99999999999999999999`, err: errJSONNumber},
		{name: "nothing", text: ``, err: errNotJSON},
		{name: "blank", text: ` `, err: errNotJSON},
		{name: "two", text: `{}{}`, err: errNotJSON},
		{name: "more behind", text: `{} x`, err: errNotJSON},
		{name: "unended", text: `{"a":`, err: errNotJSON},
		{name: "unended list", text: `[1`, err: errNotJSON},
		{name: "a comma too many", text: `[1,]`, err: errNotJSON},
		{name: "single quotes", text: `{'a':1}`, err: errNotJSON},
		{name: "no number", text: `NaN`, err: errNotJSON},
		{name: "a byte order mark", text: "\ufeff{}", err: errNotJSON},
		{name: "a control character", text: "\"\n\"", err: errNotJSON},
		{name: "a bad escape", text: `"\x"`, err: errNotJSON},
		{name: "a name that is none", text: `{1:2}`, err: errNotJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte("before")
			got, err := appendRewritten(before, jobs.JSON(tt.text))
			if !errors.Is(err, tt.err) || string(got) != "before"+tt.want {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
	got, err := appendRewritten(nil, jobs.JSON(many(2000)))
	if err != nil || !strings.HasPrefix(string(got), `{"1":1,"2":1,`) || !strings.Contains(string(got), `"2000":1,"a0":2,"a1":[]`) || strings.Count(string(got), ":") != 4000 {
		t.Errorf("many members: %.80q…, %v", got, err)
	}
}

// TestJSONFields sends JSON columns where the dialects send fields.
func TestJSONFields(t *testing.T) {
	created := at("2024-05-06T07:08:09Z")
	h := newSink(t, Options{})
	for _, tt := range []struct {
		name, dialect string
		fields        []jobs.Field
		want          string
		says          string // of an error
	}{
		{
			name: "in an envelope", dialect: "standard-webhooks",
			fields: fieldsOf("name", "x", "meta", jobs.JSON(`{ "b": 1.0, "1": [ null ] }`), "visitor.tags", jobs.JSON(`["a"]`), "visitor.id", int64(7)),
			want:   `{"type":"Lead.created","timestamp":"2024-05-06T07:08:09.000000Z","data":{"name":"x","meta":{"1":[null],"b":1},"visitor":{"tags":["a"],"id":7}}}`,
		},
		{
			name: "in an object of the envelope", dialect: "smartlook", fields: fieldsOf("project.name", jobs.JSON(`{"b":0,"1":1}`)),
			want: `{"type":"Lead.created","timestamp":"2024-05-06T07:08:09.000Z","project":{"id":"c","name":{"1":1,"b":0}},"organization":{"id":null,"name":null},"data":{}}`,
		},
		{
			name: "as a text", dialect: "smarterbot", fields: fieldsOf("Content", jobs.JSON(`{ "b": "x", "1": 1e21 }`), "SessionID", jobs.JSON("12")),
			want: `{"SerialNumber":"c","Type":"Lead","FirstName":"","LastName":"","Email":"","PhoneNumber":"","CreateTime":"2024-05-06T07:08:09.000000Z","Content":"{\"1\":1e+21,\"b\":\"x\"}","SessionID":12,"URI":""}`,
		},
		{name: "no JSON", dialect: "standard-webhooks", fields: fieldsOf("a.meta", jobs.JSON(`secret`)), says: "a.meta is no JSON"},
		{name: "no JSON as a text", dialect: "smarterbot", fields: fieldsOf("Content", jobs.JSON(`secret`)), says: "Content is no JSON"},
		{name: "no integer", dialect: "smarterbot", fields: fieldsOf("SessionID", jobs.JSON(`{}`)), says: "SessionID is no integer"},
		{name: "beyond", dialect: "userback", fields: fieldsOf("meta", jobs.JSON(`{"secret":12345678901234567}`)), says: "meta holds a number beyond"},
		{name: "a value and an object", dialect: "userback", fields: fieldsOf("meta", jobs.JSON(`{}`), "meta.a", "x"), says: "meta is there twice, or is a value and holds others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, err := h.Encode(&jobs.Webhook{Dialect: tt.dialect}, &jobs.Record{Type: "Lead", Chatbot: "c", Created: created, Fields: tt.fields}, time.Time{})
			if tt.says != "" {
				if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "1234") {
					t.Errorf("got %v, want ErrEncode that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzJSON: whatever a JSON column holds, what is sent of it is JSON that is rewritten to itself.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{"b":1,"10":2,"a":3,"9":4,"b":5}`, `["\uD800\u0041\ud83d\ude00"]`, "\"\xff\xed\xa0\x80\"", `[1.0,1e21,-0,9007199254740993]`, "[[[[", `{"":{}} `, "nul", "1e20",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := appendRewritten(nil, jobs.JSON(text))
		if err != nil {
			return
		}
		if !utf8.Valid(once) {
			t.Fatalf("%q is no UTF-8", once)
		}
		twice, err := appendRewritten(nil, jobs.JSON(once))
		if errors.Is(err, errJSONInteger) && strings.ContainsAny(text, "eE") {
			return // 1e20 is a double, and is printed in full
		}
		if err != nil || string(twice) != string(once) {
			t.Fatalf("%q became %q, then %q (%v)", text, once, twice, err)
		}
	})
}
