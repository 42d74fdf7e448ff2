package jobs

import (
	"errors"
	"time"
)

// The LastError of deliveries that are dead without an attempt to blame.
const (
	RowGone      = "row_gone"
	RowMoved     = "row_of_another_chatbot"
	NewerVersion = "newer_version"
)

// errInternal is the reason of a fault of our own.
const errInternal = "internal_error"

// maxRetryAfter is how long an endpoint may put a retry off.
const maxRetryAfter = time.Hour

// acknowledged is the outcome of an attempt that the CRM acknowledged.
func acknowledged(d Delivery, a Answer, began, now time.Time) Outcome {
	lease := d.Lease
	d.Attempts++
	d.State, d.Reason, d.InRound = Delivered, "", false
	d.SettledAt, d.TestAnswer, d.Lease = now, a.Test, ""
	return Outcome{
		Delivery: d, Lease: lease,
		Attempt: &Attempt{At: began, Duration: now.Sub(began), Status: a.Status, Word: a.Word},
	}
}

// refused is the outcome of a failed attempt: pending at the next offset from the round's first failure, or, where
// none is left, spent and pending at nextFire, or dead where it has been owed for giveUpAfter (0: for ever). Giving up
// is judged only here, when a round ends, and never before the second: an outage of our own costs nobody a record.
// With oneRound there is no second.
func refused(d Delivery, refusal *RefusedError, retryAt []time.Duration, began, now, nextFire time.Time, giveUpAfter time.Duration, oneRound bool) Outcome {
	o := Outcome{
		Lease: d.Lease,
		Attempt: &Attempt{
			At: began, Duration: now.Sub(began), Status: refusal.Status, Error: refusal.Reason, Word: refusal.Word,
			Fault: refusal.Fault, RetryAfter: min(refusal.RetryAfter, maxRetryAfter),
		},
	}
	asked := now.Add(o.Attempt.RetryAfter)
	d.Attempts++
	d.Lease, d.LastError = "", refusal.Reason
	if d.FirstFailedAt.IsZero() {
		d.FirstFailedAt = now
	}
	if !d.InRound {
		d.InRound, d.RoundFailedAt = true, now
	}
	d.State = Pending
	if at, ok := NextRetry(retryAt, d.RoundFailedAt, now); ok {
		d.NextAt = later(at, asked)
		o.Delivery = d
		return o
	}
	o.Spent = true
	d.InRound = false
	d.Rounds++
	d.NextAt = later(nextFire, asked)
	switch {
	case oneRound:
		d.State, d.Reason, d.SettledAt = Dead, Exhausted, now
	case giveUpAfter > 0 && d.Rounds >= 2 && now.Sub(d.FirstFailedAt) >= giveUpAfter:
		d.State, d.Reason, d.SettledAt = Dead, Expired, now
	}
	o.Delivery = d
	return o
}

// died is the outcome of a leased delivery that cannot be sent.
func died(d Delivery, reason Reason, why string, now time.Time) Outcome {
	lease := d.Lease
	d.State, d.Reason, d.LastError, d.SettledAt, d.Lease = Dead, reason, why, now, ""
	return Outcome{Delivery: d, Lease: lease}
}

// replaced is the outcome of a leased delivery whose row has another version by now, or was marked as deleted.
func replaced(d, newer Delivery, now time.Time) Outcome {
	o := died(d, Superseded, NewerVersion, now)
	o.Newer = &newer
	return o
}

// putBack is the outcome of a leased delivery that was not sent after all; it costs no attempt.
func putBack(d Delivery, at time.Time) Outcome {
	lease := d.Lease
	d.State, d.NextAt, d.Lease = Pending, at, ""
	return Outcome{Delivery: d, Lease: lease}
}

// encodeReason is what the ledger keeps of an encoding error: errors that wrap ErrEncode name a field, never a value.
func encodeReason(err error) string {
	if errors.Is(err, ErrEncode) {
		return err.Error()
	}
	return errInternal
}
