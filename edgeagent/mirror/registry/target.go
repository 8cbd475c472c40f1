package registry

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Kind says what a request is for.
type Kind string

// The kinds.
const (
	Ping      Kind = "ping"
	Manifest  Kind = "manifest"
	Blob      Kind = "blob"
	Tags      Kind = "tags"
	Referrers Kind = "referrers"
)

// target is what a request asks for.
type target struct {
	kind Kind
	ref  oci.Reference
}

// parseTarget reads a request's address. The registry is named by the parameter ns, as containerd does, or by the first component of the
// path, as tools do that know only addresses ("127.0.0.1:5440/docker.io/library/nginx"). Nothing but what the grammar of package oci
// lets through comes out.
func parseTarget(u *url.URL, declared func(registry string) bool) (target, error) {
	rest, found := strings.CutPrefix(u.Path, "/v2/")
	if u.Path == "/v2" || found && rest == "" {
		return target{kind: Ping}, nil
	}
	if !found {
		return target{}, &refusal{status: http.StatusNotFound, code: codeUnsupported, message: "this is a registry: everything is below /v2/"}
	}
	kind, name, last := cut(rest)
	if kind == "" {
		return target{}, &refusal{status: http.StatusNotFound, code: codeUnsupported, message: "no such endpoint; there are manifests, blobs, tags/list and referrers"}
	}
	t := target{kind: kind}
	var err error
	if t.ref.Registry, t.ref.Repository, err = names(u, name); err != nil {
		return target{}, err
	}
	if err := t.last(last); err != nil {
		return target{}, err
	}
	if !declared(t.ref.Registry) {
		return target{}, &refusal{status: http.StatusNotFound, code: codeNameUnknown, message: "the fleet declares no registry " + t.ref.Registry}
	}
	return t, nil
}

// cut parts a path at its endpoint. The last one counts: "manifests" may be part of a repository's name.
func cut(path string) (kind Kind, name, last string) {
	if name, found := strings.CutSuffix(path, "/tags/list"); found {
		return Tags, name, ""
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", ""
	}
	path, last = path[:i], path[i+1:]
	for suffix, kind := range map[string]Kind{"/manifests": Manifest, "/blobs": Blob, "/referrers": Referrers} {
		if name, found := strings.CutSuffix(path, suffix); found {
			return kind, name, last
		}
	}
	return "", "", ""
}

// names finds registry and repository.
func names(u *url.URL, name string) (registry, repository string, err error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", "", &refusal{status: http.StatusBadRequest, code: codeNameInvalid, message: "the query cannot be read: " + err.Error()}
	}
	switch ns := query["ns"]; len(ns) {
	case 0:
		registry, repository, _ = strings.Cut(name, "/")
	case 1:
		registry, repository = ns[0], name
	default:
		return "", "", &refusal{status: http.StatusBadRequest, code: codeNameInvalid, message: "ns is given more than once"}
	}
	if err := oci.CheckRegistry(registry); err != nil {
		return "", "", &refusal{status: http.StatusBadRequest, code: codeNameInvalid, message: err.Error()}
	}
	if err := oci.CheckRepository(repository); err != nil {
		return "", "", &refusal{status: http.StatusBadRequest, code: codeNameInvalid, message: err.Error()}
	}
	return registry, repository, nil
}

// last reads the last part of the path.
func (t *target) last(s string) error {
	if t.kind == Tags {
		return nil
	}
	if t.kind == Manifest && !strings.Contains(s, ":") {
		if err := oci.CheckTag(s); err != nil {
			return &refusal{status: http.StatusBadRequest, code: codeManifestInvalid, message: err.Error()}
		}
		t.ref.Tag = s
		return nil
	}
	digest, err := oci.ParseDigest(s)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, code: codeDigestInvalid, message: err.Error()}
	}
	t.ref.Digest = digest
	return nil
}
