package jobs

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// Actions of records: why they are pushed.
const (
	ActionCreate = "create" // the row is new
	ActionUpdate = "update" // it changed
	ActionRemove = "remove" // it is gone, or marked so
)

// A Record is one row of a source table, read and converted, in memory only: no store of ours keeps its content.
type Record struct {
	Type    string    // the stream's type, such as "Lead"
	Row     string    // the row's key as text
	Chatbot string    // whose record it is
	Created time.Time // UTC, cut to microseconds; zero where the column is NULL
	Version string    // of the row, where its stream has versions: Updated as text; else ""
	Updated time.Time // when the row last changed, where its stream has versions: UTC, cut to microseconds
	// Hold is how long after it was seen another change may still leave Version as it is: a second, where the database
	// keeps whole seconds. The record is not pushed before.
	Hold   time.Duration
	Action string  // ActionCreate; ActionRemove where the row is marked as deleted. What was acknowledged before makes updates
	Fields []Field // in the stream's order, by the name they have on the wire
	Err    error   // why the row cannot be a record (a time that is none, …); Row and Chatbot are set all the same
}

// Stands is when the row came to be as it is: when it last changed, where its stream has versions, else when it was
// created; zero where that is not known.
func (r *Record) Stands() time.Time {
	if r.Version != "" {
		return r.Updated
	}
	return r.Created
}

// JSON is the value of a JSON column: a JSON text as the database gave it, not yet checked.
type JSON string

// A Field is one named value of a record. Value is nil (NULL), string (valid UTF-8 or not, as the database gave it),
// int64, float64, bool or JSON.
type Field struct {
	Name  string
	Value any
}

// Field returns the value named name, nil where the stream has none.
func (r *Record) Field(name string) any {
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			return r.Fields[i].Value
		}
	}
	return nil
}

// A Key says what is owed: one version of one row, to one webhook.
type Key struct {
	Webhook string
	Type    string
	Row     string
	Version string
	Action  string
}

// namespace of delivery ids; changing it would make every delivery a new one.
var namespace = uuid.MustParse("5b0c1f8e-7d0a-4f5e-9d51-6f6c6561647a")

// ID is the delivery's id and its X-Webhook-Id: a UUIDv5 of the key, so the same record has the same id after a lost
// ledger, and one unique index is what prevents sending twice.
func (k Key) ID() uuid.UUID {
	var b strings.Builder
	for i, part := range [...]string{k.Webhook, k.Type, k.Row, k.Version, k.Action} {
		if i > 0 {
			b.WriteByte(0) // no identifier and no database text holds a NUL
		}
		b.WriteString(part)
	}
	return uuid.NewSHA1(namespace, []byte(b.String()))
}
