package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Field gives the text of a scalar at a path, as in Field(item, "spec", "nodeName"); false if the object does not have it.
// A JSON object may be asked for any path; a protobuf object only for what the tables have, else the error is ErrUnknownField.
func Field(item scope.Item, names ...string) (string, bool, error) {
	value, ok, err := lookUp(item, names)
	if err != nil {
		return "", false, fmt.Errorf("read %s of %s %s: %w", strings.Join(names, "."), item.Kind, item.Name, err)
	}
	return value, ok, nil
}

func lookUp(item scope.Item, names []string) (string, bool, error) {
	switch item.Encoding {
	case scope.JSON:
		return jsonField(item.Raw, names)
	case scope.Protobuf:
		at, ok := pathOf(item.APIVersion, item.Kind, strings.Join(names, "."))
		if !ok {
			return "", false, fmt.Errorf("%w in protobuf", ErrUnknownField)
		}
		return protoField(item.Raw, at)
	}
	return "", false, unknownEncoding(item.Encoding)
}

// Selectable gives the value that kube-apiserver compares a field selector with, as in Selectable(item, "spec.hostNetwork"):
// fields that are left out have their default ("false", "0", ""). A field that the kind does not offer is ErrUnknownField.
// Custom resources offer metadata.name and metadata.namespace here; for their selectableFields use Field.
func Selectable(item scope.Item, field string) (string, error) {
	kind := selectable(groupOf(item.APIVersion), item.Kind)
	switch {
	case field == "metadata.name":
		return item.Name, nil
	case field == "metadata.namespace" && (kind == nil || kind.namespace):
		return item.Namespace, nil
	}
	var offers []offer
	if kind != nil {
		offers = kind.offers
	}
	i := slices.IndexFunc(offers, func(o offer) bool { return o.name == field })
	if i < 0 {
		return "", fmt.Errorf("%w to field selectors: %s of %s", ErrUnknownField, field, item.Kind)
	}
	value := ""
	for _, at := range offers[i].at {
		found, ok, err := at.read(item)
		if err != nil {
			return "", fmt.Errorf("read %s of %s %s: %w", field, item.Kind, item.Name, err)
		}
		if ok && found != "" {
			return found, nil
		}
		value = at.typ.zero()
	}
	return value, nil
}

// SelectableFields names the fields that a kind offers to field selectors, in kube-apiserver's spelling.
func SelectableFields(apiVersion, kind string) []string {
	fields := selectable(groupOf(apiVersion), kind)
	if fields == nil {
		return []string{"metadata.name", "metadata.namespace"}
	}
	all := []string{"metadata.name"}
	if fields.namespace {
		all = append(all, "metadata.namespace")
	}
	for _, o := range fields.offers {
		all = append(all, o.name)
	}
	return all
}

func (p path) read(item scope.Item) (string, bool, error) {
	if item.Encoding == scope.Protobuf {
		return protoField(item.Raw, p)
	}
	var room [4]string // no path of the tables is longer
	return lookUp(item, appendParts(room[:0], p.json))
}

// appendParts is strings.Split without making a slice.
func appendParts(dst []string, dotted string) []string {
	for more := true; more; {
		var part string
		part, dotted, more = strings.Cut(dotted, ".")
		dst = append(dst, part)
	}
	return dst
}

// jsonField gives a scalar: the text of a string, else the value as it is written.
func jsonField(b []byte, names []string) (string, bool, error) {
	i, ok, err := jsonAt(b, names...)
	if !ok || err != nil || b[i] == '{' || b[i] == '[' {
		return "", false, err
	}
	end, err := scalar(b, i)
	if err != nil {
		return "", false, err
	}
	if b[i] == '"' {
		return string(unquote(b[i:end])), true, nil
	}
	return string(b[i:end]), true, nil
}

// protoField follows field numbers. The last of several fields of a number counts.
func protoField(b []byte, at path) (string, bool, error) {
	for depth, num := range at.proto {
		last := depth == len(at.proto)-1
		var inner []byte
		var value uint64
		found := false
		f := message(b)
		for f.next() {
			if f.num != num {
				continue
			}
			found = true
			if last && at.typ != textual {
				value = f.value
				continue
			}
			inner = f.text()
		}
		switch {
		case f.err != nil || !found:
			return "", false, f.err
		case last:
			return at.typ.print(inner, value), true, nil
		}
		b = inner
	}
	return "", false, nil
}

func (t valueType) print(b []byte, value uint64) string {
	switch t {
	case boolean:
		return strconv.FormatBool(protowire.DecodeBool(value))
	case numeric:
		return strconv.FormatInt(int64(value), 10)
	}
	return string(b)
}
