package main

import (
	"context"
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
	return slices.Concat(crashes)
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

// An ordeal is one run of a scenario.
type ordeal struct {
	*site
	engine string
	rand   *rand.Rand
	began  time.Time
	figures

	mu    sync.Mutex
	lives []*life
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
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !t.Failed() {
				_ = os.RemoveAll(dir)
			}
		})
	}
	of := fnv.New64()
	fmt.Fprint(of, s.name, engine, i)
	return &ordeal{
		site: &site{t: t, ctx: ctx, dir: dir}, engine: engine, rand: rand.New(rand.NewPCG(*tortureSeed, of.Sum64())), began: time.Now(),
		figures: figures{scenario: s.name, engine: engine, runs: 1, done: map[string]int{}},
	}
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
