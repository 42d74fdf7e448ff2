package jobs

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// A Reconciliation is what became of a window of the source's rows: of each row and each webhook that is owed it, the
// state of the delivery. A row that two webhooks are owed counts twice.
type Reconciliation struct {
	Since    time.Time
	Total    Count
	Entered  int       // of what was missing: entered by this reconciliation
	Unread   int       // not counted: the stream's bookmark, or a backfill, has yet to come by
	Balances []Balance // by type and chatbot
	Named    []Missed  // of what was missing the first thousand
}

// A Count is deliveries by what became of them: Source is the sum of the others.
type Count struct {
	Source    int // owed
	Delivered int
	Pending   int // or being sent
	Dead      int
	Missing   int // owed, passed, and not in the ledger
}

// A Balance is a chatbot's rows of one type.
type Balance struct {
	Type    string
	Chatbot string
	Count
	Days []DayCount // by day
}

// A DayCount is the rows that came to be as they are (Record.Stands) on one day, UTC; the zero day: those of which that is
// not known.
type DayCount struct {
	Day time.Time
	Count
}

// A Missed is a row that was owed to a webhook, and not in the ledger.
type Missed struct {
	Type, Chatbot, Webhook, Row string
	Day                         time.Time // as of DayCount
}

// namedAtMost is how many missing rows a reconciliation names.
const namedAtMost = 1000

// Window is the beginning of the UTC day so many days before now.
func Window(now time.Time, days int) time.Time {
	year, month, day := now.UTC().Date()
	return time.Date(year, month, day-days, 0, 0, 0, 0, time.UTC)
}

func (c *Count) add(state State) {
	c.Source++
	switch state {
	case Delivered:
		c.Delivered++
	case Pending, Sending:
		c.Pending++
	case Dead:
		c.Dead++
	default:
		c.Missing++
	}
}

// Add adds o to c.
func (c *Count) Add(o Count) {
	c.Source += o.Source
	c.Delivered += o.Delivered
	c.Pending += o.Pending
	c.Dead += o.Dead
	c.Missing += o.Missing
}

// A tallySheet counts by chatbot and day: it grows with these, and not with the rows.
type tallySheet map[string]map[int32]*Count // chatbot → days since 1970

const noDay = math.MinInt32

func dayOf(rec *Record) int32 {
	at := rec.Stands()
	if at.IsZero() {
		return noDay
	}
	const day = 24 * 60 * 60
	unix := at.Unix()
	if unix < 0 {
		unix -= day - 1
	}
	return int32(unix / day)
}

func dayTime(day int32) time.Time {
	if day == noDay {
		return time.Time{}
	}
	return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, time.UTC)
}

func (t tallySheet) add(rec *Record, state State) {
	days := t[rec.Chatbot]
	if days == nil {
		days = map[int32]*Count{}
		t[rec.Chatbot] = days
	}
	day := dayOf(rec)
	if days[day] == nil {
		days[day] = &Count{}
	}
	days[day].add(state)
}

// balances are the sheet of one type, by chatbot.
func (t tallySheet) balances(typ string) []Balance {
	all := make([]Balance, 0, len(t))
	for _, chatbot := range slices.Sorted(maps.Keys(t)) {
		b := Balance{Type: typ, Chatbot: chatbot}
		for day, count := range t[chatbot] {
			b.Days = append(b.Days, DayCount{dayTime(day), *count})
			b.Add(*count)
		}
		slices.SortFunc(b.Days, func(a, b DayCount) int { return cmp.Compare(a.Day.Unix(), b.Day.Unix()) })
		all = append(all, b)
	}
	return all
}
