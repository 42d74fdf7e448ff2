package sources

import (
	"sync"

	"github.com/leadrelay/leadrelay/jobs"
)

// A cache keeps parsed bookmarks: Past asks for one per record and webhook.
type cache[T any] struct {
	mu     sync.RWMutex
	parsed map[jobs.Bookmark]T
	bytes  int
}

// Bounds of a cache; a program with more webhooks than this parses some anew.
const (
	cacheSize  = 20000
	cacheBytes = 4 << 20 // of bookmarks; parsed they take some times as much
)

func (c *cache[T]) get(b jobs.Bookmark, parse func(jobs.Bookmark) (T, error)) (T, error) {
	c.mu.RLock()
	v, ok := c.parsed[b]
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := parse(b)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parsed == nil || len(c.parsed) >= cacheSize || c.bytes > cacheBytes {
		c.parsed, c.bytes = map[jobs.Bookmark]T{}, 0
	}
	c.parsed[b] = v
	c.bytes += len(b)
	return v, nil
}
