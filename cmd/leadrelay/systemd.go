package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/admin"
)

// systemd tells the service manager how the daemon fares; without one it does nothing.
type systemd struct{ log *slog.Logger }

func newSystemd(log *slog.Logger) *systemd { return &systemd{log: log} }

func (s *systemd) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Debug("the service manager was not told", "error", err)
	}
}

func (s *systemd) ready()    { s.notify(daemon.SdNotifyReady) }
func (s *systemd) stopping() { s.notify(daemon.SdNotifyStopping) }

// reloading must carry the monotonic clock, or a Type=notify-reload manager does not believe the READY that follows.
func (s *systemd) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		s.log.Debug("no monotonic clock", "error", err)
	}
	s.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// extendStart keeps the start from timing out while databases are awaited or migrated, until done is called.
func (s *systemd) extendStart(status string) (done func()) {
	return s.every(10*time.Second, func() {
		s.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=%s", (30 * time.Second).Microseconds(), status))
	})
}

// watch feeds the watchdog while health finds nothing stalled, and keeps STATUS= true, until done is called. That the
// daemon stands still is said once.
func (s *systemd) watch(health func() admin.Health) (done func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog's interval cannot be read; it is not fed", "error", err)
	}
	period := 5 * time.Second
	if interval > 0 {
		period = min(period, interval/3)
	}
	stood := false
	return s.every(period, func() {
		now := health()
		if now.Stalled != "" {
			if !stood {
				s.log.Error("the daemon stands still; its watchdog, if there is one, will start it again", "reason", now.Stalled)
			}
			stood = true
			s.notify("STATUS=stalled: " + now.Stalled)
			return
		}
		if stood {
			s.log.Info("the daemon moves again")
		}
		stood = false
		s.notify("STATUS=" + waitingFor(now.Awaited))
		if interval > 0 {
			s.notify(daemon.SdNotifyWatchdog)
		}
	})
}

// every calls f, and again after each period until done is called; done waits for the last call's end.
func (s *systemd) every(period time.Duration, f func()) (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	f() // before READY: systemctl status never says what was before it
	loop.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f()
			}
		}
	})
	return func() {
		cancel()
		loop.Wait()
	}
}
