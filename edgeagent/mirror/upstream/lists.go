package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Lists come in pages. These bound them all together: a registry could go on for ever.
const (
	pageSize = 1000
	maxPages = 200
	maxTags  = 100_000
)

// Tags lists a repository's tags that come after one, in the registry's order: at most n, or all if n is 0. more tells whether there are
// others behind. Names that no tag may have are left out. A registry that cannot do it in parts sends all of them, in any order; these
// are sorted.
func (r *Registry) Tags(ctx context.Context, repository, after string, n int) (tags []string, more bool, err error) {
	doing, asked := "list tags of "+repository, pageSize
	if err := oci.CheckRepository(repository); err != nil {
		return nil, false, r.fail(Refused, "list tags", err)
	}
	if n > 0 {
		asked = min(n, pageSize)
	}
	first, form := r.address(repository, "tags", "list"), url.Values{"n": {strconv.Itoa(asked)}}
	if after != "" {
		form.Set("last", after)
	}
	first.RawQuery = form.Encode()
	q := query{doing: doing, url: first, repository: repository, accept: "application/json"}
	err = r.pages(ctx, q, func(raw []byte, _ http.Header, last bool) (enough bool, err error) {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return false, r.fail(ErrorPage, doing, fmt.Errorf("read the list: %w", err))
		}
		if last && tags == nil {
			page.Tags = cutTags(page.Tags, after, asked)
		}
		tags = append(tags, slices.DeleteFunc(page.Tags, func(tag string) bool { return oci.CheckTag(tag) != nil })...)
		if n > 0 && len(tags) >= n {
			more = len(tags) > n || !last
			tags = tags[:n]
			return true, nil
		}
		if len(tags) > maxTags {
			return false, r.failf(Refused, doing, "it has more than %d tags", maxTags)
		}
		return false, nil
	})
	if err != nil {
		return nil, false, err
	}
	return tags, more, nil
}

// cutTags makes the part that was asked for of a list that came at once. A registry that sends the tag that was to be passed, or more than it
// was asked for, does not understand parts, as Docker's own up to 2.8.
func cutTags(all []string, after string, asked int) []string {
	slices.Sort(all)
	if after == "" || len(all) <= asked && !slices.Contains(all, after) {
		return all
	}
	begin, found := slices.BinarySearch(all, after)
	if found {
		begin++
	}
	return all[begin:]
}

// Referrers lists what refers to a manifest: signatures, attestations. artifactType "" means all. A registry without the referrers API is
// asked for the tag under which clients keep the list instead. No list means that nothing refers to it.
func (r *Registry) Referrers(ctx context.Context, repository string, subject oci.Digest, artifactType string) ([]oci.Descriptor, error) {
	doing := fmt.Sprintf("list referrers of %s of %s", subject, repository)
	if err := checkName(repository, subject); err != nil {
		return nil, r.fail(Refused, "list referrers", err)
	}
	first := r.address(repository, "referrers", subject.String())
	if artifactType != "" {
		first.RawQuery = url.Values{"artifactType": {artifactType}}.Encode()
	}
	var all []oci.Descriptor
	err := r.pages(ctx, query{doing: doing, url: first, repository: repository, accept: oci.MediaTypeIndex}, func(raw []byte, h http.Header, _ bool) (enough bool, err error) {
		index, err := oci.ParseManifest(contentType(h), raw)
		if err != nil || !oci.IsIndex(index.MediaType) {
			return false, r.fail(ErrorPage, doing, errors.Join(errors.New("it is no index"), err))
		}
		all = append(all, index.Manifests...)
		return false, nil
	})
	if errors.Is(err, NotFound) || errors.Is(err, Unexpected) || errors.Is(err, ErrorPage) {
		all, err = r.referrersByTag(ctx, repository, subject)
	}
	if err != nil {
		return nil, err
	}
	return ofType(all, artifactType), nil
}

func (r *Registry) referrersByTag(ctx context.Context, repository string, subject oci.Digest) ([]oci.Descriptor, error) {
	m, err := r.Manifest(ctx, repository, subject.ReferrersTag())
	switch {
	case errors.Is(err, NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !oci.IsIndex(m.MediaType):
		return nil, r.failf(ErrorPage, "list referrers by tag "+subject.ReferrersTag()+" of "+repository, "it is no index")
	}
	return m.Manifests, nil
}

// ofType filters a list, whether the registry did or not.
func ofType(all []oci.Descriptor, artifactType string) []oci.Descriptor {
	out := []oci.Descriptor{}
	for _, d := range all {
		if artifactType == "" || d.ArtifactType == artifactType {
			out = append(out, d)
		}
	}
	return out
}

// pages asks for a list, page after page, until take has enough or the last one is there. The next page lies where the first did: only
// the query of its address is taken.
func (r *Registry) pages(ctx context.Context, q query, take func(raw []byte, h http.Header, last bool) (enough bool, err error)) error {
	q.method = http.MethodGet
	for range maxPages {
		raw, h, err := r.document(ctx, q)
		if err != nil {
			return err
		}
		next, more := nextPage(h.Values("Link"))
		if enough, err := take(raw, h, !more); err != nil || enough || !more {
			return err
		}
		page := *q.url
		page.RawQuery = next
		if q.url = &page; next == "" {
			return r.failf(Unexpected, q.doing, "the link to its next page has no query")
		}
	}
	return r.failf(Refused, q.doing, "it has more than %d pages", maxPages)
}

// nextPage finds the query of the link to the next page (RFC 8288).
func nextPage(headers []string) (rawQuery string, more bool) {
	for _, header := range headers {
		for rest := header; ; {
			_, after, found := strings.Cut(rest, "<")
			if !found {
				break
			}
			target, parameters, found := strings.Cut(after, ">")
			if !found {
				break
			}
			parameters, rest, _ = strings.Cut(parameters, ",")
			if !isNext(parameters) {
				continue
			}
			u, err := url.Parse(target)
			if err != nil {
				return "", true
			}
			return u.Query().Encode(), true
		}
	}
	return "", false
}

func isNext(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "next") {
			return true
		}
	}
	return false
}
