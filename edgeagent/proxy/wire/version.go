package wire

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// SetVersion gives the item with another metadata.resourceVersion, in bytes of its own.
func SetVersion(item scope.Item, version string) (scope.Item, error) {
	var raw []byte
	var err error
	switch item.Encoding {
	case scope.JSON:
		raw, err = jsonSetVersion(item.Raw, version)
	case scope.Protobuf:
		raw, err = protoSetVersion(item.Raw, version)
	default:
		err = unknownEncoding(item.Encoding)
	}
	if err != nil {
		return item, fmt.Errorf("set version of %s %s: %w", item.Kind, item.Name, err)
	}
	item.Raw, item.Version = raw, version
	return item, nil
}

// jsonSetVersion copies the object member by member, so that the order stays and with it the essence.
func jsonSetVersion(b []byte, version string) ([]byte, error) {
	dst := make([]byte, 0, len(b)+len(version)+len(`"metadata":{"resourceVersion":""},`))
	dst = append(dst, '{')
	m := object(b, space(b, 0))
	found := false
	for m.next() {
		dst = separate(dst)
		if string(m.key) != "metadata" {
			m.skip()
			dst = append(dst, b[m.start:m.i]...)
			continue
		}
		found = true
		dst = append(dst, b[m.start:m.i]...)
		if m.isNull() {
			m.skip()
			dst = append(appendVersion(append(dst, '{'), version), '}')
			continue
		}
		dst, m.i, m.err = replaceVersion(dst, b, m.i, version)
	}
	if m.err == nil && !found {
		dst = append(separate(dst), `"metadata":{`...)
		dst = append(appendVersion(dst, version), '}')
	}
	return append(dst, '}'), m.err
}

// replaceVersion copies the metadata at b[i].
func replaceVersion(dst, b []byte, i int, version string) ([]byte, int, error) {
	dst = append(dst, '{')
	m := object(b, i)
	found := false
	for m.next() {
		dst = separate(dst)
		m.skip()
		if string(m.key) != "resourceVersion" {
			dst = append(dst, b[m.start:m.i]...)
			continue
		}
		found = true
		dst = appendVersion(dst, version)
	}
	if !found {
		dst = appendVersion(separate(dst), version)
	}
	return append(dst, '}'), m.i, m.err
}

func appendVersion(dst []byte, version string) []byte {
	return appendQuoted(append(dst, `"resourceVersion":`...), version)
}

// separate appends a comma unless an object has just begun.
func separate(dst []byte) []byte {
	if dst[len(dst)-1] == '{' {
		return dst
	}
	return append(dst, ',')
}

// protoSetVersion puts the version where it was, or where its number belongs.
func protoSetVersion(b []byte, version string) ([]byte, error) {
	dst := make([]byte, 0, len(b)+len(version)+16)
	found := false
	f := message(b)
	for f.next() {
		if f.num != objectMeta {
			dst = append(dst, f.all()...)
			continue
		}
		found = true
		meta := make([]byte, 0, len(f.bytes)+len(version)+2)
		placed := false
		inner := message(f.text())
		for inner.next() {
			if inner.num >= metaVersion && !placed {
				meta = appendText(meta, metaVersion, version)
				placed = true
			}
			if inner.num != metaVersion {
				meta = append(meta, inner.all()...)
			}
		}
		if !placed {
			meta = appendText(meta, metaVersion, version)
		}
		f.after(&inner)
		dst = appendBytes(dst, objectMeta, meta)
	}
	if !found {
		dst = appendBytes(dst, objectMeta, appendText(nil, metaVersion, version))
	}
	return dst, f.err
}
