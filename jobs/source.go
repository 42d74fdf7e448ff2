package jobs

import (
	"context"
	"errors"
	"time"
)

// A Bookmark is a position in a stream, in the words of its source; the ledger keeps it and reads nothing in it.
// "" is the position before every row.
type Bookmark string

// ErrRestored says that the source's sequence stands behind the stream's bookmark: the database was restored or its
// table made anew. The stream stops until `leadrelay stream reset` says where it goes on.
var ErrRestored = errors.New("the source stands behind the stream's bookmark")

// A Page is what one read of a source gave.
type Page struct {
	Records  []Record // oldest first
	Bookmark Bookmark // the position behind them
	Drained  bool     // nothing was left when the page was read
}

// Keys reads the keys of rows, a page at a time. It is for one goroutine.
type Keys interface {
	// Next returns at most limit more records, without Fields; none: there are no more. A row comes once unless it
	// changes meanwhile. After an error it may be called again, and goes on where it was.
	Next(ctx context.Context, limit int) ([]Record, error)
}

// A Source reads the records of one stream. It only reads. All methods are safe for concurrent use.
type Source interface {
	// Type is the stream's type; Definition is a text that changes when the bookmark of another definition would be
	// wrong for this one (another table, id column or cursor).
	Type() string
	Definition() string
	// Versioned reports whether the rows' changes are records too: rows come again when they change, or are marked as
	// deleted, and Record.Version tells the versions of a row apart.
	Versioned() bool
	// Settle is how long after its creation a record is pushed at the earliest.
	Settle() time.Duration

	// End is the position behind every row that is now visible; rows of the last day that are not visible yet, but
	// may come to be, are still ahead of it.
	End(ctx context.Context) (Bookmark, error)
	// After returns at most limit records past b. A row committed late, below rows already returned, is returned by
	// a later call. A record may be returned twice; none is left out. The error is ErrRestored where it applies.
	//
	// What is read at once is bounded in bytes too: a page of large records holds fewer of them, and whether anything is
	// left only Drained says. A record that is too large has a TooLargeError in place of its fields.
	After(ctx context.Context, b Bookmark, limit int) (Page, error)
	// Older returns at most limit records at or behind until (those for which Past is false) and past cursor, a
	// position that Older returned or "", of these chatbots (AllChatbots alone: all), created at or after since and
	// before before (zero: no such bound). A record without a creation time is returned whatever the two are.
	Older(ctx context.Context, cursor, until Bookmark, chatbots []string, since, before time.Time, limit int) (Page, error)
	// CountOlder counts what Older would return from the beginning.
	CountOlder(ctx context.Context, until Bookmark, chatbots []string, since, before time.Time) (int, error)
	// Past reports whether rec was not yet visible at b.
	Past(b Bookmark, rec *Record) (bool, error)
	// Read returns those of these rows that still exist, in any order, whether or not they still match `where`. left are
	// rows that were not looked for, because so many or so large ones were: call it again with these.
	Read(ctx context.Context, rows []string) (records []Record, left []string, err error)
	// Keys begins to read the keys of the rows that meet `where` and came to be as they are (Record.Stands) at or after
	// since, and of those of which that is not known.
	Keys(since time.Time) Keys
	// Lag is the age of the oldest row past b that is visible; 0 where there is none.
	Lag(ctx context.Context, b Bookmark) (time.Duration, error)
	// Describe words a bookmark for people, and counts its gaps.
	Describe(b Bookmark) (position string, gaps int)
	// Wait returns when a row may have come (a notification, another data version), after poll, or with ctx's error.
	// It never returns sooner than a row that was committed before the call could be seen.
	Wait(ctx context.Context, poll time.Duration) error
}
