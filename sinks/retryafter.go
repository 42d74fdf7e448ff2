package sinks

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter is how long an answer that says that the endpoint is busy asks to be left alone (RFC 9110, 10.2.3: seconds
// or a date); 0 where it does not, or not in a way that can be read.
func retryAfter(res *http.Response, now time.Time) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	text := res.Header.Get("Retry-After")
	if text != "" && strings.Trim(text, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(text, 10, 31) // out of range: the most that there is
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
