package sources

import (
	"errors"

	"github.com/lib/pq"
)

// noRow says why an id names no row that a stream can go on behind.
type noRow string

func (e noRow) Error() string { return string(e) }

// IsNoRow reports whether Stream.At failed because of the id that it was given, and not because of the database.
func IsNoRow(err error) bool {
	if _, ok := errors.AsType[noRow](err); ok {
		return true
	}
	refused, ok := errors.AsType[*pq.Error](err)
	if !ok {
		return false
	}
	switch refused.Code { // a text that is no value of the id's type: invalid, or out of range
	case "22P02", "22003", "22007":
		return true
	}
	return false
}
