package sources

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/leadrelay/leadrelay/jobs"
)

// A createdMark is a position of the created cursor. Every row created before low was seen; of those created later,
// and of those that have no creation time, the ones whose keys it has. Where the stream has versions, read "changed" for
// "created", and a version of a row for a row.
type createdMark struct {
	low  time.Time // zero: before every row
	seen sightings
	pass *createdPass // one that has not come to its end
	top  *int64       // the highest id seen that a sequence gave out, where one feeds the ids
}

// A look is what the created cursor notes of a row: what is to be known again, and its time.
type look struct {
	key string
	at  time.Time // zero: none
}

func (l *look) dated() bool { return !l.at.IsZero() }

// sight is the look of a record of the stream.
func (s *Stream) sight(rec *jobs.Record) look {
	if !s.cfg.versioned() {
		return look{rec.Row, rec.Created}
	}
	key := rec.Row + "\x00" + rec.Version
	if rec.Action == jobs.ActionRemove {
		key += "\x00" + jobs.ActionRemove
	}
	return look{key, rec.Updated}
}

// Sightings are keys of what was seen.
type sightings struct{ dated, undated keyset }

func (s *sightings) has(l look) bool {
	if l.dated() {
		return s.dated.has(l.key)
	}
	return s.undated.has(l.key)
}

func (s *sightings) add(l look) {
	if l.dated() {
		s.dated.add(l.key)
	} else {
		s.undated.add(l.key)
	}
}

func (s *sightings) equal(o *sightings) bool {
	return s.dated.equal(o.dated) && s.undated.equal(o.undated)
}

// A createdPass reads, page by page, first the rows without a time and then all from the mark's low on. When it began
// no transaction was open that had begun before next, so that what it comes by up to there will never grow; at its end
// next is the mark's low.
type createdPass struct {
	next    time.Time
	seen    sightings // created at or after next, or without a time, and come by in this pass
	undated bool      // it reads the rows without a time; else those seen before still stand
	place   place
}

// A place is a row's in the order in which a pass comes by it.
type place struct {
	region int // 0 is the rows without a time
	time   any // raw, of the last row read
	key    any // raw; nil: none of this region yet
}

// createdText is a createdMark's JSON; times are Unix microseconds.
type createdText struct {
	Cursor  string `json:"cursor"`
	Low     *int64 `json:"low,omitempty"`
	Top     *int64 `json:"top,omitempty"`
	Seen    string `json:"seen,omitempty"`
	Blank   string `json:"blank,omitempty"` // seen without a time
	Next    *int64 `json:"next,omitempty"`
	Come    string `json:"come,omitempty"` // seen in the pass
	ComeBl  string `json:"come_blank,omitempty"`
	Blanks  bool   `json:"blanks,omitzero"` // the pass reads those without a time
	Region  int    `json:"region,omitzero"`
	Created string `json:"created,omitempty"`
	Key     string `json:"key,omitempty"`
}

func (m *createdMark) bookmark() jobs.Bookmark {
	t := createdText{Cursor: CursorCreated, Top: m.top, Seen: m.seen.dated.String(), Blank: m.seen.undated.String()}
	micros := func(at time.Time) *int64 {
		if at.IsZero() {
			return nil
		}
		n := at.UnixMicro()
		return &n
	}
	t.Low = micros(m.low)
	if p := m.pass; p != nil {
		next := p.next.UnixMicro()
		t.Next, t.Come, t.ComeBl, t.Blanks = &next, p.seen.dated.String(), p.seen.undated.String(), p.undated
		t.Region, t.Created, t.Key = p.place.region, rawText(p.place.time), rawText(p.place.key)
	}
	text, err := json.Marshal(t)
	if err != nil { // a key that is no UTF-8: the scan goes on from the region's beginning
		t.Created, t.Key = "", ""
		if text, err = json.Marshal(t); err != nil {
			panic(err)
		}
	}
	return jobs.Bookmark(text)
}

func parseCreatedMark(b jobs.Bookmark) (*createdMark, error) {
	m := &createdMark{}
	if b == "" {
		return m, nil
	}
	var t createdText
	if err := json.Unmarshal([]byte(b), &t, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", errBookmark, err)
	}
	if t.Cursor != CursorCreated {
		return nil, fmt.Errorf("%w: its cursor is %q, not created", errBookmark, t.Cursor)
	}
	m.top = t.Top
	if t.Low != nil {
		m.low = time.UnixMicro(*t.Low).UTC()
	}
	var errs [6]error
	m.seen.dated, errs[0] = parseKeyset(t.Seen)
	m.seen.undated, errs[1] = parseKeyset(t.Blank)
	if t.Next != nil {
		p := &createdPass{next: time.UnixMicro(*t.Next).UTC(), undated: t.Blanks, place: place{region: t.Region}}
		p.seen.dated, errs[2] = parseKeyset(t.Come)
		p.seen.undated, errs[3] = parseKeyset(t.ComeBl)
		p.place.time, errs[4] = parseRaw(t.Created)
		p.place.key, errs[5] = parseRaw(t.Key)
		m.pass = p
		if t.Region < 0 || t.Region > 3 || t.Region > 0 && (p.place.time == nil) != (p.place.key == nil) {
			return nil, fmt.Errorf("%w: its place is none", errBookmark)
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("%w: %w", errBookmark, err)
	}
	return m, nil
}

// rawText is a database's value as text that keeps its type.
func rawText(v any) string {
	switch v := v.(type) {
	case string:
		return "t" + v
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case float64:
		return "f" + strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		return "b" + hex.EncodeToString(v)
	}
	return ""
}

func parseRaw(s string) (any, error) {
	if s == "" {
		return nil, nil
	}
	switch v := s[1:]; s[0] {
	case 't':
		return v, nil
	case 'i':
		return strconv.ParseInt(v, 10, 64)
	case 'f':
		return strconv.ParseFloat(v, 64)
	case 'b':
		return hex.DecodeString(v)
	}
	return nil, errors.New("a value of no known type")
}
