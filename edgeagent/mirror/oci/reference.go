package oci

import (
	"fmt"
	"strings"
)

// Reference is where an image is: "registry.example:5000/library/nginx:1.27@sha256:…". At least one of Tag and Digest is set; if both
// are, the digest decides.
type Reference struct {
	Registry   string
	Repository string
	Tag        string
	Digest     Digest
}

// ParseReference reads an image's name as a pod has it. Short names mean what they mean to Docker and to the kubelet: "nginx" is
// docker.io/library/nginx:latest.
func ParseReference(s string) (Reference, error) {
	var r Reference
	name := s
	if before, digest, found := strings.Cut(name, "@"); found {
		parsed, err := ParseDigest(digest)
		if err != nil {
			return Reference{}, fmt.Errorf("image %s: %w", quote(s), err)
		}
		name, r.Digest = before, parsed
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:i], name[i+1:]
		if err := CheckTag(r.Tag); err != nil {
			return Reference{}, fmt.Errorf("image %s: %w", quote(s), err)
		}
	}
	if r.Tag == "" && r.Digest.IsZero() {
		r.Tag = "latest"
	}
	r.Registry, r.Repository = split(name)
	if err := CheckRegistry(r.Registry); err != nil {
		return Reference{}, fmt.Errorf("image %s: %w", quote(s), err)
	}
	if err := CheckRepository(r.Repository); err != nil {
		return Reference{}, fmt.Errorf("image %s: %w", quote(s), err)
	}
	return r, nil
}

// split parts registry and repository. A first component is a registry if it looks like a host; repositories have no upper case.
func split(name string) (registry, repository string) {
	registry, repository, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(registry, ".:") && registry != "localhost" && registry == strings.ToLower(registry) {
		registry, repository = "docker.io", name
	}
	if registry == "index.docker.io" {
		registry = "docker.io"
	}
	if registry == "docker.io" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return registry, repository
}

// String writes a reference in full.
func (r Reference) String() string {
	s := r.Registry + "/" + r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// Target is what is asked of the repository: the digest if there is one, else the tag.
func (r Reference) Target() string {
	if !r.Digest.IsZero() {
		return r.Digest.String()
	}
	return r.Tag
}
