package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// takeOver waits until none of these deliveries, which other processes were sending when a run by hand began, is under
// way there any more. A process that lives settles them. Where one died, its lease runs out: what it was sending is then
// taken on into the run, if no other process is quicker. lostOnly: of processes that may live none is waited for.
func (r *Runner) takeOver(ctx context.Context, run string, start RunStart, sending []Flight, lostOnly bool) error {
	if lostOnly {
		sending = slices.DeleteFunc(slices.Clone(sending), func(f Flight) bool { return !f.RanOut })
	}
	pause := 100 * time.Millisecond
	absent := map[uuid.UUID]bool{}
	for len(sending) > 0 {
		rest(ctx, pause)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause = min(2*pause, time.Second)
		err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error {
			_, err := r.reclaim(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("reclaim what a dead process was sending: %w", err)
		}
		still, err := r.elsewhere(ctx, start)
		if err != nil {
			return err
		}
		// Between two of these looks another process may have put one back and not leased it anew yet: only who is
		// absent twice, with what is pending taken on between, has an outcome or is the run's. To take on costs as much
		// as to begin a run, so it is done only where one is absent for the first time.
		newly := false
		sending = slices.DeleteFunc(sending, func(f Flight) bool {
			if now, ok := still[f.ID]; ok {
				delete(absent, f.ID)
				return lostOnly && !now.RanOut // it lives
			}
			again := absent[f.ID]
			absent[f.ID] = true
			newly = newly || !again
			return again
		})
		if newly {
			if err := r.takeOn(ctx, run, start); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeOn takes on into a run what leases that ran out gave back. Nothing is claimed meanwhile: what is claimed counts for
// the run that it is in.
func (r *Runner) takeOn(ctx context.Context, run string, start RunStart) error {
	r.claims.Lock()
	defer r.claims.Unlock()
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error { return r.o.Ledger.TakeOver(ctx, run, start) })
	if err != nil {
		return fmt.Errorf("take on what another process was sending: %w", err)
	}
	nudge(r.wake)
	return nil
}

// elsewhere is what other processes are sending to the webhooks in scope.
func (r *Runner) elsewhere(ctx context.Context, start RunStart) (map[uuid.UUID]Flight, error) {
	sending := map[uuid.UUID]Flight{}
	err := r.wait.do(ctx, TheLedger, func(ctx context.Context) error {
		flights, err := r.o.Ledger.Elsewhere(ctx, start)
		for _, f := range flights {
			sending[f.ID] = f
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("what other processes are sending: %w", err)
	}
	return sending, nil
}
