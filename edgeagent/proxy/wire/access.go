package wire

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Owner is an entry of metadata.ownerReferences.
type Owner struct {
	APIVersion, Kind, Name, UID string
	Controller                  bool
}

// Labels gives metadata.labels.
func Labels(item scope.Item) (map[string]string, error) {
	all, err := pairs(item, "labels", metaLabels)
	if err != nil {
		return nil, fmt.Errorf("read labels of %s %s: %w", item.Kind, item.Name, err)
	}
	return all, nil
}

// Annotations gives metadata.annotations.
func Annotations(item scope.Item) (map[string]string, error) {
	all, err := pairs(item, "annotations", metaAnnotations)
	if err != nil {
		return nil, fmt.Errorf("read annotations of %s %s: %w", item.Kind, item.Name, err)
	}
	return all, nil
}

// Owners gives metadata.ownerReferences.
func Owners(item scope.Item) ([]Owner, error) {
	var all []Owner
	var err error
	switch item.Encoding {
	case scope.JSON:
		all, err = jsonOwners(item.Raw)
	case scope.Protobuf:
		all, err = protoOwners(item.Raw)
	default:
		err = unknownEncoding(item.Encoding)
	}
	if err != nil {
		return nil, fmt.Errorf("read owners of %s %s: %w", item.Kind, item.Name, err)
	}
	return all, nil
}

// annotation gives one annotation.
func annotation(item scope.Item, name string) (string, bool, error) {
	all, err := Annotations(item)
	value, ok := all[name]
	return value, ok, err
}

// pairs gives a map of strings in the metadata.
func pairs(item scope.Item, name string, number int) (map[string]string, error) {
	switch item.Encoding {
	case scope.JSON:
		return jsonPairs(item.Raw, name)
	case scope.Protobuf:
		return protoPairs(item.Raw, number)
	}
	return nil, unknownEncoding(item.Encoding)
}

// jsonAt finds the value at a path: its index, or false if it is not there or null. The last of several members of a name counts,
// as in encoding/json.
func jsonAt(b []byte, path ...string) (int, bool, error) {
	i := space(b, 0)
	for _, name := range path {
		if i >= len(b) || b[i] != '{' {
			return i, false, nil
		}
		found := -1
		m := object(b, i)
		for m.next() {
			if string(m.key) == name {
				found = m.i
			}
			m.skip()
		}
		if m.err != nil || found < 0 || b[found] == 'n' {
			return i, false, m.err
		}
		i = found
	}
	return i, i < len(b), nil
}

func jsonPairs(b []byte, name string) (map[string]string, error) {
	i, ok, err := jsonAt(b, "metadata", name)
	if !ok || err != nil {
		return nil, err
	}
	all := map[string]string{}
	m := object(b, i)
	for m.next() {
		key := string(m.key)
		all[key] = string(m.text())
	}
	return all, m.err
}

func jsonOwners(b []byte) ([]Owner, error) {
	i, ok, err := jsonAt(b, "metadata", "ownerReferences")
	if !ok || err != nil {
		return nil, err
	}
	var all []Owner
	list := array(b, i)
	for list.next() {
		var owner Owner
		m := object(b, list.i)
		for m.next() {
			switch string(m.key) {
			case "apiVersion":
				owner.APIVersion = string(m.text())
			case "kind":
				owner.Kind = string(m.text())
			case "name":
				owner.Name = string(m.text())
			case "uid":
				owner.UID = string(m.text())
			case "controller":
				owner.Controller = string(m.skip()) == "true"
			default:
				m.skip()
			}
		}
		all = append(all, owner)
		list.i, list.err = m.i, m.err
	}
	return all, list.err
}

// protoMeta runs through the fields of an object's metadata.
func protoMeta(b []byte, field func(*fields)) error {
	object := message(b)
	for object.next() {
		if object.num != objectMeta {
			continue
		}
		meta := message(object.text())
		for meta.next() {
			field(&meta)
		}
		object.after(&meta)
	}
	return object.err
}

func protoPairs(b []byte, number int) (map[string]string, error) {
	var all map[string]string
	err := protoMeta(b, func(meta *fields) {
		if int(meta.num) != number {
			return
		}
		if all == nil {
			all = map[string]string{}
		}
		var key, value string
		entry := message(meta.text())
		for entry.next() {
			switch entry.num {
			case mapKey:
				key = string(entry.text())
			case mapValue:
				value = string(entry.text())
			}
		}
		all[key] = value
		meta.after(&entry)
	})
	return all, err
}

func protoOwners(b []byte) ([]Owner, error) {
	var all []Owner
	err := protoMeta(b, func(meta *fields) {
		if meta.num != metaOwners {
			return
		}
		var owner Owner
		f := message(meta.text())
		for f.next() {
			switch f.num {
			case 1:
				owner.Kind = string(f.text())
			case 3:
				owner.Name = string(f.text())
			case 4:
				owner.UID = string(f.text())
			case 5:
				owner.APIVersion = string(f.text())
			case 6:
				owner.Controller = f.value != 0
			}
		}
		all = append(all, owner)
		meta.after(&f)
	})
	return all, err
}
