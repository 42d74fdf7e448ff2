package main

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/leadrelay/leadrelay/jobs"
)

// stderrLog is where the log goes: standard error, with a progress bar that stands there out of the way.
type stderrLog struct {
	to io.Writer

	mu  sync.Mutex
	bar *progressbar.ProgressBar // nil: there is none
}

// Write prints a line of the log where the bar stood; the bar comes back below with its next step.
func (l *stderrLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bar != nil {
		_ = l.bar.Clear()
	}
	return l.to.Write(p)
}

// begin puts up a bar; done takes it down.
func (l *stderrLog) begin(what string) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bar = progressbar.NewOptions(-1,
		progressbar.OptionSetWriter(l.to), progressbar.OptionSetWidth(30), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // else a goroutine of the bar's own draws it, past all locks
		progressbar.OptionEnableColorCodes(coloured(l.to)), progressbar.OptionSetDescription(what))
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.bar.Finish()
		l.bar = nil
	}
}

// countProgress shows how many rows something has come by, where standard error is a terminal.
func (a *app) countProgress(what string) (show func(rows int), done func()) {
	if !terminal(a.stderr) || a.json {
		return nil, func() {}
	}
	l := a.logTo
	done = l.begin(what)
	return func(rows int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.bar.Set(rows)
	}, done
}

// runProgress shows a run as it goes on, where standard error is a terminal.
func (a *app) runProgress() (show func(jobs.Run), done func()) {
	if !terminal(a.stderr) || a.json {
		return nil, func() {}
	}
	l := a.logTo
	done = l.begin("gathering")
	show = func(r jobs.Run) {
		l.mu.Lock()
		defer l.mu.Unlock()
		total := r.Gathered + r.Carried
		finished := total - r.UnderWay()
		if !r.Gathering {
			l.bar.Describe("pushing, with retries")
		}
		if total > 0 {
			l.bar.ChangeMax(total)
			_ = l.bar.Set(min(finished, total-1)) // the last step would clear the bar while retries are awaited
		}
	}
	return show, done
}
