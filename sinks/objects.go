package sinks

import (
	"slices"
	"strings"

	"github.com/leadrelay/leadrelay/jobs"
)

// appendObject appends the object of all fields whose names begin with prefix, which ends in a dot or is "". Names with
// further dots make objects within. Members stand in the order of the fields, but integer-like names first and
// ascending, for that is the order JavaScript gives them.
func (e *envelope) appendObject(dst []byte, fields []jobs.Field, prefix string) ([]byte, error) {
	dst, err := e.appendMembers(append(dst, '{'), fields, prefix, len(dst)+1)
	return append(dst, '}'), err
}

// appendMembers appends what stands in such an object; empty is how long dst was behind the object's brace.
func (e *envelope) appendMembers(dst []byte, fields []jobs.Field, prefix string, empty int) ([]byte, error) {
	indexed := integerLike(fields, prefix)
	for _, i := range indexed {
		var err error
		if dst, err = e.appendMember(dst, fields, i, prefix, empty); err != nil {
			return dst, err
		}
	}
	for i := range fields {
		if len(indexed) > 0 && slices.Contains(indexed, i) {
			continue
		}
		var err error
		if dst, err = e.appendMember(dst, fields, i, prefix, empty); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// integerLike are the fields whose members' names look like array indexes, ascending.
func integerLike(fields []jobs.Field, prefix string) []int {
	var found []int
	for i := range fields {
		if rest, ok := strings.CutPrefix(fields[i].Name, prefix); ok {
			if name, _, _ := strings.Cut(rest, "."); isIndex(name) {
				found = append(found, i)
			}
		}
	}
	if len(found) > 1 {
		slices.SortStableFunc(found, func(a, b int) int {
			x, _, _ := strings.Cut(fields[a].Name[len(prefix):], ".")
			y, _, _ := strings.Cut(fields[b].Name[len(prefix):], ".")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return strings.Compare(x, y)
		})
	}
	return found
}

// isIndex reports whether ECMAScript takes a member's name for an array index: 0 to 2^32 − 2, in plain decimal.
func isIndex(name string) bool {
	if name == "" || len(name) > 10 || name[0] == '0' && name != "0" {
		return false
	}
	var n uint64
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return false
		}
		n = 10*n + uint64(name[i]-'0')
	}
	return n < 1<<32-1
}

// appendMember appends the member that the field i begins, unless one before it did.
func (e *envelope) appendMember(dst []byte, fields []jobs.Field, i int, prefix string, empty int) ([]byte, error) {
	full := fields[i].Name
	rest, ok := strings.CutPrefix(full, prefix)
	if !ok {
		return dst, nil
	}
	name, _, object := strings.Cut(rest, ".")
	path := full[:len(prefix)+len(name)]
	for j := range fields {
		other := fields[j].Name
		if j == i || !strings.HasPrefix(other, path) {
			continue
		}
		switch within := len(other) > len(path) && other[len(path)] == '.'; {
		case within && object && j < i:
			return dst, nil // it is there
		case within && !object, len(other) == len(path):
			return dst, encodeError(path, errNested)
		}
	}
	if len(dst) > empty {
		dst = append(dst, ',')
	}
	dst = appendString(dst, name)
	dst = append(dst, ':')
	if object {
		return e.appendObject(dst, fields, full[:len(path)+1])
	}
	return e.appendValue(dst, full, fields[i].Value)
}

// appendValue appends a field's value as what it is: NULL is null, a number a number.
func (e *envelope) appendValue(dst []byte, field string, value any) ([]byte, error) {
	if len(e.times) > 0 && slices.Contains(e.times, field[strings.LastIndexByte(field, '.')+1:]) {
		if t, ok := readTime(value); ok {
			return e.appendTime(dst, field, t)
		}
	}
	dst, err := appendJSON(dst, value)
	if err != nil {
		return dst, encodeError(field, err)
	}
	return dst, nil
}
