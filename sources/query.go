package sources

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/leadrelay/leadrelay/jobs"
)

// Query runs a SELECT of the operator's and returns its rows, at most limit, by the names of their columns. A value is
// nil (NULL), string, int64, float64, bool or jobs.JSON; times that the database knows as such are RFC 3339 text, those
// without a zone as UTC. Nothing can be changed by it. Errors name no value of a row; IsUnavailable says which of them
// may pass.
func (d *Database) Query(ctx context.Context, query string, limit int) ([]map[string]any, error) {
	var rows []map[string]any
	err := d.eng.read(ctx, func(q querier) (err error) {
		rows, err = d.query(ctx, q, query, limit)
		return err
	})
	if err != nil {
		return nil, masked(err)
	}
	return rows, nil
}

func (d *Database) query(ctx context.Context, q querier, query string, limit int) ([]map[string]any, error) {
	from := "(" + query + "\n) as leadrelay_query"
	names, types, err := outputs(ctx, q, d.eng, from)
	if err != nil {
		return nil, err
	}
	list := make([]string, len(names))
	seen := map[string]bool{}
	for i, name := range names {
		if seen[name] {
			return nil, fmt.Errorf("the query gives two columns named %q; rename one with as", name)
		}
		seen[name] = true
		list[i] = pq.QuoteIdentifier(name)
		if isJSON(types[i]) {
			list[i] = d.eng.json(list[i], types[i])
		}
		list[i] += " as " + pq.QuoteIdentifier(name)
	}
	rs, err := q.QueryContext(ctx, "select "+strings.Join(list, ", ")+" from "+from+" limit "+d.eng.param(1), limit+1)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	var rows []map[string]any
	for rs.Next() {
		if len(rows) == limit {
			return nil, fmt.Errorf("the query gives more than %d rows", limit)
		}
		if err := rs.Scan(into...); err != nil {
			return nil, err
		}
		row := make(map[string]any, len(names))
		for i, name := range names {
			row[name] = queried(values[i], types[i])
		}
		rows = append(rows, row)
	}
	return rows, rs.Err()
}

// outputs are the names and types of what can be selected from something. With a parameter a statement is one,
// whatever the operator's text makes of the brackets around it.
func outputs(ctx context.Context, q querier, eng engine, from string) (names, types []string, err error) {
	rows, err := q.QueryContext(ctx, "select * from "+from+" limit "+eng.param(1), 0)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range columns {
		names = append(names, c.Name())
		types = append(types, strings.ToLower(c.DatabaseTypeName()))
	}
	if len(names) == 0 {
		return nil, nil, errors.New("the query gives no columns")
	}
	return names, types, rows.Err()
}

// queried is a driver's value as Query gives it.
func queried(v any, typ string) any {
	switch t := v.(type) {
	case time.Time:
		switch typ {
		case "date", "time", "timetz":
			return t.Format(timeLayout(typ))
		}
		return t.UTC().Format(time.RFC3339Nano)
	case int64:
		if typ == "boolean" && (t == 0 || t == 1) { // SQLite's
			return t == 1
		}
	}
	if isJSON(typ) {
		return jsonValue(v)
	}
	return fieldValue(v, typ)
}

// isJSON reports whether columns of a type, named in lower case, hold JSON texts.
func isJSON(typ string) bool { return typ == "json" || typ == "jsonb" }

// jsonValue is the JSON text that a JSON column's value stands for. SQLite keeps a text that is a number as that.
func jsonValue(v any) any {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return jobs.JSON(v)
	case []byte:
		return jobs.JSON(v)
	case float64:
		return jobs.JSON(strconv.FormatFloat(v, 'g', -1, 64))
	}
	return jobs.JSON(fmt.Sprint(v))
}
