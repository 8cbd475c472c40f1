package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

const (
	// maxTags is the longest page of tags: about 1 MB with the longest names there are.
	maxTags = 10000
	// maxReferrers is how many are kept of what refers to one digest.
	maxReferrers = 1000
)

// tags answers with a page of a repository's tags.
func (c *call) tags() error {
	query := c.r.URL.Query()
	n := maxTags
	if given := query.Get("n"); given != "" {
		wanted, err := strconv.ParseUint(given, 10, 31)
		if err != nil {
			return &refusal{status: http.StatusBadRequest, code: codePaginationInvalid, message: "n is no number: " + strconv.Quote(given[:min(len(given), 40)])}
		}
		n = min(n, int(wanted))
	}
	after := query.Get("last")
	if after != "" {
		if err := oci.CheckTag(after); err != nil {
			return &refusal{status: http.StatusBadRequest, code: codePaginationInvalid, message: "last: " + err.Error()}
		}
	}
	page := tagPage{Name: c.target.ref.Repository, Tags: []string{}}
	if n > 0 {
		tags, more, err := c.tagsFrom(after, n)
		if err != nil {
			return err
		}
		page.Tags = append(page.Tags, tags...)
		if more && len(tags) > 0 {
			c.w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, c.next(tags[len(tags)-1], n)))
		}
	}
	return c.json("application/json", page)
}

type tagPage struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// next is the address of the page after this one, by the name the client knows the repository by.
func (c *call) next(last string, n int) string {
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	if ns := c.r.URL.Query().Get("ns"); ns != "" {
		next.Set("ns", ns)
	}
	return c.r.URL.EscapedPath() + "?" + next.Encode()
}

// tagsFrom asks upstream, or else gives the tags that were seen.
func (c *call) tagsFrom(after string, n int) (tags []string, more bool, err error) {
	err = c.discover(func(credential upstream.Credential) (err error) {
		tags, more, err = c.cfg.Upstream.Tags(c.ctx, c.target.ref, credential, after, n)
		return err
	}, func() (err error) {
		tags, more, err = c.cfg.Meta.Tags(c.ctx, c.target.ref, after, n)
		return err
	})
	return tags, more, err
}

// referrers answers with what refers to a digest.
func (c *call) referrers() error {
	index := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{}}
	found, err := c.referrersFrom()
	if err != nil {
		return err
	}
	wanted := c.r.URL.Query().Get("artifactType")
	for _, d := range found {
		if wanted == "" || d.ArtifactType == wanted {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if wanted != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return c.json(oci.MediaTypeIndex, index)
}

// referrersFrom asks upstream, or else gives what was last seen. Upstream's "no such thing" is an empty list, as the specification
// has it; that nothing is known is not.
func (c *call) referrersFrom() (found []oci.Descriptor, err error) {
	err = c.discover(func(credential upstream.Credential) (err error) {
		if found, err = c.cfg.Upstream.Referrers(c.ctx, c.target.ref, credential); err != nil {
			return err
		}
		c.keepReferrers(found)
		return nil
	}, func() (err error) {
		found, err = c.cfg.Meta.Referrers(c.ctx, c.target.ref)
		return err
	})
	if errors.Is(err, upstream.NotFound) {
		return nil, nil
	}
	return found, err
}

func (c *call) keepReferrers(found []oci.Descriptor) {
	kept, err := c.cfg.Meta.Referrers(c.ctx, c.target.ref)
	same := func(a, b oci.Descriptor) bool { return a.Digest == b.Digest }
	if len(found) > maxReferrers || err == nil && slices.EqualFunc(kept, found, same) || errors.Is(err, ErrNotKept) && len(found) == 0 {
		return
	}
	if err == nil || errors.Is(err, ErrNotKept) {
		err = c.cfg.Meta.SetReferrers(context.WithoutCancel(c.ctx), c.target.ref, found)
	}
	c.notKept(c.target.ref, "what refers to it", err)
}

// discover asks upstream for a list, as nobody and then as the caller, and turns to what is kept when it cannot be asked. That a list
// was given decides nothing about content: some registries show lists to more people.
func (c *call) discover(ask func(upstream.Credential) error, kept func() error) error {
	credential, credentialErr := credentialOf(c.r)
	err := ask(upstream.Credential{})
	if err == nil {
		return nil
	}
	denied := isDenial(err)
	if !credential.IsZero() && !errors.Is(err, upstream.Unavailable) {
		err = ask(credential)
	}
	switch {
	case err == nil:
		return nil
	case denied && credentialErr != nil:
		return credentialErr
	case isDenial(err), errors.Is(err, upstream.NotFound), c.ctx.Err() != nil:
		return err
	}
	if err := c.offline(credential); err != nil {
		return err
	}
	if keptErr := kept(); !errors.Is(keptErr, ErrNotKept) {
		return keptErr
	}
	return err
}
