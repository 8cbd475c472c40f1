package media

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// metaGroup is the group of Table and PartialObjectMetadata.
const metaGroup = "meta.k8s.io"

// PartialMetadata gives an item's PartialObjectMetadata, in an encoding and in a version of meta.k8s.io ("v1"). Only the metadata
// is taken out of the object, and it is decoded only if the encoding changes.
func PartialMetadata(item scope.Item, version string, to scope.Encoding) (scope.Item, error) {
	metadata, err := rawMetadata(item)
	if err != nil {
		return scope.Item{}, fmt.Errorf("read metadata of %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	if item.Encoding != to {
		if metadata, err = convertMetadata(metadata, item.Encoding); err != nil {
			return scope.Item{}, fmt.Errorf("convert metadata of %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
		}
	}
	item.Encoding, item.APIVersion, item.Kind, item.Essence = to, metaGroup+"/"+version, "PartialObjectMetadata", 0
	if to == scope.Protobuf {
		item.Raw = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), metadata)
		return item, nil
	}
	raw := make([]byte, 0, len(metadata)+96)
	raw = append(raw, `{"kind":"PartialObjectMetadata","apiVersion":"`+item.APIVersion+`","metadata":`...)
	item.Raw = append(append(raw, metadata...), '}')
	return item, nil
}

// rawMetadata gives the bytes of an object's metadata: field 1 of each Kubernetes object in protobuf.
func rawMetadata(item scope.Item) ([]byte, error) {
	if item.Encoding == scope.JSON {
		var o struct {
			Metadata json.RawMessage `json:"metadata"`
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(item.Raw, &o); err != nil {
			return nil, err
		}
		if len(o.Metadata) == 0 {
			return []byte("{}"), nil
		}
		return o.Metadata, nil
	}
	var metadata []byte
	for raw := item.Raw; len(raw) > 0; {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		raw = raw[n:]
		if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
			return nil, protowire.ParseError(n)
		}
		if number == 1 && kind == protowire.BytesType {
			metadata, _ = protowire.ConsumeBytes(raw)
			return metadata, nil
		}
		raw = raw[n:]
	}
	return metadata, nil
}

// convertMetadata gives an ObjectMeta in the other encoding.
func convertMetadata(raw []byte, from scope.Encoding) ([]byte, error) {
	var m metav1.ObjectMeta
	if from == scope.JSON {
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &m); err != nil {
			return nil, err
		}
		return m.Marshal()
	}
	if err := m.Unmarshal(raw); err != nil {
		return nil, err
	}
	return json.Marshal(&m)
}
