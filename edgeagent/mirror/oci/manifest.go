package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"mime"
)

// ErrTooLarge is in the errors about a manifest past MaxManifestSize.
var ErrTooLarge = errors.New("larger than a manifest may be")

// Descriptor points at content.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform says for which machines a manifest of an index is.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// Index is an image index as it is written, such as the answer about referrers.
type Index struct {
	SchemaVersion int               `json:"schemaVersion"` // 2
	MediaType     string            `json:"mediaType,omitempty"`
	Manifests     []Descriptor      `json:"manifests"` // never null
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Manifest is what the mirror needs to know of a manifest or an index. It is never written out again: the bytes that were hashed are
// what is served.
type Manifest struct {
	MediaType    string // one of ManifestTypes
	ArtifactType string // as it says; Type is what a filter compares
	Config       *Descriptor
	Layers       []Descriptor
	Manifests    []Descriptor
	Subject      *Descriptor
	Annotations  map[string]string
}

// document is a manifest or an index as it lies in the registry. encoding/json reads it, with all its leniency about upper case and
// doubled keys, because containerd does: what the mirror fetches and keeps is then what containerd will ask for.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
	FSLayers      json.RawMessage   `json:"fsLayers"`
}

// ParseManifest reads a manifest or an index. contentType is what the registry called it, and may be "": then the document's own word
// counts, and without that its shape. A document that contradicts it, or that is a manifest and an index at once, is refused, so that
// no two readers can see two images in it.
func ParseManifest(contentType string, data []byte) (Manifest, error) {
	if len(data) > MaxManifestSize {
		return Manifest{}, fmt.Errorf("read manifest of %d bytes: %w: %d", len(data), ErrTooLarge, MaxManifestSize)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w%s", err, looksLike(data))
	}
	mediaType, err := d.kind(contentType)
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	m := Manifest{
		MediaType: mediaType, ArtifactType: d.ArtifactType, Config: d.Config, Layers: d.Layers,
		Manifests: d.Manifests, Subject: d.Subject, Annotations: d.Annotations,
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// kind finds the one media type that the registry's word, the document's word and its shape allow.
func (d *document) kind(contentType string) (string, error) {
	named := contentType
	if named != "" {
		var err error
		if named, _, err = mime.ParseMediaType(contentType); err != nil {
			return "", fmt.Errorf("content type %s: %w", quote(contentType), err)
		}
	}
	isImage, isIndex := d.Config != nil || d.Layers != nil, d.Manifests != nil
	switch {
	case len(d.FSLayers) > 0:
		return "", errors.New("it has fsLayers: a Docker image manifest of schema 1, which no longer is supported; build the image anew")
	case d.SchemaVersion != 2:
		return "", fmt.Errorf("schemaVersion is %d, not 2", d.SchemaVersion)
	case isImage && isIndex:
		return "", errors.New("it has manifests as well as config or layers, so it could be read in two ways")
	case named != "" && d.MediaType != "" && named != d.MediaType:
		return "", fmt.Errorf("it calls itself %s, the registry calls it %s", quote(d.MediaType), quote(named))
	case named == "" && d.MediaType != "":
		named = d.MediaType
	case named == "" && isImage:
		named = MediaTypeManifest
	case named == "" && isIndex:
		named = MediaTypeIndex
	}
	switch {
	case IsManifest(named) && isIndex, IsIndex(named) && isImage:
		return "", fmt.Errorf("it is called %s and has the fields of another kind", quote(named))
	case !IsManifest(named) && !IsIndex(named):
		return "", fmt.Errorf("media type %s is neither a manifest's nor an index's", quote(named))
	}
	return named, nil
}

func (m *Manifest) check() error {
	if IsManifest(m.MediaType) && m.Config == nil {
		return errors.New("it has no config")
	}
	for child := range m.Children() {
		if err := child.check(); err != nil {
			return err
		}
	}
	if m.Subject != nil {
		return m.Subject.check()
	}
	return nil
}

func (d *Descriptor) check() error {
	if d.Digest.IsZero() {
		return errors.New("a descriptor has no digest")
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor of %s: size %d", d.Digest, d.Size)
	}
	return nil
}

// Children are what must be there for m to be complete: config and layers, or manifests. The subject is not among them: it stands on
// its own.
func (m *Manifest) Children() iter.Seq[Descriptor] {
	return func(yield func(Descriptor) bool) {
		if m.Config != nil && !yield(*m.Config) {
			return
		}
		for _, list := range [][]Descriptor{m.Layers, m.Manifests} {
			for _, d := range list {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// Type is the artifact's type, as a list of referrers names it: artifactType, or else the media type of the config.
func (m *Manifest) Type() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

// looksLike helps with the commonest of broken answers.
func looksLike(data []byte) string {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		return " (it looks like a web page: an error page, or a network's log-in page)"
	}
	return ""
}
