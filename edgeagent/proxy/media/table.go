package media

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// header is the definition of a Table's column.
type header = metav1.TableColumnDefinition

// columns are how a kind is printed in a Table.
type columns struct {
	headers []header
	// row gives the cells of an object at a time, and what is to be said of the row.
	row func(item scope.Item, now time.Time) ([]any, []metav1.TableRowCondition, error)
	// survey looks at all objects of a list first, for the kinds that need it.
	survey func(items iter.Seq2[scope.Item, error]) (func(cells []any), error)
}

// table is a metav1.Table but for its rows. Tables are written row by row: a list may be long.
type table struct {
	metav1.TypeMeta   `json:",inline"`
	Metadata          metav1.ListMeta `json:"metadata"`
	ColumnDefinitions []header        `json:"columnDefinitions"`
}

// layout finds the columns, once for an answer.
func (r *Renderer) layout() (*columns, error) {
	if r.columns != nil {
		return r.columns, nil
	}
	kind := r.kind()
	c := builtinColumns(kind.APIVersion, kind.Kind)
	switch {
	case c != nil:
	case known().serves(r.Resource):
		c = defaultColumns()
	default:
		var err error
		if c, err = definedColumns(r.CRD, r.Resource.Version); err != nil {
			return nil, err
		}
	}
	r.columns = c
	return c, nil
}

// writeTable writes a Table of a list.
func (r *Renderer) writeTable(w io.Writer, list wire.List, items iter.Seq2[scope.Item, error]) error {
	c, err := r.layout()
	if err != nil {
		return err
	}
	finish := func([]any) {}
	if c.survey != nil {
		if finish, err = c.survey(items); err != nil {
			return err
		}
	}
	return r.writeRows(w, c, list, items, finish)
}

// writeOne writes a Table of one object.
func (r *Renderer) writeOne(w io.Writer, item scope.Item) error {
	c, err := r.layout()
	if err != nil {
		return err
	}
	one := func(yield func(scope.Item, error) bool) { yield(item, nil) }
	return r.writeRows(w, c, wire.List{Version: item.Version}, one, func([]any) {})
}

// writeRows writes a Table, row by row.
func (r *Renderer) writeRows(w io.Writer, c *columns, list wire.List, items iter.Seq2[scope.Item, error], finish func([]any)) error {
	head, err := r.head(c, list)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 16<<10)
	out.Write(head) // bufio keeps the first error for Flush.
	separator := ""
	for item, err := range items {
		if err != nil {
			return err
		}
		row, err := r.row(c, item, finish, r.Format.Include)
		if err != nil {
			return err
		}
		out.WriteString(separator)
		out.Write(row)
		separator = ","
	}
	out.WriteString("]}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// head gives a Table up to its rows. Only the first Table of a watch has columns.
func (r *Renderer) head(c *columns, list wire.List) ([]byte, error) {
	t := table{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: metaGroup + "/" + r.Format.MetaVersion}}
	t.Metadata = metav1.ListMeta{ResourceVersion: list.Version, Continue: list.Continue}
	if list.Remaining > 0 {
		t.Metadata.RemainingItemCount = &list.Remaining
	}
	if !r.Format.NoHeaders && !r.headed {
		t.ColumnDefinitions = c.headers
	}
	head, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("write table: %w", err)
	}
	return append(head[:len(head)-1], `,"rows":[`...), nil
}

// row gives one row.
func (r *Renderer) row(c *columns, item scope.Item, finish func([]any), include string) ([]byte, error) {
	cells, conditions, err := c.row(item, r.Now())
	if err != nil {
		return nil, err
	}
	finish(cells)
	object, err := r.rowObject(item, include)
	if err != nil {
		return nil, err
	}
	row, err := json.Marshal(metav1.TableRow{Cells: cells, Conditions: conditions, Object: runtime.RawExtension{Raw: object}})
	if err != nil {
		return nil, fmt.Errorf("write row of %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	return row, nil
}

// rowObject gives what a row carries of its object: nil for nothing.
func (r *Renderer) rowObject(item scope.Item, include string) ([]byte, error) {
	switch include {
	case "None":
		return nil, nil
	case "Object":
		whole, err := Convert(item, scope.JSON)
		if err != nil {
			return nil, err
		}
		return wire.AppendObject(nil, whole)
	}
	metadata, err := PartialMetadata(item, r.Format.MetaVersion, scope.JSON)
	return metadata.Raw, err
}

// tableFrame appends a watch frame with a Table of one row.
func (r *Renderer) tableFrame(dst []byte, event string, item scope.Item) ([]byte, error) {
	return r.appendTable(dst, event, item, r.Format.Include)
}

// tableBookmark appends a bookmark frame: a Table whose row is of an object that has only a version.
func (r *Renderer) tableBookmark(dst []byte, kind scope.Kind, version string, end bool) ([]byte, error) {
	meta := metav1.ObjectMeta{ResourceVersion: version}
	include := r.Format.Include
	if end {
		meta.Annotations = map[string]string{wire.InitialEventsEnd: "true"}
		// Without its annotation nobody would know it.
		if include == "None" {
			include = "Metadata"
		}
	}
	raw, err := json.Marshal(metav1.PartialObjectMetadata{ObjectMeta: meta})
	if err != nil {
		return dst, fmt.Errorf("write bookmark: %w", err)
	}
	item := scope.Item{APIVersion: kind.APIVersion, Kind: kind.Kind, Version: version, Encoding: scope.JSON, Raw: raw}
	return r.appendTable(dst, wire.Bookmark, item, include)
}

// appendTable appends a watch frame with a Table.
func (r *Renderer) appendTable(dst []byte, event string, item scope.Item, include string) ([]byte, error) {
	c, err := r.layout()
	if err != nil {
		return dst, err
	}
	head, err := r.head(c, wire.List{Version: item.Version})
	if err != nil {
		return dst, err
	}
	row, err := r.row(c, item, func([]any) {}, include)
	if err != nil {
		return dst, err
	}
	r.headed = true
	dst = append(dst, `{"type":"`+event+`","object":`...)
	dst = append(append(dst, head...), row...)
	return append(dst, "]}}\n"...), nil
}
