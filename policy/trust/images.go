package trust

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Image says what is asked of the images of the repositories that it matches. A repository belongs to the most specific one.
type Image struct {
	// Repository is a pattern of whole names, which begin with the registry: "registry.example.com/app/api",
	// "registry.example.com/app/**". The wildcards are those of Role.Paths; the registry has none.
	Repository string `json:"repository"`
	// Signed is SignedRequired.
	Signed string `json:"signed"`
	// Keys are the keys that count, by the names of their files: "build" is cosign/build.pub. None means all of cosign/.
	Keys []string `json:"keys,omitempty"`
	// Threshold is how many of the keys must have signed an image; 0 means 1.
	Threshold int `json:"threshold,omitempty"`
}

// SignedRequired is the one value of Image.Signed.
const SignedRequired = "required"

// MaxImages bounds Policy.Images.
const MaxImages = 1024

const maxRepositoryBytes = 512

var (
	registryHost  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$`)
	repositoryDir = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*$`)
)

// imagePattern is an Image's pattern.
type imagePattern struct {
	index   int
	pattern pattern
}

// Needed gives how many keys must have signed: Threshold with its default.
func (i Image) Needed() int { return max(i.Threshold, 1) }

// ImageOf gives what policy.json asks of the images of a repository, named with its registry, and whether it asks anything.
// Names are lower case by their grammar; another case is not another repository.
func (t *Trust) ImageOf(repository string) (Image, bool) {
	segments := strings.Split(strings.ToLower(repository), "/")
	best := -1
	for i, o := range t.images {
		if o.pattern.match(segments) && (best < 0 || o.pattern.compare(t.images[best].pattern) > 0) {
			best = i
		}
	}
	if best < 0 {
		return Image{}, false
	}
	return t.Policy.Images[t.images[best].index], true
}

// KeysFor gives the keys that count for an Image of this trust, sorted by name.
func (t *Trust) KeysFor(image Image) []CosignKey {
	var keys []CosignKey
	for _, k := range t.Cosign {
		if len(image.Keys) == 0 || slices.Contains(image.Keys, k.Name) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b CosignKey) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// compileImages checks what policy.json alone says of images, and gives the patterns.
func (p Policy) compileImages() ([]imagePattern, error) {
	if len(p.Images) > MaxImages {
		return nil, errorIn(PolicyFile, 0, "%d images, over the bound of %d", len(p.Images), MaxImages)
	}
	var all []imagePattern
	var errs []error
	for i, image := range p.Images {
		fail := func(format string, args ...any) {
			errs = append(errs, errorIn(PolicyFile, 0, "images[%d]: "+format, append([]any{i}, args...)...))
		}
		if image.Signed != SignedRequired {
			fail("signed is %q: the one value is %q", image.Signed, SignedRequired)
		}
		if err := image.checkKeys(); err != nil {
			fail("%v", err)
		}
		pat, err := repositoryPattern(image.Repository)
		if err != nil {
			fail("repository %q: %v", image.Repository, err)
			continue
		}
		for _, o := range all {
			if o.pattern.ties(pat) {
				fail("repository %q is as specific as %q of images[%d], so a repository could belong to both", image.Repository, p.Images[o.index].Repository, o.index)
			}
		}
		all = append(all, imagePattern{i, pat})
	}
	return all, errors.Join(errs...)
}

// checkKeys checks what an Image says of keys by itself.
func (i Image) checkKeys() error {
	for n, name := range i.Keys {
		if err := checkKeyName(name); err != nil {
			return err
		}
		if slices.Contains(i.Keys[:n], name) {
			return fmt.Errorf("key %q is named twice", name)
		}
	}
	if i.Keys != nil && len(i.Keys) == 0 {
		return errors.New("keys is empty: name keys, or leave it out so that all of cosign/ count")
	}
	if i.Threshold < 0 {
		return fmt.Errorf("threshold is %d: at least 1", i.Threshold)
	}
	if len(i.Keys) > 0 && i.Threshold > len(i.Keys) {
		return fmt.Errorf("threshold is %d, but only %d keys are named", i.Threshold, len(i.Keys))
	}
	return nil
}

// repositoryPattern reads Image.Repository. It refuses names that no image ever has, as those would demand a signature of nothing.
func repositoryPattern(text string) (pattern, error) {
	if len(text) > maxRepositoryBytes {
		return pattern{}, fmt.Errorf("%d bytes, over the bound of %d", len(text), maxRepositoryBytes)
	}
	pat, err := parsePattern(text)
	if err != nil {
		return pattern{}, err
	}
	segments := strings.Split(text, "/")
	host := segments[0]
	switch {
	case !registryHost.MatchString(host), !strings.ContainsAny(host, ".:") && host != "localhost":
		return pattern{}, fmt.Errorf("begin with the registry's host, such as \"registry.example.com/…\" or \"docker.io/…\"; %q is none", host)
	case host == "index.docker.io", host == "registry-1.docker.io":
		return pattern{}, fmt.Errorf("containerd calls this registry docker.io: write that")
	case len(segments) == 1:
		return pattern{}, fmt.Errorf("no repository: for all of the registry write \"%s/**\"", host)
	case host == "docker.io" && len(segments) == 2 && segments[1] != "**":
		return pattern{}, fmt.Errorf("containerd calls this repository docker.io/library/%s: write that", segments[1])
	}
	for _, s := range segments[1:] {
		if s != "**" && !repositoryDir.MatchString(strings.Replace(s, "*", "x", 1)) {
			return pattern{}, fmt.Errorf("%q is no part of a repository's name: a-z and 0-9, with '.', '_' and '-' between them", s)
		}
	}
	return pat, nil
}

// checkImages looks at what spans files: every key that an Image names is there, and there are enough of them.
func (t *Trust) checkImages() error {
	var errs []error
	for i, image := range t.Policy.Images {
		for _, name := range image.Keys {
			if _, ok := t.Cosign[name]; !ok {
				errs = append(errs, errorIn(PolicyFile, 0, "images[%d]: key %q: there is no %s/%s/%s.pub", i, name, Folder, cosignFolder, name))
			}
		}
		if have := len(t.Cosign); len(image.Keys) == 0 && have < image.Needed() {
			errs = append(errs, errorIn(PolicyFile, 0, "images[%d]: %s needs signatures by %d of the keys in %s/%s/, and there are %d: no image of it could be pulled; add keys",
				i, image.Repository, image.Needed(), Folder, cosignFolder, have))
		}
	}
	return errors.Join(errs...)
}

// CheckRepository refuses what is no name of a repository with its registry, such as "registry.example.com/app/api".
func CheckRepository(name string) error {
	host, path, _ := strings.Cut(name, "/")
	if len(name) > maxRepositoryBytes {
		return fmt.Errorf("%d bytes, over the bound of %d", len(name), maxRepositoryBytes)
	}
	if !registryHost.MatchString(host) {
		return fmt.Errorf("%q is no registry's host", host)
	}
	for s := range strings.SplitSeq(path, "/") {
		if !repositoryDir.MatchString(s) {
			return fmt.Errorf("%q is no part of a repository's name: a-z and 0-9, with '.', '_' and '-' between them", s)
		}
	}
	return nil
}
