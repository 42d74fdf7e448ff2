package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// `make torture` asks for the long form. The short one is among the other tests.
var (
	tortureLong = flag.Bool("torture", false, "torture the program in the long form, which `make torture` does")
	tortureSeed = flag.Uint64("torture.seed", uint64(time.Now().UnixNano()), "what all that is random in a torture follows from")
	tortureKeep = flag.Bool("torture.keep", false, "keep what a torture ran in though it did not fail")
	tortureDir  = flag.String("torture.dir", "", "where a torture's table is written and what it ran in is kept when it fails; empty: nowhere")
)

// A scenario is one way in which things go wrong, tried with the real program on real databases.
type scenario struct {
	name    string
	engines []string // what source and ledger stand in
	long    int      // runs of it side by side in the long form
	short   int      // in the short form; 0: it is in the long form alone
	limit   time.Duration
	try     func(o *ordeal)
}

// scenarios are all of them, by the file that they are in.
func scenarios() []scenario {
	return slices.Concat(crashes, changes, operations, daemons, databases)
}

// TestTorture does its worst, and demands that no row is lost and that no more comes twice than what the README promises.
func TestTorture(t *testing.T) {
	t.Parallel()
	began, all := time.Now(), new(tally)
	t.Run("all", func(t *testing.T) {
		for _, s := range scenarios() {
			runs := s.short
			if *tortureLong {
				runs = s.long
			}
			for _, engine := range s.engines {
				for i := range runs {
					t.Run(fmt.Sprintf("%s/%s/%d", s.name, engine, i+1), func(t *testing.T) {
						t.Parallel()
						o := newOrdeal(t, s, engine, i)
						defer all.add(o)
						s.try(o)
					})
				}
			}
		}
	})
	text := fmt.Sprintf("%s\n%s\nseed %d (-torture.seed), %v in all\n", all.text(), all.verdict(), *tortureSeed, time.Since(began).Round(time.Second))
	if t.Failed() {
		text += "FAILED: what failed is above"
		if *tortureDir != "" {
			text += ", and what it ran in, with all logs, is in " + *tortureDir
		}
		text += "\n"
	}
	if *tortureLong {
		fmt.Print("\n" + text)
	} else {
		t.Log("\n" + text)
	}
	if *tortureDir != "" {
		if err := os.WriteFile(filepath.Join(*tortureDir, "table.txt"), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// An ordeal is one run of a scenario: an installation that the worst is done to.
type ordeal struct {
	*site
	engine string
	ledger string // as the configuration names it
	rand   *rand.Rand
	began  time.Time

	lives    []*life
	recorded map[string]time.Time // ids, and when they were first seen delivered in the ledger
	secrets  []string             // that were made: no output may hold them
	stops    bool                 // webhooks are disabled at times
	asked    int                  // commands whose output is kept
	proved   int                  // records that reconcile counted as delivered

	mu sync.Mutex
	figures
}

// newOrdeal makes the folder that a run has to itself. It is kept where the run fails and -torture.dir is given.
func newOrdeal(t *testing.T, s scenario, engine string, i int) *ordeal {
	t.Helper()
	limit := s.limit
	if limit == 0 {
		limit = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	dir := t.TempDir()
	if *tortureDir != "" {
		dir = filepath.Join(*tortureDir, strings.ReplaceAll(fmt.Sprintf("%s-%s-%d", s.name, engine, i+1), " ", "-"))
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil { // another torture's ledger may be there
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !t.Failed() && !*tortureKeep {
				_ = os.RemoveAll(dir)
			}
		})
	}
	of := fnv.New64()
	fmt.Fprint(of, s.name, engine, i)
	o := &ordeal{
		site: &site{t: t, ctx: ctx, dir: dir}, engine: engine, rand: rand.New(rand.NewPCG(*tortureSeed, of.Sum64())), began: time.Now(),
		recorded: map[string]time.Time{}, figures: figures{scenario: s.name, engine: engine, runs: 1, done: map[string]int{}},
	}
	if o.ledger = "sqlite:" + filepath.Join(dir, "ledger.db"); engine == "postgres" {
		o.ledger = newLedger(t, engine)
	}
	return o
}

// part is another installation within a run, in a folder of its own. What is done to it counts in the run's figures when
// it is joined.
func (o *ordeal) part(name string) *ordeal {
	o.t.Helper()
	dir := filepath.Join(o.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		o.t.Fatal(err)
	}
	p := &ordeal{
		site: &site{t: o.t, ctx: o.ctx, dir: dir}, engine: o.engine, ledger: "sqlite:" + filepath.Join(dir, "ledger.db"),
		rand: o.rand, began: time.Now(), recorded: map[string]time.Time{}, figures: figures{done: map[string]int{}},
	}
	if o.engine == "postgres" {
		p.ledger = newLedger(o.t, o.engine)
	}
	return p
}

func (o *ordeal) join(p *ordeal) {
	o.figures.add(&p.figures)
}

// did counts what was done to the program.
func (o *ordeal) did(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[what]++
}

// pick is the long form's value or the short one's.
func pick[T any](short, long T) T {
	if *tortureLong {
		return long
	}
	return short
}

// between is a random time of these bounds.
func (o *ordeal) between(least, most time.Duration) time.Duration {
	return least + time.Duration(o.rand.Int64N(int64(most-least)))
}
