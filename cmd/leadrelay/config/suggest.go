package config

import (
	"strings"
)

// near gives the known word that was most likely meant, "" where none is near.
func near(word string, known []string) string {
	best, least := "", 3
	folded := fold(word)
	for _, k := range known {
		far := distance(folded, fold(k))
		if limit := len(k) / 3; far <= limit && far < least {
			best, least = k, far
		}
	}
	return best
}

// fold takes away what people mix up first: case, and how words are joined.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
}

// distance counts the letters that were left out, put in, changed, or swapped with their neighbour.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last, row [66]int
	for j := 0; j <= len(b); j++ {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
