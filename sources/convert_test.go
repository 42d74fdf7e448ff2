package sources

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// fieldsStream has one field a column, and a constant of each kind.
func fieldsStream(columns ...string) Config {
	cfg := Config{Type: "Lead", Table: "leads", ID: "id", Chatbot: "chatbot_id", Created: "created_at"}
	for _, c := range columns {
		cfg.Fields = append(cfg.Fields, Mapping{Name: c, Column: c})
	}
	cfg.Fields = append(cfg.Fields, Mapping{Name: "text", Const: "x"}, Mapping{Name: "number", Const: 7}, Mapping{Name: "left out"})
	return cfg
}

func fieldsOf(rec *jobs.Record) map[string]any {
	m := map[string]any{}
	for _, f := range rec.Fields {
		m[f.Name] = f.Value
	}
	return m
}

func TestValuesPostgres(t *testing.T) {
	for name, open := range map[string]func(testing.TB, ...string) *bench{"direct": newPostgres, "pooled": newPooled} {
		t.Run(name, func(t *testing.T) { valuesPostgres(t, open) })
	}
}

func valuesPostgres(t *testing.T, open func(testing.TB, ...string) *bench) {
	b := open(t, `create domain short as varchar(9);
		create type mood as enum ('glad', 'sad');
		create table leads (id serial primary key, chatbot_id uuid, created_at timestamp, a smallint, b int, c bigint, d numeric, e numeric(20, 4),
			f real, g double precision, h boolean, i text, j varchar(5), k char(5), l bytea, m json, n jsonb, o uuid, p timestamptz, q date, r time, s inet, u int[], v short, w mood, x interval)`,
		`insert into leads values (default, '59001DD7-3709-4173-21C5-8B11693183A2', '2023-11-23 19:36:21.512302', -32768, 2147483647, 9223372036854775807, 123456789012345678901234567890, 12.5000,
			1.5, 'NaN', true, 'žluť'||chr(8232), 'ab', 'cd', 'raw\\x', '{"b": 1, "a": [1.50]}', '{"b": 1, "a": 2}', '59001DD7-3709-4173-21C5-8B11693183A2',
			'2023-11-23 19:36:21.5+01', '2023-11-23', '12:34:56.5', '10.0.0.1', '{1,2}', 'short', 'sad', '1 day 02:00')`,
		`insert into leads (chatbot_id) values ('00000000-0000-0000-0000-000000000001')`)
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	cfg := fieldsStream(strings.Split("abcdefghijklmnopqrsuvwx", "")...)
	cfg.CreatedZone = prague
	s := b.stream(cfg)
	at := jobs.Bookmark("")
	recs := b.records(s, &at, 10)
	want := map[string]any{
		"a": int64(-32768), "b": int64(2147483647), "c": int64(math.MaxInt64), "d": "123456789012345678901234567890", "e": 12.5,
		"f": 1.5, "g": "NaN", "h": true, "i": "žluť\u2028", "j": "ab", "k": "cd", "l": `raw\x`, "m": jobs.JSON(`{"b": 1, "a": [1.50]}`), "n": jobs.JSON(`{"a": 2, "b": 1}`),
		"o": "59001dd7-3709-4173-21c5-8b11693183a2", "p": "2023-11-23T18:36:21.500000Z", "q": "2023-11-23", "r": "12:34:56.5", "s": "10.0.0.1",
		"u": "{1,2}", "v": "short", "w": "sad", "x": "1 day 02:00:00", "text": "x", "number": int64(7), "left out": nil,
	}
	if diff := cmp.Diff(want, fieldsOf(&recs[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rec := recs[0]
	if rec.Row != "1" || rec.Chatbot != "59001dd7-3709-4173-21c5-8b11693183a2" || rec.Type != "Lead" || rec.Action != jobs.ActionCreate || rec.Err != nil {
		t.Errorf("record %+v", rec)
	}
	if want := time.Date(2023, 11, 23, 18, 36, 21, 512302000, time.UTC); !rec.Created.Equal(want) || rec.Created.Location() != time.UTC {
		t.Errorf("created %v, want %v", rec.Created, want)
	}
	for name, value := range fieldsOf(&recs[1]) {
		if value != nil && name != "text" && name != "number" {
			t.Errorf("%s of a row of NULLs is %v", name, value)
		}
	}
	if !recs[1].Created.IsZero() || recs[1].Err != nil {
		t.Errorf("created %v, %v of a row of NULLs", recs[1].Created, recs[1].Err)
	}
}

func TestValuesSQLite(t *testing.T) {
	b := newSQLite(t, `create table leads (id integer primary key autoincrement, chatbot_id, created_at datetime, a integer, b real, c text, d blob, e datetime, f boolean, g)`,
		`insert into leads values (null, 'bot', 1700764581.5, 9007199254740993, 1.5, 'žluť', x'00ff', '2023-11-23 10:00:00', true, 'x'), (null, 77, null, null, null, '', x'', 5, 2.5, null)`)
	s := b.stream(fieldsStream("a", "b", "c", "d", "e", "f", "g"))
	at := jobs.Bookmark("")
	recs := b.records(s, &at, 10)
	for i, want := range []map[string]any{
		{"a": int64(9007199254740993), "b": 1.5, "c": "žluť", "d": "\x00\xff", "e": "2023-11-23 10:00:00", "f": int64(1), "g": "x", "text": "x", "number": int64(7), "left out": nil},
		{"a": nil, "b": nil, "c": "", "d": "", "e": int64(5), "f": 2.5, "g": nil, "text": "x", "number": int64(7), "left out": nil},
	} {
		if diff := cmp.Diff(want, fieldsOf(&recs[i])); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i+1, diff)
		}
	}
	if want := time.Date(2023, 11, 23, 18, 36, 21, 500000000, time.UTC); !recs[0].Created.Equal(want) {
		t.Errorf("created %v, want %v", recs[0].Created, want)
	}
	if recs[1].Chatbot != "77" {
		t.Errorf("chatbot %q", recs[1].Chatbot)
	}
}

// A creation time that is none is said of the column, and never what stood there; the row comes all the same.
func TestNoTime(t *testing.T) {
	text := strings.Replace(pgLeads, "timestamptz", "text", 1)
	for name, b := range map[string]*bench{
		"postgres":  newPostgres(t, text, "insert into leads (chatbot_id, created_at) values ('bot', 'Ann''s birthday'), ('bot', '2023-11-23')"),
		"infinity":  newPostgres(t, pgLeads, "insert into leads (chatbot_id, created_at) values ('bot', 'infinity'), ('bot', now())"),
		"too early": newPostgres(t, pgLeads, "insert into leads (chatbot_id, created_at) values ('bot', '4714-11-24 BC'), ('bot', now())"),
		"too late":  newPostgres(t, pgLeads, "insert into leads (chatbot_id, created_at) values ('bot', '294276-12-31'), ('bot', now())"),
		"sqlite":    newSQLite(t, liteLeads, "insert into leads (chatbot_id, created_at) values ('bot', 'Ann''s birthday'), ('bot', '2023-11-23')"),
	} {
		at := jobs.Bookmark("")
		recs := b.records(b.stream(leads()), &at, 10)
		if len(recs) != 2 {
			t.Fatalf("%s: %d records", name, len(recs))
		}
		err := recs[0].Err
		if !errors.Is(err, jobs.ErrEncode) || !strings.Contains(err.Error(), "created_at") || strings.Contains(err.Error(), "Ann") || recs[0].Row != "1" || recs[0].Chatbot != "bot" {
			t.Errorf("%s: %+v", name, recs[0])
		}
		if recs[1].Err != nil {
			t.Errorf("%s: %v", name, recs[1].Err)
		}
	}
}

// PostgreSQL quotes values when a cast fails; they may be anybody's.
func TestErrorsHoldNoData(t *testing.T) {
	b := newPostgres(t, pgLeads, "insert into leads (chatbot_id, first_name) values ('bot', 'Annabel')")
	cfg := leads()
	cfg.Where = "first_name::int > 7"
	s := b.stream(cfg)
	_, err := s.After(b.ctx, "", 10)
	if err == nil || strings.Contains(err.Error(), "Annabel") || !strings.Contains(err.Error(), "invalid_text_representation") {
		t.Errorf("error %v", err)
	}
	findings, err := b.db.Check(b.ctx, cfg)
	if err != nil || len(findings) != 1 || strings.Contains(findings[0].Text, "Annabel") {
		t.Errorf("findings %v, %v", findings, err)
	}
	for _, dsn := range []string{"postgres://reader:hun%ter2@db/x", "postgres://reader:hunter2@db:port/x", "postgres://reader:hunter2@db/x?sslmode=perhaps", "postgres://reader:hunter2@:hunter2/x", "postgres://reader:hunter2@127.0.0.1:1/x?connect_timeout=1"} {
		db, err := Open(b.ctx, dsn, Options{})
		if err == nil {
			err = db.Ping(b.ctx)
			db.Close()
		}
		if err == nil || strings.Contains(err.Error(), "hun") {
			t.Errorf("%s: error %v", dsn, err)
		}
	}
}

// FuzzDecimal: a number of the database's is that number, or stays the text that it came as.
func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"12", "12.00", "-0.50", "0.1", "12345678901234567890.5", "9223372036854775808", "1e400", "NaN", "Infinity", ".5", "1.", "-", "", "007", "0x10", "1_0", "+1", "0.30000000000000004"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		switch n := decimal(text).(type) {
		case int64:
			got = strconv.FormatInt(n, 10)
		case float64:
			got = strconv.FormatFloat(n, 'f', -1, 64)
		case string:
			if n != text {
				t.Fatalf("%q becomes %q", text, n)
			}
			if want, err := strconv.ParseInt(text, 10, 64); err == nil {
				t.Fatalf("%d stays a text", want)
			}
			return
		}
		was, ok := new(big.Rat).SetString(text)
		is, _ := new(big.Rat).SetString(got)
		if !ok || was.Cmp(is) != 0 {
			t.Fatalf("%q becomes %s", text, got)
		}
	})
}

func TestDecimal(t *testing.T) {
	for in, want := range map[string]any{
		"0": int64(0), "-7.000": int64(-7), "9223372036854775808": "9223372036854775808", "1.50": 1.5, "0.1": 0.1, "-0.25": -0.25,
		"0.10000000000000000001": "0.10000000000000000001", "NaN": "NaN", "Infinity": "Infinity", "100": int64(100), "1e5": "1e5",
	} {
		if got := decimal(in); got != want {
			t.Errorf("decimal(%s) = %T %v, want %v", in, got, got, want)
		}
	}
}

func TestQueryStream(t *testing.T) {
	for name, b := range map[string]*bench{
		"postgres": newPostgres(t, pgLeads),
		"sqlite":   newSQLite(t, liteLeads),
	} {
		for _, cursor := range []string{CursorAuto, CursorGaps} {
			t.Run(name+" "+cursor, func(t *testing.T) {
				b.exec("delete from leads")
				cfg := Config{
					Type: "Lead", Query: "select id as key, chatbot_id as Bot, created_at as at, first_name || '!' as who from leads -- all of them",
					ID: "key", Chatbot: "bot", Created: "at", Where: "who <> 'Bea!'", Cursor: cursor,
					Fields: []Mapping{{Name: "FirstName", Column: "who"}},
				}
				s := b.stream(cfg)
				if want := map[string]string{CursorAuto: CursorCreated, CursorGaps: CursorGaps}[cursor]; s.Cursor() != want {
					t.Errorf("cursor %s, want %s", s.Cursor(), want)
				}
				at := b.end(s)
				b.exec(addLead)
				b.exec("insert into leads (chatbot_id, first_name) values ('bot', 'Bea')")
				recs := b.records(s, &at, 10)
				if len(recs) != 1 || recs[0].Field("FirstName") != "Ann!" {
					t.Fatalf("records %+v", recs)
				}
				got, err := b.read(s, keysOf(recs))
				if err != nil || len(got) != 1 {
					t.Errorf("Read: %v, %v", got, err)
				}
				if latest, err := s.Latest(b.ctx, 10); err != nil || len(latest) != 2 {
					t.Errorf("Latest: %v, %v", latest, err)
				}
				other := cfg
				other.Query += "\n where true"
				if same := b.stream(other).Definition() == s.Definition(); same != (cursor == CursorAuto) {
					t.Errorf("definition %s with another query: same is %v", s.Definition(), same)
				}
			})
		}
	}
}

func TestAtAndLag(t *testing.T) {
	for name, b := range map[string]*bench{
		"gaps":    newPostgres(t, pgLeads),
		"created": newPostgres(t, strings.Replace(pgLeads, "bigserial", "bigint", 1)),
		"sqlite":  newSQLite(t, liteLeads),
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now().UTC().Truncate(time.Second)
			for i := range 5 {
				b.exec("insert into leads (id, chatbot_id, created_at) values (" + string(rune('1'+i)) + ", 'bot', '" + now.Add(time.Duration(i-9)*time.Hour).Format("2006-01-02 15:04:05Z") + "')")
			}
			if name == "gaps" {
				b.exec("select setval('leads_id_seq', 5)")
			}
			s := b.stream(leads())
			b.setClock(now)
			end := b.end(s)
			if lag, err := s.Lag(b.ctx, end); lag != 0 || err != nil {
				t.Errorf("Lag at the end = %s, %v", lag, err)
			}
			at, err := s.At(b.ctx, "3")
			if err != nil {
				t.Fatal(err)
			}
			if lag, err := s.Lag(b.ctx, at); lag != 6*time.Hour || err != nil {
				t.Errorf("Lag = %s, %v", lag, err)
			}
			wantKeys(t, "behind row 3", b.drain(s, &at, 10), "4", "5")
			if _, err := s.At(b.ctx, "no such row"); err == nil {
				t.Error("At takes anything")
			}
			if pos, _ := s.Describe("rubbish"); pos != "unreadable" {
				t.Errorf("rubbish is %s", pos)
			}
			if pos, _ := s.Describe(""); pos != "beginning" {
				t.Errorf(`"" is %s`, pos)
			}
			if _, err := s.After(b.ctx, "rubbish", 1); err == nil {
				t.Error("rubbish is read")
			}
		})
	}
}

// A column of a JSON type, or one that is said to hold JSON, gives a JSON text.
func TestJSONColumns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		b    *bench
		want map[string]any
	}{
		"postgres": {
			newPostgres(t, `create table leads (id serial primary key, chatbot_id text, created_at timestamptz, a jsonb, b json, c text, d text[], e int, f timestamptz, g boolean, h char(8), i jsonb)`,
				`insert into leads (chatbot_id, a, b, c, d, e, f, g, h) values ('bot', '{"n": 1}', 'null', ' [1, "ž"]', '{a,"b c"}', 7, '2024-01-02 03:04:05Z', true, '[1]')`),
			map[string]any{
				"a": jobs.JSON(`{"n": 1}`), "b": jobs.JSON(`null`), "c": jobs.JSON(` [1, "ž"]`), "d": jobs.JSON(`["a","b c"]`), "e": jobs.JSON(`7`), "f": jobs.JSON(`"2024-01-02T03:04:05+00:00"`),
				"g": jobs.JSON(`true`), "h": jobs.JSON(`[1]     `), "i": nil,
			},
		},
		"sqlite": {
			newSQLite(t, `create table leads (id integer primary key autoincrement, chatbot_id text, created_at datetime, a JSON, b jsonb, c text, d blob, e json, f json, g json, h json, i json)`,
				`insert into leads (chatbot_id, a, b, c, d, e, f, g, h) values ('bot', '{"n": 1}', jsonb('{"n":[1.5]}'), '"x"', x'5b315d', '7', '1.5', x'5b325d', 'not JSON')`),
			map[string]any{
				"a": jobs.JSON(`{"n": 1}`), "b": jobs.JSON(`{"n":[1.5]}`), "c": jobs.JSON(`"x"`), "d": jobs.JSON(`[1]`), "e": jobs.JSON(`7`), "f": jobs.JSON(`1.5`),
				"g": jobs.JSON(`[2]`), "h": jobs.JSON(`not JSON`), "i": nil,
			},
		},
	} {
		cfg := Config{Type: "Lead", Table: "leads", ID: "id", Chatbot: "chatbot_id", Created: "created_at"}
		for c := range test.want {
			cfg.Fields = append(cfg.Fields, Mapping{Name: c, Column: c, JSON: strings.Contains("cdefgh", c)})
		}
		for _, query := range []string{"", "select * from leads"} {
			if query != "" {
				cfg.Table, cfg.Query, cfg.Cursor = "", query, CursorGaps
			}
			s := test.b.stream(cfg)
			at := jobs.Bookmark("")
			recs := test.b.records(s, &at, 10)
			if diff := cmp.Diff(test.want, fieldsOf(&recs[0])); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", name, query, diff)
			}
		}
	}
}
