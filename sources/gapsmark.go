package sources

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/leadrelay/leadrelay/jobs"
)

var errBookmark = errors.New("the bookmark is none of this stream; `leadrelay stream reset` sets a new one")

// A gapsMark is a position of the gaps cursor: every id up to high was seen, but for those in gaps.
type gapsMark struct {
	any  bool // some id was seen; high means nothing otherwise
	high int64
	// front is set while high lies above what the sequence has given out, because somebody chose ids: it is what the
	// sequence had given out. Ids between front and high are yet to come, however long ago the gap was noticed.
	front *int64
	gaps  gaps
}

// gapsText is a gapsMark's JSON. Gaps that were noticed in the same second stand together: the second, then the ends,
// each as the difference from the one before, which keeps a bookmark of many gaps small.
type gapsText struct {
	Cursor string    `json:"cursor"`
	High   *int64    `json:"high,omitempty"`
	Front  *int64    `json:"front,omitempty"`
	Gaps   [][]int64 `json:"gaps,omitempty"`
}

func (m *gapsMark) bookmark() jobs.Bookmark {
	t := gapsText{Cursor: CursorGaps, Front: m.front}
	if m.any {
		t.High = &m.high
	}
	group := map[int64]int{}
	last := []int64{}
	for _, g := range m.gaps {
		i, ok := group[g.since]
		if !ok {
			i = len(t.Gaps)
			group[g.since] = i
			t.Gaps = append(t.Gaps, []int64{g.since})
			last = append(last, 0)
		}
		// Differences may overflow; going back they overflow the same way.
		t.Gaps[i] = append(t.Gaps[i], g.after-last[i], g.before-g.after)
		last[i] = g.before
	}
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // integers and one word
	}
	return jobs.Bookmark(text)
}

func parseGapsMark(b jobs.Bookmark) (*gapsMark, error) {
	if b == "" {
		return &gapsMark{}, nil
	}
	var t gapsText
	if err := json.Unmarshal([]byte(b), &t, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", errBookmark, err)
	}
	if t.Cursor != CursorGaps {
		return nil, fmt.Errorf("%w: its cursor is %q, not gaps", errBookmark, t.Cursor)
	}
	m := &gapsMark{any: t.High != nil, front: t.Front}
	if m.any {
		m.high = *t.High
	}
	var all gaps
	for _, group := range t.Gaps {
		if len(group)%2 != 1 {
			return nil, fmt.Errorf("%w: a gap has one end", errBookmark)
		}
		var last int64
		for i := 1; i < len(group); i += 2 {
			g := gap{after: last + group[i], since: group[0]}
			g.before = g.after + group[i+1]
			if g.before <= g.after {
				return nil, fmt.Errorf("%w: a gap ends before it begins", errBookmark)
			}
			all = append(all, g)
			last = g.before
		}
	}
	m.gaps = all
	for i := 1; i < len(all); i++ {
		if all[i].after < all[i-1].before { // of several groups, or somebody else's
			m.gaps = gaps(nil).with(all...)
			break
		}
	}
	return m, nil
}
