package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
)

func isNotKept(err error) bool { return errors.Is(err, registry.ErrNotKept) }

// pruneAtOnce bounds a transaction, and so the memory it takes and how long others wait for it.
const pruneAtOnce = 1000

// Prune forgets the links, tags and referrers of digests that are kept nowhere any more; without their content they are of no use.
// Records that are damaged go with them. Decisions stay. Call it after a collection, not while one is under way.
func (s *Store) Prune(ctx context.Context, kept func(oci.Digest) bool) (forgotten int, err error) {
	for _, bucket := range [][]byte{bucketLinks, bucketTags, bucketReferrers} {
		for from := []byte{}; from != nil; {
			if err := ctx.Err(); err != nil {
				return forgotten, err
			}
			n, next, err := s.pruneSome(bucket, from, kept)
			forgotten += n
			if err != nil {
				return forgotten, err
			}
			from = next
		}
	}
	return forgotten, nil
}

// pruneSome goes through some records of a bucket. next is where to go on, nil at the end.
func (s *Store) pruneSome(bucket, from []byte, kept func(oci.Digest) bool) (n int, next []byte, err error) {
	var gone [][]byte
	err = s.view(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(bucket).Cursor()
		seen := 0
		for key, sealed := cursor.Seek(from); key != nil; key, sealed = cursor.Next() {
			if seen++; seen > pruneAtOnce {
				next = bytes.Clone(key)
				return nil
			}
			if d, whole := digestOf(bucket, key, sealed); !whole || !kept(d) {
				gone = append(gone, bytes.Clone(key))
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return 0, next, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	var batch []*change
	err = s.view(func(tx *bbolt.Tx) error { // what was written since is not what was looked at
		for _, key := range gone {
			if d, whole := digestOf(bucket, key, tx.Bucket(bucket).Get(key)); !whole || !kept(d) {
				batch = append(batch, &change{bucket: bucket, key: key})
			}
		}
		return nil
	})
	if err == nil {
		err = s.commit(batch)
	}
	if err != nil {
		return 0, nil, err
	}
	return len(batch), next, nil
}

// digestOf is the digest without whose content a record is of no use.
func digestOf(bucket, key, sealed []byte) (oci.Digest, bool) {
	value, whole := unseal(bucket, key, sealed)
	if !whole {
		return oci.Digest{}, false
	}
	if bytes.Equal(bucket, bucketTags) {
		var tag registry.Tag
		err := json.Unmarshal(value, &tag)
		return tag.Digest, err == nil
	}
	d, err := oci.ParseDigest(about(key))
	return d, err == nil
}
