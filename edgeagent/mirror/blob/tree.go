package blob

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Tree yields a manifest or index and all that it names, down to the last layer, each once, the upper before the lower. With it a
// caller lists what must stay, and tells whether an image is complete. An error concerns the descriptor beside it: ErrNotFound if it
// is not in the store (of an index, images for other platforms usually are not), ErrNotManifest if it cannot be read as the manifest it
// is called. After any other error it is unknown what is below: do not collect.
func (s *Store) Tree(ctx context.Context, root oci.Descriptor) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		seen := map[oci.Digest]bool{root.Digest: true}
		for queue := []oci.Descriptor{root}; len(queue) > 0; queue = queue[1:] {
			d := queue[0]
			if err := ctx.Err(); err != nil {
				yield(d, err)
				return
			}
			m, err := s.branch(d)
			if !yield(d, err) {
				return
			}
			for child := range m.Children() {
				if !seen[child.Digest] {
					seen[child.Digest] = true
					queue = append(queue, child)
				}
			}
		}
	}
}

// branch reads what has children, and looks whether the rest is there.
func (s *Store) branch(d oci.Descriptor) (oci.Manifest, error) {
	if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
		_, err := s.Stat(d.Digest)
		return oci.Manifest{}, err
	}
	data, err := s.Bytes(d.Digest, oci.MaxManifestSize)
	if errors.Is(err, oci.ErrTooLarge) {
		return oci.Manifest{}, fmt.Errorf("%w: %w", ErrNotManifest, err)
	}
	if err != nil {
		return oci.Manifest{}, err
	}
	m, err := oci.ParseManifest(d.MediaType, data)
	if err != nil {
		return oci.Manifest{}, fmt.Errorf("%s: %w: %w", d.Digest, ErrNotManifest, err)
	}
	return m, nil
}
