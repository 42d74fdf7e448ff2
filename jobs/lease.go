package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A holder keeps this process's lease. It knows until when nobody else can have taken what is leased, so that a
// process that was paused, or cut off from the ledger, sends nothing that another may be sending.
type holder struct {
	ledger Leases
	wait   *waiter
	ttl    time.Duration
	log    *slog.Logger

	mu      sync.Mutex
	token   string
	sure    time.Time     // the lease holds at least until then, by our monotonic clock
	begun   time.Time     // when the last renewal that was done began
	since   time.Time     // when the ledger was back, or first there, after too long without a renewal
	changed chan struct{} // closed when token or sure change

	doubted chan struct{} // somebody heard that the lease is lost: look at once
}

func newHolder(l Leases, w *waiter, ttl time.Duration, log *slog.Logger) *holder {
	return &holder{ledger: l, wait: w, ttl: ttl, log: log, changed: make(chan struct{}), doubted: make(chan struct{}, 1)}
}

// take begins the lease; call it before anything else.
func (h *holder) take(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	owner := fmt.Sprintf("%s pid %d", host, os.Getpid())
	return h.wait.do(ctx, TheLedger, func(ctx context.Context) error {
		began := time.Now()
		token, err := h.ledger.TakeLease(ctx, owner, h.ttl)
		if err == nil {
			h.set(token, began)
		}
		return err
	})
}

// keep renews the lease until ctx ends. A lost lease is replaced; what was sent under it is settled by its old token,
// or fenced off. While it fails it is tried more often: others take a lease that ran out for a dead process's soon after
// the ledger is back.
func (h *holder) keep(ctx context.Context) {
	loop, away, unanswered := loopOf(ctx), false, false
	tick := time.NewTicker(h.ttl / 4)
	defer tick.Stop()
	for {
		if !unanswered {
			loop.Pause(h.ttl / 4)
		}
		select {
		case <-ctx.Done():
			if away {
				h.wait.end(TheLedger, ctx.Err())
			}
			return
		case <-tick.C:
		case <-h.doubted:
		}
		if !unanswered {
			loop.ask(TheLedger)
		}
		err := h.renew(ctx)
		unanswered = errors.Is(err, context.DeadlineExceeded) // and asked again: the vigil finds out why
		waits := err != nil && !unanswered && h.wait.unavailable(err)
		switch {
		case waits && !away:
			h.wait.begin(TheLedger)
			h.wait.say(TheLedger, err)
		case waits:
			h.wait.say(TheLedger, err)
		case !waits && away:
			h.wait.end(TheLedger, err)
		}
		away = waits
		switch {
		case err == nil || waits || ctx.Err() != nil:
			loop.succeed()
		case !unanswered:
			loop.fail(err)
		}
		pause := h.ttl / 4
		if err != nil && ctx.Err() == nil {
			pause = min(pause, atMostEvery)
			h.log.Debug("the lease was not renewed; trying again", "error", err)
		}
		tick.Reset(pause)
	}
}

// renew puts the lease's end ahead, or takes another lease where it is lost.
func (h *holder) renew(ctx context.Context) error {
	began, token := time.Now(), h.current()
	attempt, cancel := context.WithTimeout(ctx, h.ttl/2)
	err := h.ledger.KeepLease(attempt, token, h.ttl)
	cancel()
	if err == nil {
		h.set(token, began)
		return nil
	}
	if !errors.Is(err, ErrLeaseLost) {
		return err
	}
	h.log.Warn("the lease ran out; what was in flight may be sent again")
	if err := h.take(ctx); err != nil {
		if ctx.Err() == nil {
			h.log.Error("no new lease", "error", err)
		}
		return fmt.Errorf("take a lease in the ledger: %w", err)
	}
	return nil
}

// current is the lease's token.
func (h *holder) current() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token
}

// holds waits until it is sure that token still holds; false: it does not, or ctx ended.
func (h *holder) holds(ctx context.Context, token string) bool {
	loop := loopOf(ctx)
	defer loop.back()
	for {
		h.mu.Lock()
		// The wall clock too: the monotonic one stands still while the machine sleeps, and the ledger's does not.
		now := time.Now()
		same, sure, changed := h.token == token, now.Before(h.sure) && now.Round(0).Before(h.sure.Round(0)), h.changed
		h.mu.Unlock()
		if !same || sure {
			return same
		}
		loop.idle()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// replaced waits until another lease is held than token, which the ledger no longer knows, or returns ctx's error.
func (h *holder) replaced(ctx context.Context, token string) error {
	loop := loopOf(ctx)
	defer loop.back()
	for {
		h.mu.Lock()
		same, changed := h.token == token, h.changed
		h.mu.Unlock()
		if !same {
			return nil
		}
		nudge(h.doubted)
		loop.idle()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// steady reports whether the ledger has been there all the time for as long as a lease lasts, as far as this process can
// tell: a lease that ran out is a dead process's then. After an outage, of which a process that has just begun does not
// know, it may be that of one that lives and has not come to renew it yet; what that one is sending is not to be sent again.
func (h *holder) steady() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.since) >= h.ttl && !h.missed(time.Now())
}

// missed reports whether so long went by since the last renewal that the leases of others may have run out. The wall clock
// too, as in holds. It needs h.mu.
func (h *holder) missed(now time.Time) bool {
	return now.Sub(h.begun) > h.ttl/2 || now.Round(0).Sub(h.begun.Round(0)) > h.ttl/2
}

// set notes a renewal, or another lease.
func (h *holder) set(token string, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.missed(now) {
		h.since = now
	}
	h.token, h.begun, h.sure = token, began, began.Add(h.ttl)
	close(h.changed)
	h.changed = make(chan struct{})
}
