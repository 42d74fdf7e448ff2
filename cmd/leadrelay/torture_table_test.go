package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// figures are what a scenario's runs came to.
type figures struct {
	scenario, engine string
	runs             int
	done             map[string]int // what was done to the program, such as kills
	rows             int            // committed to the source
	records          int            // rows, once for each webhook that wants them
	lost             int            // of records
	duplicates       int            // requests for what had been acknowledged
	most             int            // of them by one kill
	bound            int            // of most: workers and settle buffer
	took             time.Duration
	stints           []*stint // faults of databases, one after the other
}

// add adds another run's.
func (f *figures) add(of *figures) {
	for what, n := range of.done {
		f.done[what] += n
	}
	f.runs += of.runs
	f.rows += of.rows
	f.records += of.records
	f.lost += of.lost
	f.duplicates += of.duplicates
	f.stints = append(f.stints, of.stints...)
	f.most, f.bound, f.took = max(f.most, of.most), max(f.bound, of.bound), max(f.took, of.took)
}

// A tally collects the figures of runs, in the order in which the scenarios are.
type tally struct {
	mu    sync.Mutex
	lines []*figures
}

func (t *tally) add(o *ordeal) {
	f := o.figures
	f.took = time.Since(o.began)
	if *tortureLong { // so that who waits sees it go on
		fmt.Printf("%s, %s: %s, %d records, %d lost, %d duplicates, %.0f s\n", f.scenario, f.engine, counted(f.done), f.records, f.lost, f.duplicates, f.took.Seconds())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.lines, func(l *figures) bool { return l.scenario == f.scenario && l.engine == f.engine })
	if i < 0 {
		t.lines = append(t.lines, &f)
		return
	}
	t.lines[i].add(&f)
}

func (t *tally) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	order := map[string]int{}
	for i, s := range scenarios() {
		order[s.name] = i
	}
	slices.SortFunc(t.lines, func(a, b *figures) int {
		if a.scenario != b.scenario {
			return order[a.scenario] - order[b.scenario]
		}
		return strings.Compare(a.engine, b.engine)
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tDATABASE\tDONE\tRUNS\tROWS\tRECORDS\tLOST\tDUPLICATES\tMOST AT ONE (BOUND)\tSECONDS")
	for _, l := range t.lines {
		bound := "-"
		if l.bound > 0 {
			bound = fmt.Sprintf("%d (%d)", l.most, l.bound)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%.0f\n",
			l.scenario, l.engine, counted(l.done), l.runs, l.rows, l.records, l.lost, l.duplicates, bound, l.took.Seconds())
	}
	if _ = w.Flush(); slices.ContainsFunc(t.lines, func(l *figures) bool { return len(l.stints) > 0 }) { // into memory
		fmt.Fprintln(w, "\nFAULT\tOF\tSECONDS\tACKNOWLEDGED\tWENT ON AFTER\tWARNINGS\tMIB")
	}
	for _, l := range t.lines {
		for _, st := range l.stints {
			fmt.Fprintln(w, st.row())
		}
	}
	_ = w.Flush()
	return b.String()
}

// verdict sums up by database.
func (t *tally) verdict() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kills, lost := map[string]int{}, 0
	for _, l := range t.lines {
		kills[l.engine+" kills"] += l.done["kills"]
		lost += l.lost
	}
	return fmt.Sprintf("%s; %d records lost", counted(kills), lost)
}

// counted is such as "12 kills, 3 pauses".
func counted(of map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d %s", of[what], what))
	}
	return strings.Join(parts, ", ")
}
