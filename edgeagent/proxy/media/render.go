package media

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"sigs.k8s.io/yaml"
)

// Renderer writes objects of one kind in one Format. It is for one answer: not for several goroutines.
type Renderer struct {
	// Format is what was negotiated.
	Format Format
	// Kind is of the objects; the kind of their list does as well.
	Kind scope.Kind
	// Resource was asked for.
	Resource scope.Resource
	// CRD is the CustomResourceDefinition, if the cache has it: it names the columns of a Table.
	CRD scope.Item
	// Now gives the time, for ages.
	Now func() time.Time

	columns *columns
	headed  bool
}

// Object gives the body of an answer to a GET.
func (r *Renderer) Object(item scope.Item) ([]byte, error) {
	if r.Format.As == Table {
		var b bytes.Buffer
		if err := r.writeOne(&b, item); err != nil {
			return nil, err
		}
		return r.dress(b.Bytes())
	}
	shaped, err := r.shape(item)
	if err != nil {
		return nil, err
	}
	body, err := wire.AppendObject(nil, shaped)
	if err != nil {
		return nil, err
	}
	return r.dress(body)
}

// List writes the body of an answer to a LIST. items is run through more than once, and must be the same each time.
func (r *Renderer) List(w io.Writer, list wire.List, items iter.Seq2[scope.Item, error]) error {
	if !r.Format.YAML && !r.Format.Pretty {
		return r.writeList(w, list, items)
	}
	// For people, who ask for little: the answer is made whole first.
	var b bytes.Buffer
	if err := r.writeList(&b, list, items); err != nil {
		return err
	}
	body, err := r.dress(b.Bytes())
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// writeList writes a list as compact JSON or protobuf.
func (r *Renderer) writeList(w io.Writer, list wire.List, items iter.Seq2[scope.Item, error]) error {
	switch r.Format.As {
	case Table:
		return r.writeTable(w, list, items)
	case Metadata:
		list.Kind = scope.Kind{APIVersion: metaGroup + "/" + r.Format.MetaVersion, Kind: "PartialObjectMetadataList"}
	}
	return wire.WriteList(w, r.Format.Encoding, list, func(yield func(scope.Item, error) bool) {
		for item, err := range items {
			if err == nil {
				item, err = r.shape(item)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	})
}

// Frame appends a watch frame: wire.Added, wire.Modified or wire.Deleted. The first frame of a Table has its columns.
func (r *Renderer) Frame(dst []byte, event string, item scope.Item) ([]byte, error) {
	if r.Format.As == Table {
		return r.tableFrame(dst, event, item)
	}
	shaped, err := r.shape(item)
	if err != nil {
		return dst, err
	}
	return wire.AppendFrame(dst, event, shaped)
}

// Bookmark appends a bookmark frame; end says that the initial events end here.
func (r *Renderer) Bookmark(dst []byte, version string, end bool) ([]byte, error) {
	kind := r.kind()
	switch r.Format.As {
	case Table:
		return r.tableBookmark(dst, kind, version, end)
	case Metadata:
		kind = scope.Kind{APIVersion: metaGroup + "/" + r.Format.MetaVersion, Kind: "PartialObjectMetadata"}
	}
	return wire.AppendBookmark(dst, r.Format.Encoding, kind.APIVersion, kind.Kind, version, end), nil
}

// kind gives the objects' kind.
func (r *Renderer) kind() scope.Kind { return objectKind(r.Kind) }

// objectKind gives the kind of a list's objects; the kind of an object is its own.
func objectKind(k scope.Kind) scope.Kind {
	if name, ok := strings.CutSuffix(k.Kind, "List"); ok && name != "" {
		k.Kind = name
	}
	return k
}

// shape gives an item as the Format has it.
func (r *Renderer) shape(item scope.Item) (scope.Item, error) {
	if r.Format.As == Metadata {
		return PartialMetadata(item, r.Format.MetaVersion, r.Format.Encoding)
	}
	return Convert(item, r.Format.Encoding)
}

// dress writes JSON out as YAML or for people.
func (r *Renderer) dress(body []byte) ([]byte, error) {
	switch {
	case r.Format.YAML:
		text, err := yaml.JSONToYAML(body)
		if err != nil {
			return nil, fmt.Errorf("write YAML: %w", err)
		}
		return text, nil
	case r.Format.Pretty:
		var b bytes.Buffer
		if err := json.Indent(&b, bytes.TrimSpace(body), "", "  "); err != nil {
			return nil, fmt.Errorf("indent JSON: %w", err)
		}
		return b.Bytes(), nil
	}
	return body, nil
}
