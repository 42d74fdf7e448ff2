package sources

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
)

// A keyset remembers rows' keys by a 64-bit hash. Two keys of one set that share a hash would hide a row; among a
// million keys the chance of that for the next row is one in 10^13.
type keyset map[uint64]struct{}

func hashKey(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	x := h.Sum64() // FNV's high bits mix badly for short keys; this is the finalizer of MurmurHash3
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func (k keyset) has(key string) bool {
	_, ok := k[hashKey(key)]
	return ok
}

func (k *keyset) add(key string) {
	if *k == nil {
		*k = keyset{}
	}
	(*k)[hashKey(key)] = struct{}{}
}

func (k keyset) equal(other keyset) bool { return maps.Equal(k, other) }

// with returns k and more together; neither is changed.
func (k keyset) with(more keyset) keyset {
	if len(more) == 0 {
		return k
	}
	all := make(keyset, len(k)+len(more))
	maps.Copy(all, k)
	maps.Copy(all, more)
	return all
}

// String is base64 of the sorted hashes, eight bytes each.
func (k keyset) String() string {
	if len(k) == 0 {
		return ""
	}
	b := make([]byte, 0, 8*len(k))
	for _, h := range slices.Sorted(maps.Keys(k)) {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

func parseKeyset(s string) (keyset, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil || len(b)%8 != 0 {
		return nil, fmt.Errorf("%w: its keys are broken", errBookmark)
	}
	k := make(keyset, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		k[binary.BigEndian.Uint64(b)] = struct{}{}
	}
	return k, nil
}
