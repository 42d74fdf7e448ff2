package sources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

func TestQuery(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		engine func(t testing.TB, schema ...string) *bench
		schema string
		query  string
		want   []map[string]any
		err    string
	}{
		{
			"postgres", newPostgres,
			`create table hooks (id int, url text, rate numeric, share float8, live bool, made timestamptz, day date, at timestamp, ack json, more jsonb, key uuid, list text[]);
			insert into hooks values (1, 'https://a', 2.5, 0.5, true, '2024-01-02 03:04:05.5+01', '2024-01-02', '2024-01-02 03:04:05', '{"a": 1}', '[1,2]', '00000000-0000-0000-0000-000000000001', '{a,b}'), (null, null, null, null, null, null, null, null, null, null, null, null)`,
			"select * from hooks order by id -- the newest",
			[]map[string]any{
				{
					"id": int64(1), "url": "https://a", "rate": 2.5, "share": 0.5, "live": true, "made": "2024-01-02T02:04:05.5Z", "day": "2024-01-02", "at": "2024-01-02T03:04:05Z",
					"ack": jobs.JSON(`{"a": 1}`), "more": jobs.JSON(`[1, 2]`), "key": "00000000-0000-0000-0000-000000000001", "list": "{a,b}",
				},
				{"id": nil, "url": nil, "rate": nil, "share": nil, "live": nil, "made": nil, "day": nil, "at": nil, "ack": nil, "more": nil, "key": nil, "list": nil},
			},
			"",
		},
		{
			"sqlite", newSQLite,
			`create table hooks (id integer, url text, live boolean, made datetime, ack json, more jsonb);
			insert into hooks values (1, 'https://a', 1, '2024-01-02 03:04:05', '{"a": 1}', jsonb('[1,2]')), (2, x'41', 0, 'soon', '12', null)`,
			"select *, 1.5 as share from hooks order by id",
			[]map[string]any{
				{"id": int64(1), "url": "https://a", "live": true, "made": "2024-01-02T03:04:05Z", "ack": jobs.JSON(`{"a": 1}`), "more": jobs.JSON(`[1,2]`), "share": 1.5},
				{"id": int64(2), "url": "A", "live": false, "made": "soon", "ack": jobs.JSON(`12`), "more": nil, "share": 1.5},
			},
			"",
		},
		{"a table expression", newPostgres, "", "with a as (select 1 as n) select n from a", []map[string]any{{"n": int64(1)}}, ""},
		{"none", newSQLite, "", "select 1 as n where false", nil, ""},
		{"too many", newPostgres, "", "select n from generate_series(1, 4) n", nil, "the query gives more than 3 rows"},
		{"doubled", newPostgres, "", "select 1 as n, 2 as n", nil, `the query gives two columns named "n"`},
		{"writes", newPostgres, "create table hooks (id int)", "insert into hooks values (1) returning id", nil, "syntax error"},
		{"writes by a function", newPostgres, "create table hooks (id int); create function f() returns int language sql as 'insert into hooks values (1) returning id'", "select f()", nil, "read-only transaction"},
		{"two statements", newPostgres, "create table hooks (id int)", "select 1) as x; commit; drop table hooks; select * from (select 1", nil, "multiple commands"},
		{"writes, sqlite", newSQLite, "", "insert into other values (1) returning id", nil, "syntax error"},
		{"a value in an error", newPostgres, "create table hooks (url text); insert into hooks values ('SECRET')", "select url::int from hooks", nil, "invalid_text_representation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := test.engine(t, test.schema)
			got, err := b.db.Query(b.ctx, test.query, 3)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("error %v, want one with %q", err, test.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strings.Contains(test.schema, "hooks") { // nothing dropped it
				b.exec("select * from hooks")
			}
		})
	}
}
