package media

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	kjson "sigs.k8s.io/json"
)

// ErrUnknownKind is a kind that cannot be converted or taken apart: a custom resource, or one newer than this program.
var ErrUnknownKind = errors.New("kind is not built in")

func unknownKind(apiVersion, kind string) error {
	return fmt.Errorf("%s %s can only be had as it was read: %w", apiVersion, kind, ErrUnknownKind)
}

// decode makes the typed object of an item.
func decode(item scope.Item) (object, error) {
	o, err := known().make(item.APIVersion, item.Kind)
	if err != nil {
		return nil, err
	}
	switch item.Encoding {
	case scope.Protobuf:
		err = o.Unmarshal(item.Raw)
	case scope.JSON:
		err = kjson.UnmarshalCaseSensitivePreserveInts(item.Raw, o)
	default:
		err = fmt.Errorf("encoding %d is not known", item.Encoding)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	return o, nil
}

// Convertible tells whether a kind can be had in both encodings.
func Convertible(apiVersion, kind string) bool {
	_, err := known().make(apiVersion, kind)
	return err == nil
}

// Convert gives an item in another encoding. Only built-in kinds can be converted, through the types of k8s.io/api; fields that
// those types do not know are lost, so what is converted is for reading, never for writing back. Like an item of a JSON list, the JSON has neither apiVersion nor kind.
func Convert(item scope.Item, to scope.Encoding) (scope.Item, error) {
	if item.Encoding == to {
		return item, nil
	}
	o, err := decode(item)
	if err != nil {
		return scope.Item{}, err
	}
	item.Encoding = to
	switch to {
	case scope.Protobuf:
		item.Raw, err = o.Marshal()
	case scope.JSON:
		item.Raw, err = json.Marshal(o)
	default:
		err = fmt.Errorf("encoding %d is not known", to)
	}
	if err != nil {
		return scope.Item{}, fmt.Errorf("encode %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	return item, nil
}
