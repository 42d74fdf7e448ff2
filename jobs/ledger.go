package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrBookmarkMoved says that another process, or a change to the webhooks, came first: read again and try again.
	ErrBookmarkMoved = errors.New("the stream's bookmark was moved by another process")
	// ErrLeaseLost says that the lease ran out: what was leased under it may be sent by others.
	ErrLeaseLost = errors.New("lease lost to another process")
	// ErrNotFound says that the ledger holds no such thing.
	ErrNotFound = errors.New("not in the ledger")
)

// A Ledger remembers what is owed and what became of it. It stores keys, times and outcomes, never a record's
// content. Several processes may use one ledger at once: every method is one transaction, and all times are those of
// Now. Methods return an error that wraps a driver's where the database is away; nothing is then half done.
type Ledger interface {
	Leases
	Streams
	Registry
	Queue
	Runs
}

// Leases are how processes hold deliveries. A process has one lease, keeps it while it lives, and sends everything
// under it; when a lease runs out, whatever is still sending under it is owed again, and no attempt was spent.
type Leases interface {
	// Now is the ledger's clock: one clock for all processes on a ledger, whatever their own say.
	Now() time.Time
	// TakeLease begins a lease; owner is for people (host and process id).
	TakeLease(ctx context.Context, owner string, ttl time.Duration) (lease string, err error)
	// KeepLease puts the end of a lease ttl ahead, or says ErrLeaseLost: take another then.
	KeepLease(ctx context.Context, lease string, ttl time.Duration) error
	// DropLease ends a lease and puts back, due at once, what is still sending under it.
	DropLease(ctx context.Context, lease string) error
	// Reclaim puts back what is sending under leases that ran out, and counts it; nothing where one of these, the caller's
	// own, ran out as well: then the ledger was away for long, and other processes live, too.
	Reclaim(ctx context.Context, own ...string) (int, error)
}

// A Generation names what the webhooks were at one time; every change to them makes another. Compare generations for
// difference, never for order: a ledger that was set back to an older copy counts up again from there.
type Generation struct {
	Number int64
	Token  string // random: tells two changes that came to the same number apart
}

// A Stream is what the ledger knows of a stream.
type Stream struct {
	Type       string
	Definition string // Source.Definition of the source that the bookmark belongs to
	Bookmark   Bookmark
	Version    int64      // counts the bookmark's moves and the webhooks' changes
	Generation Generation // of the webhooks at the time of reading
	Fresh      bool       // no page of it was ever entered
	Error      string     // why it is stopped; "" while it runs
}

// Streams keeps the bookmarks.
type Streams interface {
	// Stream returns one stream, or ErrNotFound.
	Stream(ctx context.Context, typ string) (Stream, error)
	// AllStreams returns all, by type.
	AllStreams(ctx context.Context) ([]Stream, error)
	// EnterStream makes a stream that is not there yet; one that is, is left as it is.
	EnterStream(ctx context.Context, typ, definition string, first Bookmark) error
	// ResetStream sets a stream's bookmark and definition and clears its error. What passed before is not known to have
	// been entered any more: Subscription.Steady becomes the bookmark, and nothing is Filled.
	ResetStream(ctx context.Context, typ, definition string, b Bookmark) error
	// StopStream records why a stream cannot go on; "" lets it run again. The bookmark stays.
	StopStream(ctx context.Context, typ, why string) error
}

// A Registered set is all webhooks at one generation.
type Registered struct {
	Generation    Generation
	Webhooks      []Webhook      // by id
	Subscriptions []Subscription // by webhook and type
}

// A Change to the webhooks is applied whole or not at all.
type Change struct {
	Generation    Generation           // of the webhooks it was made from
	Versions      map[string]int64     // of the streams it was made from, by type
	Put           []Webhook            // new, or as they are to be; State and StateReason included
	Subscriptions []Subscription       // new, or as they are to be
	Pull          map[string]time.Time // webhook → its next fire: records waiting for a later one wait for this one
	// Rewanted are webhooks that come to want other records than before. Subscription.Steady becomes the bookmark of its
	// stream, nothing is Filled any more, and a backfill that is under way begins again.
	Rewanted []string
}

// Registry keeps the webhooks.
type Registry interface {
	// Webhooks returns all webhooks and subscriptions. One that signs with another's keys (SignKeyOf) has them in SignKey,
	// OldKey and OldKeyUntil; put back, they are not stored as its own.
	Webhooks(ctx context.Context) (Registered, error)
	// Generation is Registered.Generation, without the rest.
	Generation(ctx context.Context) (Generation, error)
	// ChangeWebhooks applies c, moves the generation on and makes every scan under way read anew. It returns
	// ErrBookmarkMoved where the generation or a version is no longer the one that c names. A webhook that becomes
	// active again has the time it stood still added to its deliveries' FirstFailedAt, and what is due is due.
	ChangeWebhooks(ctx context.Context, c Change) error
	// RemoveWebhook forgets a webhook and its secrets, as a change of c's generation and versions. What it is owed is
	// dead, Removed, and counted; its deliveries' keys stay.
	RemoveWebhook(ctx context.Context, c Change, id string) (undelivered int, err error)
}

// Entries are what one page of a source gave.
type Entries struct {
	Type       string
	Version    int64         // of the stream, as it was read; not looked at for a backfill
	Bookmark   Bookmark      // where the stream, or the backfill, goes to
	Backfill   *Subscription // set: the page is of this subscription's backfill, whose cursor is as read here
	Done       bool          // the backfill has come to its end
	Lease      string        // of those that are sending
	Deliveries []Delivery    // Pending, Sending or Dead; each a key of its own
	Versioned  bool          // the stream has versions: none of Deliveries is sending
	// Missing: the page is none. It is of rows that a reconciliation found missing with the webhooks of Generation, and no
	// bookmark moves.
	Missing    bool
	Generation Generation
}

// A Claim asks for deliveries that are due.
type Claim struct {
	Lease    string
	Webhooks []string       // only these; nil: all
	Each     int            // at most this many a webhook
	Room     map[string]int // webhooks that have another room than Each, 0 included
	Limit    int            // at most this many together
}

// Queue is the deliveries' way through the states.
type Queue interface {
	// Enter records new deliveries and moves the bookmark in one transaction. It reports, for each of e.Deliveries,
	// whether it is new; those that are not are left as they stand. ErrBookmarkMoved (of e.Missing: the webhooks were
	// changed), or ErrLeaseLost where some are sending and the lease was reclaimed: nothing was done.
	//
	// Of a row that has versions one is open at a time: a new one supersedes another that is pending, and waits, with no
	// NextAt, for one that is being sent. What goes as ActionCreate goes as ActionUpdate where something of the row was
	// acknowledged; what is then not wanted, and the removal of a row of which nothing was sent, is not entered.
	Enter(ctx context.Context, e Entries) ([]bool, error)
	// Claim leases pending deliveries that are due, of active webhooks, oldest due first, sharing Limit fairly: each
	// webhook that has something due gives up to its room before any gives more. A held webhook gives one, at NextProbe.
	// One with a rate gives what may be sent soon, each with its SendAt. ErrLeaseLost: it was reclaimed.
	Claim(ctx context.Context, c Claim) ([]Delivery, error)
	// NextDue is when the next pending delivery of a webhook (of these; nil: all) may be claimed; zero: none is pending.
	NextDue(ctx context.Context, webhooks []string) (time.Time, error)
	// Claimable is since when something of these webhooks (nil: all) is due that may be claimed at this moment: like Claim it
	// passes over the webhooks that somebody else holds. Zero: nothing is.
	Claimable(ctx context.Context, webhooks []string) (time.Time, error)
	// Probe lets those of these webhooks that are held be probed now.
	Probe(ctx context.Context, webhooks []string) error
	// Due reports whether something of these webhooks is due, be it that a rate puts it off; of one that is held, only
	// its probe.
	Due(ctx context.Context, webhooks []string) (bool, error)
	// Settle records outcomes whose lease still holds, and reports which did. An acknowledgement that follows
	// failures makes the webhook's spent deliveries due at once, but for those that failed while others of the same
	// webhook were acknowledged: these wait for their fire. A webhook is Held after ten failed attempts in a row that say
	// FaultDown, or twenty that say FaultUnmatched, and then has one record due at a time, at NextProbe; an
	// acknowledgement makes it Active. FaultGone makes it Disabled. A version that waited for the outcome is due; where the
	// outcome is none of success it supersedes the one that was sent.
	Settle(ctx context.Context, outcomes []Outcome) ([]bool, error)
	// States returns each delivery's state; "" where there is no such delivery.
	States(ctx context.Context, ids []uuid.UUID) ([]State, error)
	// Versions returns what is known of these rows of a type at a webhook, by row; of those that had no version: nothing.
	Versions(ctx context.Context, webhook, typ string, rows []string) (map[string]RowVersions, error)
	// Prune forgets attempts and ended runs older than before. Deliveries' keys are never pruned.
	Prune(ctx context.Context, before time.Time) error
}

// A RunKind says what began a run.
type RunKind string

const (
	Scheduled RunKind = "scheduled"
	Manual    RunKind = "manual"
)

// A Run is one gather and push. Deliveries carry its id from when it takes them on until another run does.
type Run struct {
	ID          string
	Kind        RunKind
	Schedule    string // ScheduleKey; "" for a manual one
	FireAt      time.Time
	StartedAt   time.Time
	EndedAt     time.Time // zero while something of it is under way
	Gathering   bool      // its pages are still being read
	Webhooks    []string  // as in RunStart; of a scheduled run: nil, it is those that follow Schedule
	Types       []string
	Chatbots    []string
	Gathered    int // taken on without any attempt before
	Carried     int // taken on from earlier rounds
	Delivered   int // without TestAnswers
	TestAnswers int
	Failed      int // rounds spent in this run; these records stay pending
	Dead        int
	Elsewhere   int // of what other processes were sending to these webhooks when the run began, what they still are; only RunNow says
}

// UnderWay counts the run's records that are neither delivered nor dead and whose round is not spent.
func (r *Run) UnderWay() int {
	return r.Gathered + r.Carried - r.Delivered - r.TestAnswers - r.Failed - r.Dead
}

// Pending counts the run's records that are still owed.
func (r *Run) Pending() int { return r.UnderWay() + r.Failed }

// A RunStart asks for a run.
type RunStart struct {
	Kind     RunKind
	Lease    string
	Schedule string    // ScheduleKey, for a scheduled one
	FireAt   time.Time // for a scheduled one
	Webhooks []string  // whose records it takes on; nil: all
	Types    []string  // only these types' records; nil: all
	Chatbots []string  // only these chatbots' records; nil: all
}

// A Flight is a delivery that some process is sending.
type Flight struct {
	ID     uuid.UUID
	RanOut bool // the lease under which it is sent: unless that is renewed soon, the process has died
}

// Runs keeps what is said of runs, and which fires of a schedule have been.
type Runs interface {
	// LastFire is a schedule's last fire; the first call for a schedule enters now, so that nothing before it is
	// thought missed.
	LastFire(ctx context.Context, schedule string) (time.Time, error)
	// Fire notes that a schedule that begins no runs fired, and reports whether nobody has noted this fire, or a later
	// one, before: it is for the caller then. Unfire takes that back: the last fire is the one before again.
	Fire(ctx context.Context, schedule string, at time.Time) (mine bool, err error)
	Unfire(ctx context.Context, schedule string, at, before time.Time) error
	// StartRun begins a run and takes on, due at once, the pending records of its webhooks that are in no open run,
	// are not waiting for a retry that lies ahead nor for NotBefore: for a manual run all of these, for a scheduled
	// one those that are due. mine is false where this fire began under another lease: the run returned is that one's.
	StartRun(ctx context.Context, s RunStart) (run Run, mine bool, err error)
	// Run returns one run, or ErrNotFound.
	Run(ctx context.Context, id string) (Run, error)
	// Sending counts a run's records that some process is sending.
	Sending(ctx context.Context, id string) (int, error)
	// Elsewhere returns what of s's webhooks, types and chatbots is sending under other leases than s's.
	Elsewhere(ctx context.Context, s RunStart) ([]Flight, error)
	// TakeOver takes on into a run that gathers what StartRun would.
	TakeOver(ctx context.Context, run string, s RunStart) error
	// Gathering returns the runs whose pages are still being read: rows that any process reads meanwhile for a webhook of
	// theirs belong to them. Of manual ones only those under a lease that holds: nobody takes over the others. Webhooks,
	// Types and Chatbots are those of the start.
	Gathering(ctx context.Context) ([]Run, error)
	// GatherDone says that all pages of a run were read.
	GatherDone(ctx context.Context, id string) error
	// Orphans gives this lease the scheduled runs that were left gathering by a lease that ran out, and ends the manual
	// ones; neither where this lease ran out itself, see Reclaim. It returns all scheduled ones that gather under this
	// lease, since the answer to who began one, or took one over, may have been lost.
	Orphans(ctx context.Context, lease string) ([]Run, error)
	// EndRuns closes the runs that are gathered and have nothing under way, and returns those that it closed.
	EndRuns(ctx context.Context) ([]Run, error)
}
