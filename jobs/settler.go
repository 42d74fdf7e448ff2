package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	settleBatch = 256 // with as many waiting behind a batch: the contract's settle buffer of 512
	settleDelay = 50 * time.Millisecond
)

// A settler records outcomes in batches: a full one, or what came within settleDelay.
type settler struct {
	ledger  Queue
	wait    *waiter
	in      chan Outcome
	open    atomic.Int64                       // outcomes handed over and not settled yet
	settled func(batch []Outcome, held []bool) // after each batch
	failed  func(err error)                    // an error that waiting does not mend, after which it tries again
	lost    *UnrecordedError                   // what run gave up when its time was over; nil: nothing
}

func newSettler(l Queue, w *waiter, settled func([]Outcome, []bool), failed func(error)) *settler {
	return &settler{ledger: l, wait: w, in: make(chan Outcome, settleBatch), settled: settled, failed: failed}
}

// record hands an outcome over; it waits where the ledger does not keep up. ctx says which loop does.
func (s *settler) record(ctx context.Context, o Outcome) {
	s.open.Add(1)
	loop := loopOf(ctx)
	loop.idle()
	s.in <- o
	loop.back()
}

// An UnrecordedError says that a runner stopped before it could record all that it had sent.
type UnrecordedError struct {
	Outcomes int   // of requests that were made: these records are sent again, with the same ids
	Cause    error // why the first of them could not be recorded
}

func (e *UnrecordedError) Error() string {
	return fmt.Sprintf("stopped before %d outcomes could be recorded; these records are sent again: %v", e.Outcomes, e.Cause)
}

func (e *UnrecordedError) Unwrap() error { return e.Cause }

// run settles until in is closed, and then what is left. ctx bounds the last of it: when it ends, what could not be
// recorded is lost, and sent again later.
func (s *settler) run(ctx context.Context) {
	batch := make([]Outcome, 0, settleBatch)
	for {
		batch = batch[:0]
		loopOf(ctx).idle()
		first, ok := <-s.in
		if !ok {
			return
		}
		loopOf(ctx).back()
		batch = append(batch, first)
		timer := time.NewTimer(settleDelay)
	fill:
		for len(batch) < settleBatch {
			select {
			case o, ok := <-s.in:
				if !ok {
					break fill
				}
				batch = append(batch, o)
			case <-timer.C:
				break fill
			}
		}
		timer.Stop()
		s.settle(ctx, batch)
		s.open.Add(-int64(len(batch)))
	}
}

// settle records one batch, however long the ledger is away. An error that waiting does not mend is said and tried
// again too: giving up would leave records leased for as long as this process lives.
func (s *settler) settle(ctx context.Context, batch []Outcome) {
	var why error
	for {
		var held []bool
		err := s.wait.do(ctx, TheLedger, func(ctx context.Context) (err error) {
			if held, err = s.ledger.Settle(ctx, batch); err != nil && ctx.Err() == nil {
				why = err // rather than that the waiting was over
			}
			return err
		})
		if err == nil {
			loopOf(ctx).succeed()
			s.settled(batch, held)
			return
		}
		if ctx.Err() != nil {
			s.lose(batch, cmp.Or(why, errSilent))
			return
		}
		loopOf(ctx).fail(err)
		s.failed(err)
		rest(ctx, 5*time.Second)
	}
}

// errSilent is of a ledger that neither answered nor failed.
var errSilent = errors.New("the ledger does not answer")

// lose counts what is sent again; where nothing was sent, nothing is lost.
func (s *settler) lose(batch []Outcome, why error) {
	for i := range batch {
		if batch[i].Attempt == nil {
			continue
		}
		if s.lost == nil {
			s.lost = &UnrecordedError{Cause: why}
		}
		s.lost.Outcomes++
	}
}
