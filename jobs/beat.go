package jobs

import (
	"sync/atomic"
	"time"
)

// A beat shows when a loop last came round.
type beat struct{ at atomic.Int64 }

func newBeat() *beat {
	b := &beat{}
	b.now()
	return b
}

func (b *beat) now()                 { b.at.Store(time.Now().UnixNano()) }
func (b *beat) since() time.Duration { return time.Since(time.Unix(0, b.at.Load())) }
