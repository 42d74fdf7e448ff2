package sources

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// doBlock runs body with t as the stream's table, and skips a table that does not exist: of the default streams one
// may be missing.
const doBlock = `do $leadrelay$
declare
	t regclass := to_regclass(%[1]s);
	s regnamespace := (select relnamespace from pg_catalog.pg_class where oid = t);
%[4]sbegin
	if t is null then
		raise notice 'stream %[2]s: there is no table %%', %[1]s;
		return;
	end if;
%[3]send
$leadrelay$;
`

func doTable(c *Config, body, declarations string) string {
	typ := strings.NewReplacer("'", "''", "%", "%%").Replace(c.Type) // in raise's format
	return fmt.Sprintf(doBlock, pq.QuoteLiteral(quoteName(c.Table)), typ, body, declarations)
}

// GrantsSQL is what the operator's DBA runs so that role may read what these streams need: tables, the sequences that
// show a restored database, and, for streams under the created cursor, the transactions of others. It may be run
// again.
func GrantsSQL(engine string, streams []Config, role string) string {
	if engine == "sqlite" {
		return "-- SQLite has no roles. Run leadrelay as the user that owns the database file.\n"
	}
	name, literal := pq.QuoteIdentifier(role), pq.QuoteLiteral(role)
	var b strings.Builder
	b.WriteString("-- Reading rights for leadrelay, and no others. Run it in the source's database, as a superuser or as the owner\n" +
		"-- of the tables who may create roles. A new role has no password yet: \\password " + name + "\n")
	fmt.Fprintf(&b, `do $leadrelay$
begin
	if not exists (select from pg_catalog.pg_roles where rolname = %[1]s) then
		create role %[2]s login;
	end if;
	execute format('grant connect on database %%I to %%I', current_database(), %[1]s);
end
$leadrelay$;
`, literal, name)
	for i := range streams {
		c := &streams[i]
		if c.Query != "" {
			fmt.Fprintf(&b, "-- Stream %s reads a query: grant usage on the schemas and select on the tables that it names.\n", comment(c.Type))
			if c.wants() != CursorGaps {
				fmt.Fprintf(&b, "grant pg_read_all_stats to %s; -- cursor created has to see what transactions are open\n", name)
			}
			continue
		}
		body := `	execute format('grant usage on schema %s to %I', s, reader);
	execute format('grant select on %s to %I', t, reader);
`
		if c.wants() != CursorCreated {
			body += `	for seq in ` + sequencesOf(c) + ` loop
		execute format('grant select on sequence %s to %I', seq, reader);
	end loop;
`
		}
		switch c.wants() {
		case CursorCreated:
			body += "	grant pg_read_all_stats to " + name + "; -- cursor created has to see what transactions are open\n"
		case CursorAuto:
			body += "	if not found then -- no sequence, so its cursor is created, which has to see what transactions are open\n" +
				"		grant pg_read_all_stats to " + name + ";\n	end if;\n"
		}
		b.WriteString(doTable(c, body, "	reader name := "+literal+";\n	seq regclass;\n"))
	}
	return b.String()
}

// sequencesOf finds the sequences that feed a stream's id.
func sequencesOf(c *Config) string {
	return fmt.Sprintf(`select distinct q.oid::regclass
		from pg_catalog.pg_attribute a
		left join pg_catalog.pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
		join pg_catalog.pg_depend d
			on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
			or d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
				and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
		join pg_catalog.pg_class q
			on q.relkind = 'S' and q.oid = case when d.classid = 'pg_attrdef'::regclass then d.refobjid else d.objid end
		where a.attrelid = t and a.attname = %s`, pq.QuoteLiteral(c.ID))
}

// TriggerSQL is what the operator's DBA runs so that new rows are seen at once. The trigger runs once a statement and
// its notification is empty, once a transaction: it says "look" and carries nothing. It may be run again.
func TriggerSQL(engine string, streams []Config) string {
	if engine == "sqlite" {
		return "-- SQLite needs no trigger: leadrelay sees that the file has another version.\n"
	}
	var b strings.Builder
	b.WriteString("-- Wakes leadrelay when rows come or, with updated or deleted, change; without it they are found by polling. Run it\n" +
		"-- as the tables' owner.\n" +
		"-- Rows inserted straight into a partition, or by logical replication, wake nobody and wait for the poll.\n")
	for i := range streams {
		c := &streams[i]
		if c.Query != "" {
			fmt.Fprintf(&b, "-- Stream %s reads a query: create such a trigger on each table that it names.\n", comment(c.Type))
			continue
		}
		b.WriteString(doTable(c, `	execute format('create or replace function %s.leadrelay_notify() returns trigger language plpgsql as $body$
begin
	perform pg_catalog.pg_notify(''`+Channel+`'', '''');
	return null;
end
$body$', s);
`+trigger(c), ""))
	}
	return b.String()
}

// trigger makes the trigger where there is none. One that wakes only when rows come is replaced where changes matter.
func trigger(c *Config) string {
	events, exists := "insert", "tgrelid = t and tgname = 'leadrelay_notify'"
	drop := ""
	if c.versioned() {
		events, exists = "insert or update", exists+" and tgtype & 16 <> 0"
		drop = "		execute format('drop trigger if exists leadrelay_notify on %s', t);\n"
	}
	return `	if not exists (select from pg_catalog.pg_trigger where ` + exists + `) then
` + drop + `		execute format('create trigger leadrelay_notify after ` + events + ` on %s
			for each statement execute function %s.leadrelay_notify()', t, s);
	end if;
`
}

// IndexesSQL is the indexes that these streams' scans need besides their primary keys; `check` says whether they are
// there. It may be run again.
func IndexesSQL(engine string, streams []Config) string {
	var b strings.Builder
	if engine == "postgres" {
		b.WriteString("-- Run it as the tables' owner and outside a transaction: concurrently lets the application write meanwhile.\n")
	}
	for i := range streams {
		c := &streams[i]
		typ := comment(c.Type)
		switch {
		case c.Query != "":
			var names []string
			for _, u := range c.columns() {
				switch u.use {
				case "id", "created", "updated", "deleted":
					names = append(names, u.name)
				}
			}
			fmt.Fprintf(&b, "-- Stream %s reads a query: index the columns behind %s.\n", typ, comment(strings.Join(names, ", ")))
		case c.versioned():
			b.WriteString(changeIndexes(engine, c))
		case c.Cursor == CursorCreated:
			b.WriteString(indexSQL(engine, c, createdInstant(&shape{}, c)) + "\n")
		case c.Cursor == CursorGaps:
			fmt.Fprintf(&b, "-- Stream %s: the primary key serves. Where %s is none:\n-- %s\n", typ, comment(c.ID), indexSQL(engine, c, instant{}))
			if c.Created != "" {
				fmt.Fprintf(&b, "-- Where the table is large, leadrelay reconcile needs this:\n-- %s\n", indexSQL(engine, c, createdInstant(&shape{}, c)))
			}
		default:
			fmt.Fprintf(&b, "-- Stream %s: the primary key serves where %s is an integer from a sequence. Where it is not, and for leadrelay\n-- reconcile where the table is large:\n-- %s\n", typ, comment(c.ID), indexSQL(engine, c, createdInstant(&shape{}, c)))
		}
	}
	return b.String()
}

// changeIndexes are the indexes of which one serves a stream with versions: which, depends on the table's columns.
func changeIndexes(engine string, c *Config) string {
	var eng interface {
		changed(sh *shape, cfg *Config) (instant, error)
	} = &postgres{}
	truth := "bool"
	if engine == "sqlite" {
		eng = &sqlite{}
	}
	var found []string
	var when [][]string
	for _, deleted := range []string{truth, "timestamptz"} {
		for _, notNull := range []bool{true, false} {
			sh := &shape{folds: engine == "sqlite", types: map[string]string{}, notNull: map[string]bool{}}
			key := func(name string) string {
				if sh.folds {
					return strings.ToLower(name)
				}
				return name
			}
			for _, name := range []string{c.Created, c.Updated} {
				sh.types[key(name)] = "timestamptz"
			}
			if c.Deleted != "" {
				sh.types[key(c.Deleted)] = deleted
			}
			sh.notNull[key(c.Updated)] = notNull
			at, err := eng.changed(sh, c)
			if err != nil {
				continue // no such table can be read
			}
			line := indexSQL(engine, c, at)
			var where []string
			if notNull {
				where = append(where, comment(c.Updated)+" is NOT NULL")
			}
			if c.Deleted != "" && deleted == truth {
				where = append(where, comment(c.Deleted)+" is a truth value")
			}
			if i := slices.Index(found, line); i >= 0 { // it serves whatever the two conditions differ in
				when[i] = shared(when[i], where)
				continue
			}
			found, when = append(found, line), append(when, where)
		}
	}
	if len(found) == 1 {
		return found[0] + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- Stream %s needs one of these; leadrelay check says which.\n", comment(c.Type))
	for i := range found {
		where := "Else"
		if len(when[i]) > 0 {
			where = "Where " + strings.Join(when[i], " and ")
		}
		fmt.Fprintf(&b, "-- %s:\n-- %s\n", where, found[i])
	}
	return b.String()
}

// shared are the conditions that both have.
func shared(a, b []string) []string {
	return slices.DeleteFunc(a, func(condition string) bool { return !slices.Contains(b, condition) })
}

// indexSQL is the index that serves a cursor, in one line; the zero instant: cursor gaps.
func indexSQL(engine string, c *Config, at instant) string {
	parts := splitName(c.Table)
	name, columns, serves := parts[len(parts)-1], pq.QuoteIdentifier(c.ID), CursorGaps
	switch {
	case len(at.columns) > 1: // an expression; its name is another's than a column's, since `if not exists` goes by names
		columns, serves = "("+at.expr+"), "+columns, "changed"
	case c.versioned():
		columns, serves = at.expr+", "+columns, "updated"
	case at.expr != "":
		columns, serves = at.expr+", "+columns, CursorCreated
	}
	name = "leadrelay_" + name + "_" + serves
	name = pq.QuoteIdentifier(name[:min(len(name), 63)])
	if engine == "sqlite" {
		table := pq.QuoteIdentifier(parts[len(parts)-1])
		if len(parts) > 1 {
			name = pq.QuoteIdentifier(parts[0]) + "." + name
		}
		return fmt.Sprintf("create index if not exists %s on %s (%s);", name, table, columns)
	}
	return fmt.Sprintf("create index concurrently if not exists %s on %s (%s);", name, quoteName(c.Table), columns)
}

// comment keeps text within a comment's line.
func comment(text string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(text) }
