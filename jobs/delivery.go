package jobs

import (
	"time"

	"github.com/google/uuid"
)

// A State of a delivery. The only moves are:
//
//	(entered) → pending | sending | dead
//	pending   → sending             claimed, leased to one process
//	sending   → delivered           the CRM gave a matching answer
//	sending   → pending             a failed attempt, or a lease that ran out
//	sending   → dead                with a reason
//	pending   → dead                with a reason
type State string

const (
	Pending   State = "pending"
	Sending   State = "sending"
	Delivered State = "delivered"
	Dead      State = "dead"
)

// A Reason says why a delivery is dead.
type Reason string

const (
	Expired    Reason = "expired"    // give_up_after has passed
	Withdrawn  Reason = "withdrawn"  // its row is gone from the source
	Rejected   Reason = "rejected"   // it cannot be encoded
	Superseded Reason = "superseded" // a newer version of its row goes instead
	Removed    Reason = "removed"    // its webhook was removed
	Exhausted  Reason = "exhausted"  // its dialect allows no further round
)

// A Delivery is one record owed to one webhook. It holds keys, times and outcomes, never the record's content.
type Delivery struct {
	ID uuid.UUID
	Key
	Chatbot       string
	State         State
	Reason        Reason
	Attempts      int       // POSTs whose outcome is known
	Rounds        int       // rounds that were spent
	InRound       bool      // a first attempt failed and retries are left
	FirstFailedAt time.Time // of all rounds; give_up_after counts from here
	RoundFailedAt time.Time // first failure of the current round, or of the last one spent
	SeenAt        time.Time // when the row was first seen: CreateTime of a record that has none
	NotBefore     time.Time // created + settle, where the stream has a settle time
	NextAt        time.Time // when it is due, while pending; zero: when the version of its row that is being sent is settled
	LastError     string    // reason code of the last failed attempt, such as ack_mismatch; or why it is dead
	SettledAt     time.Time // when it was delivered or died
	TestAnswer    bool      // delivered by the answer that a CRM gives to tests
	Run           string    // the run it is in, or was in last; "" for immediate pushes
	Wanted        Actions   // of a version that is entered: the actions that its webhook wants to hear of
	SendAt        time.Time // not to be sent before, where it was claimed for a webhook with a rate
	Lease         string    // the lease it is sent under, while sending
	Claims        int       // how often it was claimed: the same lease may claim it again
}

// An Attempt is one POST whose outcome is known.
type Attempt struct {
	At       time.Time // when it began
	Duration time.Duration
	Status   int    // HTTP status; 0 where no answer came
	Error    string // reason code; "" where it was acknowledged
	Word     string // the answer's status word, masked; "" where it had none

	Fault      Fault         // of a failed one, for the webhook's state; not kept with the attempt
	RetryAfter time.Duration // likewise
}

// An Outcome is what became of one leased delivery. Ledger.Settle records it if the lease still holds.
type Outcome struct {
	Delivery Delivery  // as it is to stand: State, Reason, Attempts, Rounds, times, LastError, TestAnswer
	Lease    string    // under which it was pushed
	Attempt  *Attempt  // nil where nothing was sent (withdrawn, rejected, put back)
	Spent    bool      // this outcome ended a round without an acknowledgement
	Newer    *Delivery // of a version of the row that goes instead, entered with the outcome; nil: none
}
