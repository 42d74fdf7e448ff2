package sinks

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/leadrelay/leadrelay/jobs"
)

// Why a value cannot be sent; the field's name is put before it. None of them shows the value.
var (
	errNotInteger = errors.New("is no integer")
	errTooLarge   = errors.New("is beyond ±(2^53−1), the integers that JSON receivers read exactly")
	errYear       = errors.New("lies outside the years 0 to 9999")
	errKind       = errors.New("has a value of a kind that cannot be sent")
	errNoNumber   = errors.New("is no number that JSON has")
	errNested     = errors.New("is there twice, or is a value and holds others")
)

func encodeError(field string, why error) error {
	return fmt.Errorf("%w: %s %w", jobs.ErrEncode, field, why)
}

// appendString appends s as JSON.stringify prints it: only what must be escaped is, and what is no UTF-8 becomes
// U+FFFD.
func appendString(dst []byte, s string) []byte {
	if plain(s) {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	dst, _ = jsontext.AppendQuote(dst, s) // the error says that U+FFFD was put in, which is what we want
	return dst
}

// plain reports whether s is printed as it is: the common case, which AppendQuote would copy first.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

// appendText appends a field's value as a JSON string: "" for NULL; numbers and booleans as JavaScript prints them, a
// JSON column's value as JSON.stringify does.
func appendText(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, `""`...), nil
	case string:
		return appendString(dst, v), nil
	case int64:
		return append(strconv.AppendInt(append(dst, '"'), v, 10), '"'), nil
	case float64:
		return append(appendNumber(append(dst, '"'), v), '"'), nil
	case bool:
		return append(strconv.AppendBool(append(dst, '"'), v), '"'), nil
	case jobs.JSON:
		text, err := appendRewritten(nil, v)
		return appendString(dst, string(text)), err
	}
	return dst, errKind
}

// appendJSON appends a field's value as JSON.stringify prints it.
func appendJSON(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return appendString(dst, v), nil
	case int64:
		if v > maxSafe || v < -maxSafe {
			return dst, errTooLarge
		}
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return dst, errNoNumber
		}
		return appendNumber(dst, v), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case jobs.JSON:
		return appendRewritten(dst, v)
	}
	return dst, errKind
}

// appendNumber appends f as String(f) prints it in JavaScript.
func appendNumber(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case f == 0:
		return append(dst, '0') // −0 too
	}
	return jsontext.AppendFloat(dst, f, 64)
}

// maxSafe is Number.MAX_SAFE_INTEGER.
const maxSafe = 1<<53 - 1

// integer reads a field that is an integer on the wire. NULL and blank text are 0; text may be decimal with nothing
// but zeros behind the point, as numeric columns come.
func integer(value any) (int64, error) {
	var n int64
	if v, ok := value.(jobs.JSON); ok { // a number is what it is, other JSON is none
		value = string(v)
	}
	switch v := value.(type) {
	case nil:
		return 0, nil
	case int64:
		n = v
	case float64:
		if v != math.Trunc(v) || math.IsInf(v, 0) || math.IsNaN(v) {
			return 0, errNotInteger
		}
		if math.Abs(v) > maxSafe {
			return 0, errTooLarge
		}
		n = int64(v)
	case string:
		s := strings.TrimSpace(v)
		if s == "" {
			return 0, nil
		}
		if whole, fraction, point := strings.Cut(s, "."); point && strings.Trim(fraction, "0") == "" {
			s = whole
		}
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); errors.Is(err, strconv.ErrRange) {
			return 0, errTooLarge
		} else if err != nil {
			return 0, errNotInteger
		}
	default:
		return 0, errNotInteger
	}
	if n > maxSafe || n < -maxSafe {
		return 0, errTooLarge
	}
	return n, nil
}
