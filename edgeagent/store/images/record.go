package images

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// A record's key is registry, repository and what it is about, with a zero byte after the first two, which no name has.
var (
	bucketTags      = []byte("tags")      // a tag → registry.Tag
	bucketDecisions = []byte("decisions") // a credential's hash → registry.Decision
	bucketLinks     = []byte("links")     // a digest → nothing
	bucketReferrers = []byte("referrers") // a digest → descriptors
	buckets         = [][]byte{bucketTags, bucketDecisions, bucketLinks, bucketReferrers}
)

func isBucket(name string) bool {
	return slices.ContainsFunc(buckets, func(b []byte) bool { return string(b) == name })
}

var errName = errors.New("no name of a repository")

// prefix begins the keys of a repository.
func prefix(ref oci.Reference) ([]byte, error) {
	if ref.Registry == "" || ref.Repository == "" || strings.ContainsRune(ref.Registry+ref.Repository, 0) {
		return nil, fmt.Errorf("%q: %w", ref.Registry+"/"+ref.Repository, errName)
	}
	return []byte(ref.Registry + "\x00" + ref.Repository + "\x00"), nil
}

// keyOf is the key of what is about one thing in a repository.
func keyOf(ref oci.Reference, about string) ([]byte, error) {
	key, err := prefix(ref)
	if err == nil && about == "" {
		err = fmt.Errorf("%s: neither a tag nor a digest", ref)
	}
	return append(key, about...), err
}

// about is the last part of a key.
func about(key []byte) string {
	_, rest, _ := strings.Cut(string(key), "\x00")
	_, last, _ := strings.Cut(rest, "\x00")
	return last
}

// seal puts a checksum of bucket, key and value before a value: a disk that flips a bit must not turn one answer into another.
func seal(bucket, key, value []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, sum(bucket, key, value)), value...)
}

// unseal gives the value if it is what was written.
func unseal(bucket, key, sealed []byte) ([]byte, bool) {
	if len(sealed) < 8 || binary.BigEndian.Uint64(sealed) != sum(bucket, key, sealed[8:]) {
		return nil, false
	}
	return sealed[8:], true
}

func sum(parts ...[]byte) uint64 {
	h := xxhash.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p)))) // a hash never fails
		h.Write(p)
	}
	return h.Sum64()
}
