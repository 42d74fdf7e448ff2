package sources

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"testing"

	"github.com/lib/pq"
)

// TestAwayAndBarred: what is worth waiting for in any case, and what only for who was let in before.
func TestAwayAndBarred(t *testing.T) {
	for _, c := range []struct {
		name         string
		err          error
		away, barred bool
	}{
		{"none", nil, false, false},
		{"refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true, false},
		{"cancelled", context.Canceled, false, false},
		{"too many connections", &pq.Error{Code: "53300"}, true, false},
		{"a statement's time limit", &pq.Error{Code: "57014"}, true, false},
		{"paused in a transaction", &pq.Error{Code: "25P03"}, true, false},
		{"dropped", &pq.Error{Code: "57P04"}, true, false},
		{"wrong password", &pq.Error{Code: "28P01"}, false, true},
		{"no login", &pq.Error{Code: "28000"}, false, true},
		{"no such database", &pq.Error{Code: "3D000"}, false, true},
		{"no right to connect", &pq.Error{Code: "42501", Severity: "FATAL"}, false, true},
		{"no right to a table", &pq.Error{Code: "42501", Severity: "ERROR"}, false, false},
		{"no such table", &pq.Error{Code: "42P01", Severity: "ERROR"}, false, false},
		{"no file", &fs.PathError{Op: "stat", Err: syscall.ENOENT}, false, true},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("stream Lead: %w", err)
		}
		if away, barred := IsUnavailable(err), IsBarred(err); away != c.away || barred != c.barred {
			t.Errorf("%s: away %v, barred %v; want %v, %v", c.name, away, barred, c.away, c.barred)
		}
	}
}
