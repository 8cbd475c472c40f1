package registry

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// manifest answers GET and HEAD of a manifest.
func (c *call) manifest() error {
	g, err := c.allow()
	if err != nil {
		return err
	}
	ref, proved := c.target.ref, g.asked
	if ref.Tag != "" {
		descriptor, err := c.resolve(g)
		if err != nil {
			return err
		}
		ref = oci.Reference{Registry: ref.Registry, Repository: ref.Repository, Digest: descriptor.Digest}
		proved = c.served.Resolution == ByUpstream
		if proved && c.r.Method == http.MethodHead && descriptor.MediaType != "" && descriptor.Size > 0 {
			return c.described(ref, descriptor)
		}
	}
	if err := c.verified(ref); err != nil {
		return err
	}
	linked := c.linked(ref)
	m, err := c.cfg.Content.Manifest(c.ctx, ref, g.credential)
	if err != nil {
		return c.withdrawn(g, err)
	}
	if !linked {
		if err := c.prove(g, target{Manifest, ref}, proved || m.Proved); err != nil {
			return err
		}
		c.link(ref)
	}
	if c.unchanged(ref.Digest) {
		return nil
	}
	c.w.Header().Set("Content-Type", m.MediaType)
	c.whole(m.Raw)
	return nil
}

// described answers HEAD with what upstream just said.
func (c *call) described(ref oci.Reference, d oci.Descriptor) error {
	if err := c.verified(ref); err != nil {
		return err
	}
	if c.unchanged(ref.Digest) {
		return nil
	}
	c.w.Header().Set("Content-Type", d.MediaType)
	c.w.Header().Set("Content-Length", strconv.FormatInt(d.Size, 10))
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// verified refuses what must be signed and is not.
func (c *call) verified(ref oci.Reference) error {
	err := c.cfg.Fleet.Verified(c.ctx, ref)
	if err == nil || c.ctx.Err() != nil || isUpstream(err) {
		return err
	}
	return &refusal{status: http.StatusForbidden, code: codeDenied, message: fmt.Sprintf("%s must be signed: %v", ref, err)}
}

// linked tells whether it is known that a digest belongs to its repository. If that cannot be read, upstream has to say so again.
func (c *call) linked(ref oci.Reference) bool {
	linked, err := c.cfg.Meta.Linked(c.ctx, ref)
	c.notKept(ref, "that it belongs to its repository", err)
	return linked && err == nil
}

// prove makes sure that a digest belongs to the repository before anything of it is shown. The store knows content by digest alone, and
// what one repository may not show lies beside what another may: only upstream's word, for this repository, opens it.
func (c *call) prove(g grant, t target, proved bool) error {
	if proved {
		return nil
	}
	_, err := c.ask(c.ctx, t, g.credential, c.key(g.credential))
	return c.withdrawn(g, err)
}

// link keeps that a digest belongs to its repository, also for a caller that has left.
func (c *call) link(ref oci.Reference) {
	c.notKept(ref, "that it belongs to its repository", c.cfg.Meta.Link(context.WithoutCancel(c.ctx), ref))
}

// unchanged names the content, and answers a client that has it already.
func (c *call) unchanged(digest oci.Digest) bool {
	h := c.w.Header()
	h.Set("Docker-Content-Digest", digest.String())
	h.Set("ETag", etag(digest))
	if !hasETag(c.r.Header.Values("If-None-Match"), etag(digest)) {
		return false
	}
	c.w.WriteHeader(http.StatusNotModified)
	return true
}
