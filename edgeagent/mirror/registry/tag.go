package registry

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// Resolution says how a tag became a digest.
type Resolution string

// The resolutions, in the order in which they are tried.
const (
	ByUpstream Resolution = "upstream"
	ByPin      Resolution = "pinned"
	ByMemory   Resolution = "last-seen"
)

// rewriteTag is how old what is kept of a tag grows before it is written again unchanged: pulling writes little to flash.
const rewriteTag = time.Hour

// resolve turns the tag into a digest: upstream's, or else what a signed release pins, or else what was last seen. Only a registry that
// answers can say that there is no such tag. What was last seen is kept even then: a network's log-in page answers 404 as well.
func (c *call) resolve(g grant) (oci.Descriptor, error) {
	descriptor, err := g.descriptor, error(nil)
	if !g.asked {
		descriptor, err = c.ask(c.ctx, c.target, g.credential, c.key(g.credential))
	}
	switch {
	case err == nil:
		c.served.Resolution = ByUpstream
		c.remember(descriptor)
		return descriptor, nil
	case isDenial(err), errors.Is(err, upstream.NotFound), c.ctx.Err() != nil:
		return oci.Descriptor{}, c.withdrawn(g, err)
	}
	if digest, ok := c.cfg.Fleet.Pinned(c.target.ref); ok {
		c.served.Resolution = ByPin
		return oci.Descriptor{Digest: digest}, nil
	}
	tag, tagErr := c.cfg.Meta.Tag(c.ctx, c.target.ref)
	switch {
	case errors.Is(tagErr, ErrNotKept):
		return oci.Descriptor{}, err
	case tagErr != nil:
		return oci.Descriptor{}, tagErr
	}
	c.served.Resolution = ByMemory
	c.w.Header().Set("Holdfast-Tag-Seen", tag.Seen.UTC().Format(time.RFC3339))
	return oci.Descriptor{Digest: tag.Digest, MediaType: tag.MediaType, Size: tag.Size}, nil
}

// remember keeps what upstream says of the tag.
func (c *call) remember(d oci.Descriptor) {
	now := c.cfg.Now()
	kept, err := c.cfg.Meta.Tag(c.ctx, c.target.ref)
	if age := now.Sub(kept.Seen); err == nil && kept.Digest == d.Digest && age >= 0 && age < rewriteTag {
		return
	}
	if err == nil || errors.Is(err, ErrNotKept) {
		tag := Tag{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size, Seen: now, Source: c.target.ref.Registry}
		err = c.cfg.Meta.SetTag(context.WithoutCancel(c.ctx), c.target.ref, tag)
	}
	c.notKept(c.target.ref, "the tag", err)
}
