package sources

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/leadrelay/leadrelay/jobs"
)

// A sequence's ids arrive in any order, some never, a few at a time. At every moment the gaps are exactly the ids below
// the highest that were not seen.
func TestGapsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		increment := rapid.SampledFrom([]int64{1, 1, 2, 7, 32}).Draw(t, "increment")
		start := rapid.SampledFrom([]int64{1, 0, -500, math.MinInt64 + 100, math.MaxInt64 - 100*32}).Draw(t, "start")
		ids := make([]int64, rapid.IntRange(1, 100).Draw(t, "ids"))
		for i := range ids {
			ids[i] = start + int64(i)*increment
		}
		order := rapid.Permutation(ids).Draw(t, "order")
		order = order[:rapid.IntRange(1, len(order)).Draw(t, "arrive")]

		seen := map[int64]bool{}
		m := gapsMark{any: true, high: start - increment}
		clock := int64(0)
		for len(order) > 0 {
			n := min(len(order), rapid.IntRange(1, 10).Draw(t, "at once"))
			arrived := slices.Sorted(slices.Values(order[:n]))
			order = order[n:]
			clock++
			split, _ := slices.BinarySearch(arrived, m.high)
			below, above := arrived[:split], arrived[split:]
			for _, id := range below {
				if !m.gaps.holds(id) {
					t.Fatalf("%d is in no gap of %v", id, m.gaps)
				}
			}
			m.gaps = m.gaps.without(below, increment)
			m.gaps = m.gaps.with(between(m.high, above, increment, clock)...)
			if len(above) > 0 {
				m.high = above[len(above)-1]
			}
			for _, id := range arrived {
				seen[id] = true
			}
			missing := 0
			for _, id := range ids {
				want := id < m.high && !seen[id]
				if got := m.gaps.holds(id); got != want {
					t.Fatalf("id %d: in a gap is %v, want %v; high %d, gaps %v", id, got, want, m.high, m.gaps)
				}
				if want {
					missing++
				}
			}
			if got := m.gaps.count(increment); got != missing {
				t.Fatalf("%d ids are missing, count says %d: %v", missing, got, m.gaps)
			}
			read, err := parseGapsMark(m.bookmark())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m.gaps, read.gaps, cmp.AllowUnexported(gap{}), cmp.Comparer(func(a, b gaps) bool { return slices.Equal(a, b) })); diff != "" {
				t.Fatalf("bookmark %s (-want +got):\n%s", m.bookmark(), diff)
			}
		}
	})
}

func TestGapsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) gap {
			after := rapid.Int64Range(0, 60).Draw(t, "after")
			return gap{after, after + rapid.Int64Range(1, 20).Draw(t, "length"), rapid.Int64Range(0, 9).Draw(t, "since")}
		})
		all := rapid.SliceOfN(draw, 0, 12).Draw(t, "gaps")
		merged := gaps(nil)
		for _, g := range all {
			merged = merged.with(g)
		}
		for id := range int64(90) {
			want := slices.ContainsFunc(all, func(g gap) bool { return g.after < id && id < g.before })
			if got := merged.holds(id); got != want {
				t.Fatalf("%d: %v, want %v", id, got, want)
			}
		}
		for i := 1; i < len(merged); i++ {
			if merged[i].after < merged[i-1].before {
				t.Fatalf("%v overlap", merged)
			}
		}
	})
}

func TestBookmarkSize(t *testing.T) {
	m := gapsMark{any: true, high: 1_000_000_000}
	for i := range int64(10_000) {
		m.gaps = append(m.gaps, gap{999_000_000 + 40*i, 999_000_002 + 40*i, 1700000000 + i/1000})
	}
	if n := len(m.bookmark()) / len(m.gaps); n > 6 {
		t.Errorf("%d bytes a gap", n)
	}
}

func TestCreatedMarkText(t *testing.T) {
	set := rapid.Custom(func(t *rapid.T) keyset {
		var k keyset
		for _, key := range rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, "keys") {
			k.add(key)
		}
		return k
	})
	raw := rapid.OneOf(rapid.Just[any]("2023-11-23"), rapid.Just[any](""), rapid.Just[any](int64(-5)), rapid.Just[any](0.25), rapid.Just[any]([]byte{0, 255}))
	rapid.Check(t, func(t *rapid.T) {
		at := func(what string) time.Time {
			return time.UnixMicro(rapid.Int64Range(-1e15, 1e15).Draw(t, what)).UTC()
		}
		m := &createdMark{seen: sightings{set.Draw(t, "dated"), set.Draw(t, "undated")}}
		if rapid.Bool().Draw(t, "low") {
			m.low = at("low")
		}
		if rapid.Bool().Draw(t, "top") {
			top := rapid.Int64().Draw(t, "top")
			m.top = &top
		}
		if rapid.Bool().Draw(t, "pass") {
			m.pass = &createdPass{next: at("next"), undated: rapid.Bool().Draw(t, "reads undated"), seen: sightings{set.Draw(t, "dated"), set.Draw(t, "undated")}}
			m.pass.place.region = rapid.IntRange(0, 3).Draw(t, "region")
			if rapid.Bool().Draw(t, "place") {
				m.pass.place.time, m.pass.place.key = raw.Draw(t, "created"), raw.Draw(t, "key")
			}
		}
		read, err := parseCreatedMark(m.bookmark())
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b keyset) bool { return maps.Equal(a, b) })
		if diff := cmp.Diff(m, read, cmp.AllowUnexported(createdMark{}, createdPass{}, sightings{}, place{}), same); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if again := read.bookmark(); again != m.bookmark() {
			t.Fatalf("%s, then %s", m.bookmark(), again)
		}
	})
}

func TestForeignBookmarks(t *testing.T) {
	for _, b := range []jobs.Bookmark{
		"7", "{}", `{"cursor":"created"`, `{"cursor":"else"}`, `{"cursor":"gaps","high":"7"}`, `{"cursor":"gaps","gaps":[[]]}`,
		`{"cursor":"gaps","gaps":[[1,2]]}`, `{"cursor":"gaps","gaps":[[1,2,0]]}`, `{"cursor":"gaps","more":1}`,
		`{"cursor":"created","seen":"!"}`, `{"cursor":"created","seen":"AA"}`, `{"cursor":"created","next":1,"region":4}`,
		`{"cursor":"created","next":1,"region":1,"key":"t"}`, `{"cursor":"created","next":1,"key":"x"}`,
	} {
		_, gapsErr := parseGapsMark(b)
		_, createdErr := parseCreatedMark(b)
		if !errors.Is(gapsErr, errBookmark) || !errors.Is(createdErr, errBookmark) {
			t.Errorf("%s: %v, %v", b, gapsErr, createdErr)
		}
	}
}

func FuzzGapsMark(f *testing.F) {
	f.Add(`{"cursor":"gaps","high":105,"front":3,"gaps":[[1700000000,7,2,5,9],[1700000001,1,3]]}`)
	f.Add(`{"cursor":"gaps","gaps":[[0,9223372036854775807,1]]}`)
	f.Add(`{"cursor":"gaps","gaps":[[0,0,2],[10,0,1]]}`)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseGapsMark(jobs.Bookmark(s))
		if err != nil {
			return
		}
		for i := range m.gaps {
			if m.gaps[i].before <= m.gaps[i].after || i > 0 && m.gaps[i].after < m.gaps[i-1].before {
				t.Errorf("gaps %v", m.gaps)
			}
		}
		m.gaps.count(1)
		again, err := parseGapsMark(m.bookmark())
		if err != nil || again.bookmark() != m.bookmark() {
			t.Errorf("%s, then %s, %v", m.bookmark(), again.bookmark(), err)
		}
	})
}

func FuzzCreatedMark(f *testing.F) {
	f.Add(`{"cursor":"created","low":1700000000000000,"seen":"AAAAAAAAAAE","next":1700000000000001,"region":1,"created":"t2023-01-01","key":"i7"}`)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseCreatedMark(jobs.Bookmark(s))
		if err != nil {
			return
		}
		again, err := parseCreatedMark(m.bookmark())
		if err != nil || again.bookmark() != m.bookmark() {
			t.Errorf("%s, then %s, %v", m.bookmark(), again.bookmark(), err)
		}
	})
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"leads":            `"leads"`,
		"public.Leads":     `"public"."Leads"`,
		`"My.Schema".x`:    `"My.Schema"."x"`,
		`"say ""hi"""`:     `"say ""hi"""`,
		`x"; drop table y`: `"x; drop table y"`,
	} {
		if got := quoteName(in); got != want {
			t.Errorf("quoteName(%s) = %s, want %s", in, got, want)
		}
	}
}

// FuzzQuoteName: whatever stands in a configuration for a table, what goes into a statement are names between quotes, with
// dots between, and nothing else.
func FuzzQuoteName(f *testing.F) {
	for _, name := range []string{"leads", "public.Leads", `"My.Schema".x`, `"say ""hi"""`, `x"; drop table y`, `""`, `"`, ".", "a..b", `"a"b"c"`, "a\x00b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		quoted := quoteName(name)
		var parts []string
		for rest, more := quoted, true; more; {
			if !strings.HasPrefix(rest, `"`) {
				t.Fatalf("%q becomes %s, which is no name", name, quoted)
			}
			var part strings.Builder
			rest = rest[1:]
			for {
				end := strings.IndexByte(rest, '"')
				if end < 0 {
					t.Fatalf("%q becomes %s, which does not end", name, quoted)
				}
				part.WriteString(rest[:end])
				if rest = rest[end+1:]; !strings.HasPrefix(rest, `"`) {
					break
				}
				part.WriteByte('"')
				rest = rest[1:]
			}
			parts = append(parts, part.String())
			if rest, more = strings.CutPrefix(rest, "."); !more && rest != "" {
				t.Fatalf("%q becomes %s, behind which more stands", name, quoted)
			}
		}
		if want := splitName(name); !slices.Equal(parts, want) && !strings.Contains(name, "\x00") {
			t.Fatalf("%q becomes %s, which names %q, want %q", name, quoted, parts, want)
		}
	})
}

func TestKeysetHash(t *testing.T) {
	var k keyset
	for i := range 200_000 {
		k.add(fmt.Sprint(i))
		k.add(fmt.Sprintf("00000000-0000-0000-0000-%012d", i))
	}
	if len(k) != 400_000 {
		t.Errorf("%d keys of 400000: hashes collide", len(k))
	}
	if !strings.HasPrefix(k.String(), keyset{slices.Min(slices.Collect(maps.Keys(k))): {}}.String()[:10]) {
		t.Error("its text is not sorted")
	}
}
