package main

import (
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// A wish is what a webhook wants: the records of one chatbot, or of all, of one type, or of all.
type wish struct{ webhook, chatbot, typ string }

// A debt is a record that a webhook is owed.
type debt struct {
	jobs.Key
	says says
}

// says is what a request of the default dialect says, or is to.
type says struct {
	SerialNumber, Type, FirstName, LastName, Email, PhoneNumber, CreateTime, Content, URI string
	SessionID                                                                             int64
}

// owed is what was committed to the source and wanted, by id.
func (o *ordeal) owed(app *application, wishes []wish) map[string]debt {
	o.t.Helper()
	owed := map[string]debt{}
	for table, typ := range map[string]string{"leads": "Lead", "appointments": "Appointment"} {
		rows, err := app.db.Query("select id, created_at, chatbot_id, first_name, last_name, email, phone_number, content, uri, session_id from " + table)
		if err != nil {
			o.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var row string
			var created time.Time
			is := says{Type: typ}
			err := rows.Scan(&row, &created, &is.SerialNumber, &is.FirstName, &is.LastName, &is.Email, &is.PhoneNumber, &is.Content, &is.URI, &is.SessionID)
			if err != nil {
				o.t.Fatal(err)
			}
			is.CreateTime = created.Format("2006-01-02T15:04:05.000000Z")
			o.rows++
			for _, w := range wishes {
				if (w.chatbot == "" || w.chatbot == is.SerialNumber) && (w.typ == "" || w.typ == typ) {
					key := jobs.Key{Webhook: w.webhook, Type: typ, Row: row, Action: jobs.ActionCreate}
					owed[key.ID().String()] = debt{key, is}
				}
			}
		}
		if err := rows.Err(); err != nil {
			o.t.Fatal(err)
		}
	}
	o.records += len(owed)
	return owed
}
