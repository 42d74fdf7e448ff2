package sources

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/lib/pq"
)

// A gap is a run of ids that were skipped: those strictly between two ids that were seen. Ends that were seen, rather
// than the first and last id missing, make the arithmetic right for any increment of the sequence, and a lookup by
// range finds ids off the sequence's grid, too.
type gap struct {
	after, before int64
	since         int64 // Unix seconds when it was first noticed
}

// gaps are sorted and do not overlap; they may touch, since an end is not in them.
type gaps []gap

// skips reports whether a sequence with this increment has ids between two that were seen.
func skips(after, before, increment int64) bool {
	return after < before && uint64(before)-uint64(after) > uint64(max(increment, 1))
}

// find returns the index of the gap that holds id.
func (g gaps) find(id int64) (int, bool) {
	i := sort.Search(len(g), func(i int) bool { return g[i].before > id })
	return i, i < len(g) && g[i].after < id
}

// holds reports whether id is in a gap.
func (g gaps) holds(id int64) bool {
	_, ok := g.find(id)
	return ok
}

// without returns g after these ids, ascending, were seen.
func (g gaps) without(ids []int64, increment int64) gaps {
	if len(ids) == 0 {
		return g
	}
	left := make(gaps, 0, len(g)+len(ids))
	for _, one := range g {
		for len(ids) > 0 && ids[0] <= one.after {
			ids = ids[1:]
		}
		seen := false
		for len(ids) > 0 && ids[0] < one.before {
			seen = true
			if skips(one.after, ids[0], increment) {
				left = append(left, gap{one.after, ids[0], one.since})
			}
			one.after = ids[0]
			ids = ids[1:]
		}
		if !seen || skips(one.after, one.before, increment) {
			left = append(left, one)
		}
	}
	return left
}

// with returns g and more, merged; where two overlap the younger's time stands.
func (g gaps) with(more ...gap) gaps {
	if len(more) == 0 {
		return g
	}
	all := append(slices.Clone(g), more...)
	slices.SortFunc(all, func(a, b gap) int {
		return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.before, b.before))
	})
	merged := all[:0]
	for _, one := range all {
		if n := len(merged); n > 0 && one.after < merged[n-1].before {
			last := &merged[n-1]
			last.before = max(last.before, one.before)
			last.since = max(last.since, one.since)
			continue
		}
		merged = append(merged, one)
	}
	return merged
}

// younger returns the gaps that were noticed after since.
func (g gaps) younger(since int64) gaps {
	kept := make(gaps, 0, len(g))
	for _, one := range g {
		if one.since > since {
			kept = append(kept, one)
		}
	}
	return kept
}

// count is how many ids of the sequence are in gaps.
func (g gaps) count(increment int64) int {
	var n uint64
	for _, one := range g {
		n += (uint64(one.before) - uint64(one.after) - 1) / uint64(max(increment, 1))
		if n > math.MaxInt32 { // a table that begins far from its sequence; the number says "many"
			return math.MaxInt32
		}
	}
	return int(n)
}

// arrays are the ends of the gaps, as a statement takes them.
func (g gaps) arrays() (after, before pq.Int64Array) {
	after, before = make(pq.Int64Array, len(g)), make(pq.Int64Array, len(g))
	for i, one := range g {
		after[i], before[i] = one.after, one.before
	}
	return after, before
}

// between returns the gaps that a page of seen ids, ascending, leaves behind from.
func between(from int64, ids []int64, increment, now int64) gaps {
	var found gaps
	for _, id := range ids {
		if skips(from, id, increment) {
			found = append(found, gap{from, id, now})
		}
		from = id
	}
	return found
}

// onGrid reports whether all ids lie in whole increments from the first. Rows that other sequences, or people, gave
// their ids do not; then every integer may be an id.
func onGrid(ids []int64, increment int64) bool {
	if increment <= 1 || len(ids) == 0 {
		return true
	}
	for _, id := range ids {
		if (uint64(id)-uint64(ids[0]))%uint64(increment) != 0 {
			return false
		}
	}
	return true
}
