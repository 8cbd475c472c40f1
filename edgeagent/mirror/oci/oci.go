// Package oci holds the words that registries, containerd and the mirror's own parts share: digests, names, references, media types
// and manifests, with the grammar of the OCI distribution and image specifications. All of it comes from the network, so all of it is
// parsed here, strictly and within bounds, once: what has passed is safe to put in a file's name or in an address. The package is pure.
package oci

// Media types of manifests and indexes, and the one of a config that says nothing.
const (
	MediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeEmpty          = "application/vnd.oci.empty.v1+json"
)

// MaxManifestSize is what the distribution specification asks registries to take at least. Nothing larger is read.
const MaxManifestSize = 4 << 20

// ManifestTypes lists the media types that ParseManifest understands, as they go into an Accept header.
func ManifestTypes() []string {
	return []string{MediaTypeManifest, MediaTypeIndex, MediaTypeDockerManifest, MediaTypeDockerList}
}

// IsManifest tells whether a media type is that of one image or artifact.
func IsManifest(mediaType string) bool {
	return mediaType == MediaTypeManifest || mediaType == MediaTypeDockerManifest
}

// IsIndex tells whether a media type is that of a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeIndex || mediaType == MediaTypeDockerList
}
