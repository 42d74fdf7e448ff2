package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// read reads the ledger's tables as they are after a kill, and while nothing else is at work where it is a file: of that
// a copy is opened, since to open the file itself would mend what the next process must.
func (o *ordeal) read(f func(db *sql.DB, schema string)) {
	o.t.Helper()
	dsn, schema, engine := o.ledger, "leadrelay.", "postgres"
	if path, ok := cutSQLite(o.ledger); ok {
		dir := filepath.Join(o.dir, "copy")
		defer os.RemoveAll(dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			o.t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal"} {
			text, err := os.ReadFile(path + suffix)
			if os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "ledger.db"+suffix), text, 0o600)
			}
			if err != nil {
				o.t.Fatal(err)
			}
		}
		dsn, schema, engine = "file:"+filepath.Join(dir, "ledger.db"), "", "sqlite"
	}
	db, err := sql.Open(engine, dsn)
	if err != nil {
		o.t.Fatal(err)
	}
	defer db.Close()
	f(db, schema)
}

// each calls f for every row of a query of the ledger.
func (o *ordeal) each(db *sql.DB, query string, f func(scan func(...any) error) error) {
	o.t.Helper()
	rows, err := db.QueryContext(o.ctx, query)
	if err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			o.t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		o.t.Fatal(err)
	}
}

// remember is called after a kill. It notes what the ledger has as delivered, none of which may come again, and holds what
// was acknowledged to the process that was killed and is not there against the bound: that alone was in flight, and may. With
// a ledger that is a file no process may be at work.
func (o *ordeal) remember(crm *witness) {
	o.t.Helper()
	o.read(func(db *sql.DB, schema string) {
		if !o.made(db) {
			return
		}
		var fresh []string
		o.each(db, "select id from "+schema+"deliveries where state = 'delivered'", func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			if _, known := o.recorded[id]; !known {
				fresh = append(fresh, id)
			}
			return err
		})
		now := time.Now()
		for _, id := range fresh {
			o.recorded[id] = now
		}
	})
	for _, l := range o.lives {
		if !l.killed || l.weighed {
			continue
		}
		l.weighed = true
		inFlight := 0
		for _, id := range crm.ackedTo(l.name) {
			if _, known := o.recorded[id]; !known {
				inFlight++
			}
		}
		if inFlight > l.bound() {
			o.t.Errorf("when %s was killed %d records were acknowledged to it that the ledger does not have as delivered: the bound is %d", l.name, inFlight, l.bound())
		}
	}
}

// made reports whether the ledger's tables are there: a process may have been killed before it made them.
func (o *ordeal) made(db *sql.DB) (made bool) {
	o.t.Helper()
	query := "select exists (select 1 from information_schema.tables where table_schema = 'leadrelay' and table_name = 'deliveries')"
	if _, lite := cutSQLite(o.ledger); lite {
		query = "select exists (select 1 from sqlite_master where name = 'deliveries')"
	}
	o.each(db, query, func(scan func(...any) error) error { return scan(&made) })
	return made
}

// auditRuns checks the counts of all runs: nothing of one that has ended is under way, but for one by hand whose process
// was killed, or did not wait; and of none is more done than was taken on.
func (o *ordeal) auditRuns() {
	o.t.Helper()
	orphans := 0
	o.read(func(db *sql.DB, schema string) {
		query := "select id, kind, schedule, ended_at is not null, gathering, gathered, carried, delivered, test_answers, failed, dead from " + schema + "runs"
		o.each(db, query, func(scan func(...any) error) error {
			var r jobs.Run
			var ended bool
			err := scan(&r.ID, &r.Kind, &r.Schedule, &ended, &r.Gathering, &r.Gathered, &r.Carried, &r.Delivered, &r.TestAnswers, &r.Failed, &r.Dead)
			switch way := r.UnderWay(); {
			case way < 0:
				o.t.Errorf("more became of a run's records than it took on: %+v", r)
			case way > 0 && ended && r.Kind == jobs.Manual:
				orphans++
			case way > 0 && ended && o.stops: // a run does not wait for those of a webhook that was stopped
			case way > 0:
				o.t.Errorf("of a run (ended: %v) %d records are under way in the end: %+v", ended, way, r)
			}
			return err
		})
	})
	left := 0
	for _, l := range o.lives {
		if l.args[0] == "run-now" && (l.killed || l.told || len(l.args) > 1) {
			left++
		}
	}
	if orphans > left {
		o.t.Errorf("%d runs by hand have ended with records under way, and only %d were killed, interrupted or not to wait for them", orphans, left)
	}
}

// dump is all that the ledger holds, as bytes.
func (o *ordeal) dump() []byte {
	o.t.Helper()
	var b bytes.Buffer
	if path, ok := cutSQLite(o.ledger); ok {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			text, err := os.ReadFile(path + suffix)
			if err != nil && !os.IsNotExist(err) {
				o.t.Fatal(err)
			}
			b.Write(text)
		}
		return b.Bytes()
	}
	o.read(func(db *sql.DB, schema string) {
		var tables []string
		query := "select table_name from information_schema.tables where table_schema = '" + strings.TrimSuffix(schema, ".") + "'"
		o.each(db, query, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			tables = append(tables, name)
			return err
		})
		for _, name := range tables {
			o.each(db, fmt.Sprintf("select to_jsonb(t)::text from %s%s t", schema, name), func(scan func(...any) error) error {
				var row string
				err := scan(&row)
				fmt.Fprintln(&b, row)
				return err
			})
		}
	})
	return b.Bytes()
}
