package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
)

// maxReferrers bounds the list for one digest, as the list itself is bounded on the wire.
const maxReferrers = oci.MaxManifestSize

// get reads one record; registry.ErrNotKept if there is none. One that is damaged is none: then upstream is asked, or nothing is served.
func (s *Store) get(ctx context.Context, bucket []byte, ref oci.Reference, about string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := keyOf(ref, about)
	if err != nil {
		return nil, err
	}
	var value []byte
	err = s.view(func(tx *bbolt.Tx) error {
		sealed := tx.Bucket(bucket).Get(key)
		if sealed == nil {
			return registry.ErrNotKept
		}
		found, whole := unseal(bucket, key, sealed)
		if !whole {
			s.damaged(bucket, ref)
			return registry.ErrNotKept
		}
		value = bytes.Clone(found)
		return nil
	})
	return value, err
}

func (s *Store) damaged(bucket []byte, ref oci.Reference) {
	s.log.Warn("a record of the store of images is damaged; it counts as not there", "kind", string(bucket), "repository", ref.Registry+"/"+ref.Repository)
}

func (s *Store) put(ctx context.Context, bucket []byte, ref oci.Reference, about string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key, err := keyOf(ref, about)
	if err != nil {
		return err
	}
	return s.write(&change{bucket: bucket, key: key, value: seal(bucket, key, value)})
}

// Tag is what a tag led to when it was last seen.
func (s *Store) Tag(ctx context.Context, ref oci.Reference) (registry.Tag, error) {
	return decoded[registry.Tag](s.get(ctx, bucketTags, ref, ref.Tag))
}

// SetTag keeps what a tag leads to.
func (s *Store) SetTag(ctx context.Context, ref oci.Reference, tag registry.Tag) error {
	return s.encoded(ctx, bucketTags, ref, ref.Tag, tag)
}

// Tags lists the tags of a repository after one, at most n, in the order of their bytes, and tells whether there are more.
// registry.ErrNotKept if none was ever seen.
func (s *Store) Tags(ctx context.Context, ref oci.Reference, after string, n int) (tags []string, more bool, err error) {
	begin, err := prefix(ref)
	if err != nil {
		return nil, false, err
	}
	tags = []string{}
	err = s.view(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(bucketTags).Cursor()
		if first, _ := cursor.Seek(begin); !bytes.HasPrefix(first, begin) {
			return registry.ErrNotKept
		}
		from := append(bytes.Clone(begin), after...)
		for key, sealed := cursor.Seek(from); bytes.HasPrefix(key, begin); key, sealed = cursor.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if after != "" && bytes.Equal(key, from) {
				continue
			}
			if _, whole := unseal(bucketTags, key, sealed); !whole {
				s.damaged(bucketTags, ref)
				continue
			}
			if len(tags) >= n {
				more = true
				return nil
			}
			tags = append(tags, string(key[len(begin):]))
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return tags, more, nil
}

// Decision is what upstream decided last about a repository and a credential.
func (s *Store) Decision(ctx context.Context, ref oci.Reference, key registry.Key) (registry.Decision, error) {
	value, err := s.get(ctx, bucketDecisions, ref, string(key[:]))
	if err != nil {
		return registry.Undecided, err
	}
	switch d := registry.Decision(value); d {
	case registry.Allowed, registry.Denied:
		return d, nil
	}
	return registry.Undecided, registry.ErrNotKept // a later version's
}

// SetDecision keeps a decision. Undecided forgets it.
func (s *Store) SetDecision(ctx context.Context, ref oci.Reference, key registry.Key, decision registry.Decision) error {
	switch decision {
	case registry.Allowed, registry.Denied:
		return s.put(ctx, bucketDecisions, ref, string(key[:]), []byte(decision))
	case registry.Undecided:
		if err := ctx.Err(); err != nil {
			return err
		}
		about, err := keyOf(ref, string(key[:]))
		if err != nil {
			return err
		}
		return s.write(&change{bucket: bucketDecisions, key: about})
	}
	return fmt.Errorf("keep decision: %q is none", decision)
}

// Linked tells whether a digest belongs to a repository.
func (s *Store) Linked(ctx context.Context, ref oci.Reference) (bool, error) {
	_, err := s.get(ctx, bucketLinks, ref, ref.Digest.String())
	if isNotKept(err) {
		return false, nil
	}
	return err == nil, err
}

// Link keeps that a digest belongs to a repository.
func (s *Store) Link(ctx context.Context, ref oci.Reference) error {
	return s.put(ctx, bucketLinks, ref, ref.Digest.String(), nil)
}

// Referrers is what was last seen to refer to a digest.
func (s *Store) Referrers(ctx context.Context, ref oci.Reference) ([]oci.Descriptor, error) {
	return decoded[[]oci.Descriptor](s.get(ctx, bucketReferrers, ref, ref.Digest.String()))
}

// SetReferrers keeps what refers to a digest.
func (s *Store) SetReferrers(ctx context.Context, ref oci.Reference, referrers []oci.Descriptor) error {
	return s.encoded(ctx, bucketReferrers, ref, ref.Digest.String(), referrers)
}

func (s *Store) encoded(ctx context.Context, bucket []byte, ref oci.Reference, about string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("keep %s of %s: %w", bucket, ref, err)
	}
	if len(data) > maxReferrers {
		return fmt.Errorf("keep %s of %s: %d bytes, more than %d", bucket, ref, len(data), maxReferrers)
	}
	return s.put(ctx, bucket, ref, about, data)
}

// decoded reads a value. One that an older or newer version wrote otherwise is none.
func decoded[T any](data []byte, err error) (T, error) {
	var value, none T
	if err != nil {
		return none, err
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return none, fmt.Errorf("%w: it cannot be read: %w", registry.ErrNotKept, err)
	}
	return value, nil
}
