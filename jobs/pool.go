package jobs

import (
	"context"
	"sync"
	"time"
)

// A job is one leased delivery with its body, on its way to a worker.
type job struct {
	delivery Delivery
	webhook  *Webhook
	body     []byte
	probe    bool      // it tells whether a held webhook's endpoint is back
	sendAt   time.Time // not before; zero: at once
}

// A pool holds leased deliveries until a worker takes them. It is bounded twice, together and for each webhook, in
// deliveries and in the bytes of their bodies, so that memory is flat whatever the backlog and one webhook cannot fill it.
// Bytes are counted when a body is put in, so that a page or a claim may pass their bound by what it brings. Webhooks take
// turns, and no webhook has more than its cap of requests under way: one that hangs holds its own few workers. Requests
// of a webhook with a rate begin at their times, and where one was late the next are as far behind it as the rate says.
type pool struct {
	perWebhook int // requests under way for one webhook
	queueLimit int // places for one webhook
	totalLimit int // places together
	byteLimit  int // of bodies together, queued and under way; a webhook has a quarter of it

	mu      sync.Mutex
	ready   sync.Cond // a queue has a job and a free slot, or the pool is closed
	queues  map[string]*queue
	turns   []*queue       // those with a job and a free slot, each once
	places  int            // taken: queued or reserved
	bytes   int            // of bodies
	bulky   map[string]int // by webhook: what its bodies took of late, where that is much
	running int
	workers int       // who call next; 0: unknown
	offered time.Time // since when the first of turns could be taken
	closed  bool
	room    chan struct{} // closed when places become free; nil while nobody waits for them
}

type queue struct {
	webhook  string
	jobs     []job
	reserved int
	running  int
	bytes    int // of bodies
	inTurns  bool
	moved    time.Time // when a request last ended, or the queue began
	began    time.Time // when a request last began; zero: the webhook has no rate
	failures int       // in a row, that may hold the webhook
	open     int       // of the failures: not recorded yet
	alarmed  bool      // a timer takes its turn when it is time for the next
}

func newPool(perWebhook, queueLimit, totalLimit int) *pool {
	p := &pool{
		perWebhook: perWebhook, queueLimit: queueLimit, totalLimit: totalLimit,
		byteLimit: byteLimit, queues: map[string]*queue{}, bulky: map[string]int{},
	}
	p.ready.L = &p.mu
	return p
}

// reserve takes places for wanted jobs by webhook and says how many each got. Where places are lacking it waits for
// them, at most patience and only while one of the queues that lack them moves: waiting for a CRM that hangs would
// starve every webhook behind it.
func (p *pool) reserve(ctx context.Context, wanted map[string]int, patience time.Duration) map[string]int {
	got := make(map[string]int, len(wanted))
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		freed := p.freed() // before looking, so that nothing freed meanwhile is overlooked
		if !p.grant(wanted, got, patience) {
			return got
		}
		select {
		case <-freed:
		case <-timeout.C:
			p.grant(wanted, got, 0)
			return got
		case <-ctx.Done():
			return got
		}
	}
}

// grant gives what there is and reports whether waiting may give more.
func (p *pool) grant(wanted, got map[string]int, patience time.Duration) (wait bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for webhook, n := range wanted {
		n -= got[webhook]
		if n == 0 {
			continue
		}
		q := p.queue(webhook)
		give := max(0, min(n, p.queueLimit-len(q.jobs)-q.reserved, p.totalLimit-p.places))
		if p.bytesFull(q) {
			give = 0
		}
		q.reserved += give
		p.places += give
		got[webhook] += give
		if give < n && q.running+len(q.jobs) > 0 && time.Since(q.moved) < patience {
			wait = true
		}
		p.tidy(q)
	}
	return wait
}

// force takes places for what was claimed, where there are none left too: a claim is bounded by rooms.
func (p *pool) force(webhook string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue(webhook).reserved += n
	p.places += n
}

// put fills reserved places.
func (p *pool) put(jobs []job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range jobs {
		q := p.queue(j.delivery.Webhook)
		q.reserved--
		q.bytes += len(j.body)
		p.bytes += len(j.body)
		p.weigh(q.webhook, len(j.body))
		q.jobs = append(q.jobs, j)
		p.takeTurn(q)
	}
}

// full reports whether the bodies that wait, or are on their way, leave no bytes for another one of a webhook's.
func (p *pool) full(webhook string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[webhook]
	return p.bytes >= p.byteLimit || q != nil && p.bytesFull(q)
}

func (p *pool) bytesFull(q *queue) bool { return p.bytes >= p.byteLimit || q.bytes >= p.byteLimit/4 }

// weigh notes how large a webhook's bodies are, so that no more is claimed than there are bytes for.
func (p *pool) weigh(webhook string, bytes int) {
	bytes = (3*p.bulky[webhook] + bytes) / 4
	if bytes > p.byteLimit/4/p.queueLimit {
		p.bulky[webhook] = bytes
	} else {
		delete(p.bulky, webhook)
	}
}

// unreserve gives places back.
func (p *pool) unreserve(places map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for webhook, n := range places {
		if n == 0 {
			continue
		}
		q := p.queue(webhook)
		q.reserved -= n
		p.places -= n
		p.tidy(q)
	}
	p.signalRoom()
}

// rooms says for Claim what may be leased: webhooks whose queue is half full or more wait until it is not, so that
// claims are few and large.
func (p *pool) rooms() (room map[string]int, limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room = make(map[string]int, len(p.queues)+len(p.bulky))
	for webhook, bytes := range p.bulky {
		room[webhook] = max(1, p.byteLimit/4/bytes)
	}
	for webhook, q := range p.queues {
		taken := len(q.jobs) + q.reserved
		if taken > p.queueLimit/2 || p.bytesFull(q) {
			room[webhook] = 0
		} else if bytes := p.bulky[webhook]; bytes > 0 {
			room[webhook] = max(1, min(p.queueLimit-taken, (p.byteLimit/4-q.bytes)/bytes))
		} else {
			room[webhook] = p.queueLimit - taken
		}
		p.tidy(q) // its last request may have begun too short a time before it ended
	}
	if p.bytes >= p.byteLimit {
		return room, 0
	}
	return room, p.totalLimit - p.places
}

// roomy reports whether rooms has room for every webhook.
func (p *pool) roomy() bool {
	room, limit := p.rooms()
	for _, n := range room {
		if n == 0 {
			return false
		}
	}
	return limit > 0
}

// next waits for a job; false: the pool is closed. Each job taken is given back with done.
func (p *pool) next() (job, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.turn()
	if q == nil {
		return job{}, false
	}
	j := q.jobs[0]
	q.jobs[0] = job{} // lets the body go
	q.jobs = q.jobs[1:]
	if j.webhook.Rate != (Rate{}) {
		q.began = time.Now()
	}
	q.running++
	p.running++
	p.takeTurn(q)
	return j, true
}

// turn waits for a queue whose turn it is; nil: the pool is closed.
func (p *pool) turn() *queue {
	for !p.closed {
		if len(p.turns) == 0 {
			p.ready.Wait()
			continue
		}
		q := p.turns[0]
		p.turns = p.turns[1:]
		p.offered = time.Now()
		q.inTurns = false
		if !q.suspended() {
			return q
		}
	}
	return nil
}

// suspicious is how many failures in a row let a webhook's other records wait until it is known whether it is held.
const suspicious = 10

// suspended reports whether its records wait. They do until all of the failures are recorded: the ledger counts them in a
// row too, and not all of them may have come to it at once. So from the tenth on, those that are under way are recorded
// before any more are sent.
func (q *queue) suspended() bool { return q.failures >= suspicious && q.open > 0 }

// failed counts a failure that may hold the webhook, before its outcome is recorded.
func (p *pool) failed(webhook string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue(webhook)
	q.failures++
	q.open++
}

// answered says that the webhook's endpoint is well.
func (p *pool) answered(webhook string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.queues[webhook]; q != nil && q.failures > 0 {
		q.failures, q.open = 0, 0
		p.takeTurn(q)
	}
}

// judged says that so many failures are recorded, and that the webhooks' states are known.
func (p *pool) judged(failures map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for webhook, n := range failures {
		if q := p.queues[webhook]; q != nil {
			q.open = max(0, q.open-n)
			p.takeTurn(q)
			p.tidy(q)
		}
	}
}

// done gives back a job's slot, its place and the bytes of its body.
func (p *pool) done(webhook string, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue(webhook)
	q.bytes -= bytes
	p.bytes -= bytes
	q.running--
	q.moved = time.Now()
	if p.running >= p.workers { // until now no worker was free to take it
		p.offered = q.moved
	}
	p.running--
	p.places--
	p.takeTurn(q)
	p.tidy(q)
	p.signalRoom()
}

// close lets next end. What is queued stays leased: dropping the lease puts it back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.ready.Broadcast()
}

// stands is for how long a job could be taken and no worker took it, though not all are at work.
func (p *pool) stands() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.turns) == 0 || p.closed || p.running >= p.workers {
		return 0
	}
	return time.Since(p.offered)
}

// idle reports whether nothing is queued, reserved or under way.
func (p *pool) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.places == 0
}

func (p *pool) queue(webhook string) *queue {
	q := p.queues[webhook]
	if q == nil {
		q = &queue{webhook: webhook, moved: time.Now()}
		p.queues[webhook] = q
	}
	return q
}

func (p *pool) takeTurn(q *queue) {
	if q.inTurns || q.alarmed || len(q.jobs) == 0 || q.running >= p.perWebhook || q.suspended() {
		return
	}
	if early := q.early(); early > 0 {
		q.alarmed = true
		time.AfterFunc(early, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			q.alarmed = false
			p.takeTurn(q)
			p.tidy(q)
		})
		return
	}
	q.inTurns = true
	if len(p.turns) == 0 {
		p.offered = time.Now()
	}
	p.turns = append(p.turns, q)
	p.ready.Signal()
}

// longestSpacing is what is kept between two requests of one webhook here, whatever their times in the ledger say: it
// keeps requests that are late from coming all at once. Times that are further apart need no more than the ledger's.
const longestSpacing = time.Second

// early is how long the first job has to wait for its time.
func (q *queue) early() time.Duration {
	j := &q.jobs[0]
	if j.sendAt.IsZero() {
		return 0
	}
	return time.Until(later(j.sendAt, q.began.Add(min(j.webhook.Rate.Spacing(), longestSpacing))))
}

func (p *pool) tidy(q *queue) {
	if len(q.jobs) == 0 && q.reserved == 0 && q.running == 0 && q.open == 0 && !q.alarmed && time.Since(q.began) > longestSpacing {
		delete(p.queues, q.webhook)
	}
}

// freed returns a channel that is closed when places become free.
func (p *pool) freed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room == nil {
		p.room = make(chan struct{})
	}
	return p.room
}

func (p *pool) signalRoom() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}
