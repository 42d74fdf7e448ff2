package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A writing is an application's sessions, which commit rows of chatbots a and b until they are told to stop: several a
// transaction, some of them held open and committed late, some rolled back.
type writing struct {
	app  *application
	stop context.CancelFunc
	work sync.WaitGroup
}

// startWriting lets this many sessions write, each with so long a pause between its transactions at most.
func startWriting(t *testing.T, app *application, r *rand.Rand, sessions int, pause time.Duration) *writing {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writing{app: app, stop: stop}
	for range sessions {
		own := rand.New(rand.NewPCG(r.Uint64(), 1))
		w.work.Go(func() {
			for ctx.Err() == nil {
				if err := w.transaction(own); err != nil {
					t.Errorf("a writer: %v", err)
					return
				}
				time.Sleep(time.Duration(own.Int64N(int64(pause))))
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

// end lets the transactions that are open end, and returns when they have.
func (w *writing) end() {
	w.stop()
	w.work.Wait()
}

func (w *writing) transaction(r *rand.Rand) error {
	tx, err := w.app.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 1 + r.IntN(6) {
		into := "leads"
		if r.IntN(4) == 0 {
			into = "appointments"
		}
		if _, err := tx.Exec(fmt.Sprintf(insertPerson, into), personOf(string("ab"[r.IntN(2)]))...); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	}
	switch roll := r.IntN(20); {
	case roll < 3: // it is committed when others that began later are
		time.Sleep(w.held(r))
	case roll == 3:
		time.Sleep(w.held(r) / 2)
		return tx.Rollback()
	case roll == 4:
		return tx.Rollback()
	}
	return tx.Commit()
}

// insertPerson is a row of that table with what nobody but the CRM may see.
const insertPerson = `insert into %s (chatbot_id, first_name, last_name, email, phone_number, content, session_id, uri)
	values ($1, $2, $3, $4, $5, $6, $7, $8)`

// personOf are its arguments. No two rows are the same, so that a row's record is known by what it says.
func personOf(chatbot string) []any {
	n := persons.Add(1)
	return []any{
		chatbot, fmt.Sprint(person.first, " ", n), person.last, fmt.Sprint(n, ".", person.email), person.phone,
		fmt.Sprint(person.content, ", ", n), person.session, person.uri,
	}
}

var persons atomic.Int64

// insertPerson commits a lead and returns its id.
func (a *application) insertPerson(chatbot string) (id int64, err error) {
	err = a.db.QueryRow(fmt.Sprintf(insertPerson, "leads")+" returning id", personOf(chatbot)...).Scan(&id)
	return id, err
}

// insertPersons commits rows of that table in one transaction.
func (a *application) insertPersons(table, chatbot string, n int) {
	a.t.Helper()
	tx, err := a.db.Begin()
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for range n {
		if _, err := tx.Exec(fmt.Sprintf(insertPerson, table), personOf(chatbot)...); err != nil {
			a.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		a.t.Fatal(err)
	}
}

// held is how long a transaction is held open. On SQLite nobody else can write meanwhile.
func (w *writing) held(r *rand.Rand) time.Duration {
	if w.app.engine == "sqlite" {
		return time.Duration(r.IntN(300)) * time.Millisecond
	}
	return time.Duration(r.IntN(5000)) * time.Millisecond
}
