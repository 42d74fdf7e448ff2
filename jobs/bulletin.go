package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// bulletinEvery is how often what goes on happening is said again.
const bulletinEvery = time.Minute

// A notice is something that happens to many records.
type notice struct {
	level                 slog.Level
	text, webhook, reason string
}

// A bulletin says what became of records: of each kind the first at once, and what follows added up once a minute, so
// that a CRM that refuses thousands of records is a few lines.
type bulletin struct {
	log *slog.Logger

	mu    sync.Mutex
	noted map[notice]*noted
}

type noted struct {
	records int       // since said
	said    time.Time // when last
}

func newBulletin(log *slog.Logger) *bulletin {
	return &bulletin{log: log, noted: map[notice]*noted{}}
}

// note adds records to a kind.
func (b *bulletin) note(kinds map[notice]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for kind, records := range kinds {
		n := b.noted[kind]
		if n == nil {
			n = &noted{}
			b.noted[kind] = n
		}
		n.records += records
		if time.Since(n.said) >= bulletinEvery {
			b.say(kind, n)
		}
	}
}

// flush says what has waited for a minute (all: everything), and forgets kinds that nothing is heard of any more.
func (b *bulletin) flush(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for kind, n := range b.noted {
		switch {
		case !all && time.Since(n.said) < bulletinEvery:
		case n.records > 0:
			b.say(kind, n)
		default:
			delete(b.noted, kind)
		}
	}
}

func (b *bulletin) say(kind notice, n *noted) {
	args := []any{"records", n.records}
	if kind.webhook != "" {
		args = append(args, "webhook", kind.webhook)
	}
	if kind.reason != "" {
		args = append(args, "reason", kind.reason)
	}
	b.log.Log(context.Background(), kind.level, kind.text, args...)
	n.records, n.said = 0, time.Now()
}
