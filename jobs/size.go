package jobs

import (
	"fmt"
	"strconv"
	"strings"
)

// sizeUnits are the units that sizes are written in, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a number of bytes as it is written in the configuration: 512KiB, 5MiB, 1GiB.
func ParseSize(s string) (bytes int, ok bool) {
	for _, unit := range sizeUnits {
		if number, ok := strings.CutSuffix(s, unit.name); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			return int(n) * unit.bytes, err == nil
		}
	}
	return 0, false
}

// SpellSize writes a number of bytes as ParseSize reads it, and one that is no whole KiB in bytes.
func SpellSize(bytes int) string {
	for _, unit := range sizeUnits {
		if bytes >= unit.bytes && bytes%unit.bytes == 0 {
			return strconv.Itoa(bytes/unit.bytes) + unit.name
		}
	}
	return fmt.Sprintf("%d bytes", bytes)
}
