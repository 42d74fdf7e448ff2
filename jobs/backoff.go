package jobs

import (
	"time"

	"github.com/sethvargo/go-retry"
)

// NextRetry is when a delivery whose attempt ended at now is tried again: the first of the offsets, counted from the
// round's first failure, that still lies ahead. An offset that passed while the attempt was under way is skipped for
// the next. ok is false where none is left: the round is spent. offsets ascend, as in Webhook.RetryAt.
//
// The time is stored with the delivery, so that a retry outlives the process that owes it and any other can send it.
func NextRetry(offsets []time.Duration, firstFailed, now time.Time) (at time.Time, ok bool) {
	wait, stop := untilOffsets(offsets, now.Sub(firstFailed)).Next()
	if stop {
		return time.Time{}, false
	}
	return now.Add(wait), true
}

// defaultProbes are the offsets of webhooks that have no retries.
var defaultProbes = []time.Duration{time.Minute, 3 * time.Minute}

// NextProbe is when a webhook that is held since held is probed next: at the retry offsets, counted from when it was
// held, and then again and again as long after as the last of them.
func NextProbe(offsets []time.Duration, held, now time.Time) time.Time {
	if len(offsets) == 0 {
		offsets = defaultProbes
	}
	if at, ok := NextRetry(offsets, held, now); ok {
		return at
	}
	return now.Add(offsets[len(offsets)-1])
}

// untilOffsets waits, from when elapsed has passed, for each offset that lies ahead.
func untilOffsets(offsets []time.Duration, elapsed time.Duration) retry.Backoff {
	return retry.BackoffFunc(func() (wait time.Duration, stop bool) {
		for _, offset := range offsets {
			if offset > elapsed {
				wait, elapsed = offset-elapsed, offset
				return wait, false
			}
		}
		return 0, true
	})
}
