package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// AppendObject appends the body of a single object: protobuf in its envelope, JSON with apiVersion and kind.
func AppendObject(dst []byte, item scope.Item) ([]byte, error) {
	switch item.Encoding {
	case scope.JSON:
		dst, err := appendJSON(dst, item)
		return append(dst, '\n'), err
	case scope.Protobuf:
		dst = appendEnvelopeHead(dst, item.APIVersion, item.Kind, len(item.Raw))
		return append(append(dst, item.Raw...), envelopeTail...), nil
	}
	return dst, unknownEncoding(item.Encoding)
}

// AppendFrame appends a watch frame in the item's encoding.
func AppendFrame(dst []byte, kind string, item scope.Item) ([]byte, error) {
	switch item.Encoding {
	case scope.JSON:
		dst = appendFrameHead(dst, kind)
		dst, err := appendJSON(dst, item)
		return append(dst, '}', '\n'), err
	case scope.Protobuf:
		return appendProtoFrame(dst, kind, item.APIVersion, item.Kind, item.Raw), nil
	}
	return dst, unknownEncoding(item.Encoding)
}

// AppendBookmark appends a bookmark frame for a watch of objects of a kind (apiVersion "v1", kind "Pod"); end says that the initial
// events end here.
func AppendBookmark(dst []byte, encoding scope.Encoding, apiVersion, kind, version string, end bool) []byte {
	if encoding == scope.Protobuf {
		meta := appendText(nil, metaVersion, version)
		if end {
			entry := appendText(appendText(nil, mapKey, InitialEventsEnd), mapValue, "true")
			meta = appendBytes(meta, metaAnnotations, entry)
		}
		return appendProtoFrame(dst, Bookmark, apiVersion, kind, appendBytes(nil, objectMeta, meta))
	}
	dst = appendFrameHead(dst, Bookmark)
	dst = append(dst, '{')
	dst = appendNames(dst, apiVersion, kind)
	dst = append(dst, `,"metadata":{"resourceVersion":`...)
	dst = appendQuoted(dst, version)
	if end {
		dst = append(dst, `,"annotations":{"`+InitialEventsEnd+`":"true"}`...)
	}
	return append(dst, "}}}\n"...)
}

// appendFrameHead appends the beginning of a JSON frame.
func appendFrameHead(dst []byte, kind string) []byte {
	dst = append(dst, `{"type":`...)
	return append(appendQuoted(dst, kind), `,"object":`...)
}

// appendNames appends kind and apiVersion, as kube-apiserver orders them.
func appendNames(dst []byte, apiVersion, kind string) []byte {
	dst = appendQuoted(append(dst, `"kind":`...), kind)
	return appendQuoted(append(dst, `,"apiVersion":`...), apiVersion)
}

// appendJSON appends a JSON object and puts apiVersion and kind in front if they are missing.
func appendJSON(dst []byte, item scope.Item) ([]byte, error) {
	hasVersion, hasKind := false, false
	start := space(item.Raw, 0)
	m := object(item.Raw, start)
	for !(hasVersion && hasKind) && m.next() {
		switch string(m.key) {
		case "apiVersion":
			hasVersion = true
		case "kind":
			hasKind = true
		}
		m.skip()
	}
	if m.err != nil {
		return dst, fmt.Errorf("write %s %s: %w", item.Kind, item.Name, m.err)
	}
	dst = append(dst, '{')
	if !hasKind {
		dst = append(appendQuoted(append(dst, `"kind":`...), item.Kind), ',')
	}
	if !hasVersion {
		dst = append(appendQuoted(append(dst, `"apiVersion":`...), item.APIVersion), ',')
	}
	if !m.begun { // {}: no comma after the last
		dst = dst[:len(dst)-1]
	}
	return append(dst, item.Raw[start+1:]...), nil
}

// appendQuoted appends a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...) // cannot be: a string can be marshalled
			}
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// envelopeTail is contentEncoding and contentType, both empty: kube-apiserver writes them.
const envelopeTail = "\x1a\x00\x22\x00"

// appendEnvelopeHead appends an envelope up to its object.
func appendEnvelopeHead(dst []byte, apiVersion, kind string, size int) []byte {
	dst = append(dst, magic...)
	dst = protowire.AppendTag(dst, envelopeType, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(sizeText(apiVersion)+sizeText(kind)))
	dst = appendText(dst, typeAPIVersion, apiVersion)
	dst = appendText(dst, typeKind, kind)
	dst = protowire.AppendTag(dst, envelopeRaw, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(size))
}

// sizeText is the size of a string field with a number below 16.
func sizeText(s string) int { return 1 + protowire.SizeBytes(len(s)) }

func sizeEnvelope(apiVersion, kind string, size int) int {
	names := sizeText(apiVersion) + sizeText(kind)
	return len(magic) + 1 + protowire.SizeBytes(names) + 1 + protowire.SizeBytes(size) + len(envelopeTail)
}

func appendText(dst []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), s)
}

func appendBytes(dst []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}

func appendProtoFrame(dst []byte, frame, apiVersion, kind string, raw []byte) []byte {
	body := sizeEnvelope(apiVersion, kind, len(raw))
	extension := 1 + protowire.SizeBytes(body)
	dst = binary.BigEndian.AppendUint32(dst, uint32(sizeText(frame)+1+protowire.SizeBytes(extension)))
	dst = appendText(dst, eventType, frame)
	dst = protowire.AppendTag(dst, eventObject, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(extension))
	dst = protowire.AppendTag(dst, extensionRaw, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(body))
	dst = appendEnvelopeHead(dst, apiVersion, kind, len(raw))
	return append(append(dst, raw...), envelopeTail...)
}
