package jobs

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func jobFor(webhook string) job {
	return job{delivery: Delivery{Key: Key{Webhook: webhook}}, webhook: &Webhook{ID: webhook}}
}

func fill(p *pool, webhook string, n int) {
	p.force(webhook, n)
	jobs := make([]job, n)
	for i := range jobs {
		jobs[i] = jobFor(webhook)
	}
	p.put(jobs)
}

func TestPoolTakesTurns(t *testing.T) {
	p := newPool(2, 100, 1000)
	fill(p, "huge", 50)
	fill(p, "small", 2)
	var order []string
	for range 4 {
		j, _ := p.next()
		order = append(order, j.delivery.Webhook)
	}
	if diff := cmp.Diff([]string{"huge", "small", "huge", "small"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(p.turns) != 0 {
		t.Error("huge is at its cap and still has a turn")
	}
	p.done("huge", 0)
	if j, _ := p.next(); j.delivery.Webhook != "huge" {
		t.Errorf("next after a slot came free is %q's", j.delivery.Webhook)
	}
}

func TestPoolReserveDoesNotWaitForAStuckWebhook(t *testing.T) {
	p := newPool(1, 10, 100)
	fill(p, "stuck", 10)
	if _, ok := p.next(); !ok { // one request under way, that never ends
		t.Fatal("no job")
	}
	p.queues["stuck"].moved = time.Now().Add(-time.Hour)
	fill(p, "stuck", 1)
	began := time.Now()
	got := p.reserve(context.Background(), map[string]int{"stuck": 5, "other": 5}, 10*time.Second)
	if diff := cmp.Diff(map[string]int{"stuck": 0, "other": 5}, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited %v for a queue that does not move", took)
	}
}

func TestPoolReserveWaitsForAQueueThatMoves(t *testing.T) {
	p := newPool(4, 4, 100)
	fill(p, "busy", 4)
	go func() {
		for {
			j, ok := p.next()
			if !ok {
				return
			}
			time.Sleep(time.Millisecond)
			p.done(j.delivery.Webhook, len(j.body))
		}
	}()
	defer p.close()
	if got := p.reserve(context.Background(), map[string]int{"busy": 4}, 10*time.Second)["busy"]; got != 4 {
		t.Errorf("got %d of 4 places", got)
	}
}

// TestPoolCounts: whatever is done in whatever order, places add up and no cap is passed.
func TestPoolCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const perWebhook, queueLimit, totalLimit = 2, 5, 12
		p := newPool(perWebhook, queueLimit, totalLimit)
		p.byteLimit = 100
		webhook := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		reserved, queued := map[string]int{}, map[string]int{}
		running, bytes := map[string][]int{}, 0 // sizes of bodies
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				w, n := webhook.Draw(t, "webhook"), rapid.IntRange(1, 7).Draw(t, "n")
				reserved[w] += p.reserve(context.Background(), map[string]int{w: n}, 0)[w]
			},
			"put": func(t *rapid.T) {
				if w := webhook.Draw(t, "webhook"); reserved[w] > 0 {
					j := jobFor(w)
					j.body = make([]byte, rapid.IntRange(0, 40).Draw(t, "bytes"))
					p.put([]job{j})
					reserved[w]--
					queued[w]++
					bytes += len(j.body)
				}
			},
			"unreserve": func(t *rapid.T) {
				if w := webhook.Draw(t, "webhook"); reserved[w] > 0 {
					p.unreserve(map[string]int{w: 1})
					reserved[w]--
				}
			},
			"next": func(t *rapid.T) {
				if len(p.turns) == 0 {
					return
				}
				j, _ := p.next()
				queued[j.delivery.Webhook]--
				running[j.delivery.Webhook] = append(running[j.delivery.Webhook], len(j.body))
			},
			"done": func(t *rapid.T) {
				if w := webhook.Draw(t, "webhook"); len(running[w]) > 0 {
					p.done(w, running[w][0])
					bytes -= running[w][0]
					running[w] = running[w][1:]
				}
			},
			"": func(t *rapid.T) {
				places := 0
				for _, w := range []string{"a", "b", "c", "d"} {
					places += reserved[w] + len(running[w]) + queued[w]
					if len(running[w]) > perWebhook {
						t.Fatalf("%s has %d requests under way", w, len(running[w]))
					}
					if queued[w]+reserved[w] > queueLimit {
						t.Fatalf("%s has %d places", w, queued[w]+reserved[w])
					}
					if queued[w] > 0 && len(running[w]) < perWebhook && !p.queues[w].inTurns {
						t.Fatalf("%s has a job and a free slot, and no turn", w)
					}
				}
				if places != p.places || places > totalLimit {
					t.Fatalf("%d places taken, the pool counts %d of %d", places, p.places, totalLimit)
				}
				of := 0
				for _, q := range p.queues {
					of += q.bytes
				}
				if p.bytes != bytes || of != bytes {
					t.Fatalf("bodies of %d bytes are there, the pool counts %d, its queues %d", bytes, p.bytes, of)
				}
				if p.idle() != (places == 0) {
					t.Fatalf("idle is %v with %d places taken", p.idle(), places)
				}
			},
		})
	})
}

// TestPoolBoundsBytes: large bodies take a webhook's room, and the pool's, before their number does.
func TestPoolBoundsBytes(t *testing.T) {
	p := newPool(8, 100, 1000)
	p.byteLimit = 4000
	large := func(webhook string, n, bytes int) {
		t.Helper()
		p.force(webhook, n)
		for range n {
			j := jobFor(webhook)
			j.body = make([]byte, bytes)
			p.put([]job{j})
		}
	}
	want := func(when string, free map[string]int, limit int) {
		t.Helper()
		room, got := p.rooms()
		if diff := cmp.Diff(free, room); diff != "" || limit != got {
			t.Errorf("%s: room for %d, want %d (-want +got):\n%s", when, got, limit, diff)
		}
	}
	large("a", 2, 400)
	want("two of what it may have", map[string]int{"a": 1}, 998)
	large("a", 1, 400)
	large("b", 1, 5)
	want("a has more than its quarter", map[string]int{"a": 0, "b": 99}, 996)
	if got := p.reserve(context.Background(), map[string]int{"a": 2, "b": 2}, 0); got["a"] != 0 || got["b"] != 2 {
		t.Errorf("places %v", got)
	}
	p.unreserve(map[string]int{"b": 2})
	if !p.full("a") || p.full("b") || p.full("c") {
		t.Errorf("full: a %v, b %v, c %v", p.full("a"), p.full("b"), p.full("c"))
	}
	large("c", 1, 3000)
	want("more than all may have", map[string]int{"a": 0, "b": 0, "c": 0}, 0)
	if !p.full("d") {
		t.Error("there are bytes for another webhook")
	}
	for range 5 {
		j, _ := p.next()
		p.done(j.delivery.Webhook, len(j.body))
	}
	// What a webhook's bodies took is remembered for the next claim, until they are small.
	want("nothing is left", map[string]int{"a": 4, "c": 1}, 1000)
	large("a", 20, 1)
	want("small ones came", map[string]int{"a": 80, "c": 1}, 980)
}

func TestPoolUnderWorkers(t *testing.T) {
	p := newPool(3, 50, 200)
	var mu sync.Mutex
	seen, running, most := map[string]int{}, map[string]int{}, 0
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for {
				j, ok := p.next()
				if !ok {
					return
				}
				w := j.delivery.Webhook
				mu.Lock()
				running[w]++
				most = max(most, running[w])
				mu.Unlock()
				time.Sleep(50 * time.Microsecond)
				mu.Lock()
				running[w]--
				seen[w]++
				mu.Unlock()
				p.done(w, 0)
			}
		})
	}
	want := map[string]int{}
	for round := range 20 {
		wanted := map[string]int{}
		for w := range 5 {
			wanted[fmt.Sprint("w", w)] = round
		}
		got := p.reserve(context.Background(), wanted, time.Second)
		for w, n := range got {
			want[w] += n
			for range n {
				p.put([]job{jobFor(w)})
			}
		}
	}
	for !p.idle() {
		time.Sleep(time.Millisecond)
	}
	p.close()
	workers.Wait()
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("jobs done (-want +got):\n%s", diff)
	}
	if most > 3 {
		t.Errorf("%d requests under way for one webhook, the cap is 3", most)
	}
}

// TestPoolStands: jobs that no worker takes, though some have nothing to do, are told from those that wait for a worker or
// for their webhook's cap.
func TestPoolStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 100, 1000)
		p.workers = 2
		stands := func(name string, want time.Duration) {
			t.Helper()
			time.Sleep(time.Minute)
			if got := p.stands(); got != want {
				t.Errorf("%s: it stands for %v, want %v", name, got, want)
			}
		}
		stands("empty", 0)
		fill(p, "a", 2)
		stands("two jobs and no worker that comes", time.Minute)
		p.next()
		stands("the other waits for its webhook's cap", 0)
		fill(p, "b", 1)
		stands("another's and no worker that comes", time.Minute)
		fill(p, "c", 1)
		stands("and one more", 2*time.Minute)
		p.next()
		stands("all workers are at work", 0)
		p.done("a", 0)
		p.done("b", 0)
		stands("they are back, and nobody comes", time.Minute)
		p.close()
		stands("closed", 0)
	})
}
