package media

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
	kjson "sigs.k8s.io/json"
)

// printed makes columns from what prints a type of k8s.io/api.
func printed[T object](headers []header, cells func(o T, now time.Time) []any) *columns {
	return &columns{headers: headers, row: func(item scope.Item, now time.Time) ([]any, []metav1.TableRowCondition, error) {
		o, err := typed[T](item)
		if err != nil {
			return nil, nil, err
		}
		return cells(o, now), nil, nil
	}}
}

// typed decodes an item into its type.
func typed[T object](item scope.Item) (T, error) {
	decoded, err := decode(item)
	if err != nil {
		var none T
		return none, err
	}
	o, ok := decoded.(T)
	if !ok {
		return o, fmt.Errorf("print %s %s/%s: it is a %T, not a %T", item.Kind, item.Namespace, item.Name, decoded, o)
	}
	return o, nil
}

// name and age are the columns that most kinds have.
func nameHeader() header {
	return header{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
}

func ageHeader() header {
	return header{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}
}

// text is a column of strings; wide is one that is shown with -o wide only, whole is one of numbers.
func text(name, description string) header {
	return header{Name: name, Type: "string", Description: description}
}

func wide(name, description string) header {
	return header{Name: name, Type: "string", Description: description, Priority: 1}
}

func whole(name, description string) header {
	return header{Name: name, Type: "integer", Description: description}
}

func truth(name, description string) header {
	return header{Name: name, Type: "boolean", Description: description}
}

// since says how long ago a time was, as kubectl's users know it.
func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// orElse gives another text for an empty one.
func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// defaultColumns are of the kinds that say nothing of their columns.
func defaultColumns() *columns {
	doc := metav1.ObjectMeta{}.SwaggerDoc()
	return &columns{
		headers: []header{nameHeader(), {Name: "Created At", Type: "date", Description: doc["creationTimestamp"]}},
		row: func(item scope.Item, _ time.Time) ([]any, []metav1.TableRowCondition, error) {
			meta, err := decodeMetadata(item)
			if err != nil {
				return nil, nil, err
			}
			return []any{item.Name, meta.CreationTimestamp.UTC().Format(time.RFC3339)}, nil, nil
		},
	}
}

// decodeMetadata reads an item's metadata.
func decodeMetadata(item scope.Item) (metav1.ObjectMeta, error) {
	var meta metav1.ObjectMeta
	raw, err := rawMetadata(item)
	if err == nil && item.Encoding == scope.JSON {
		err = kjson.UnmarshalCaseSensitivePreserveInts(raw, &meta)
	} else if err == nil {
		err = meta.Unmarshal(raw)
	}
	if err != nil {
		return meta, fmt.Errorf("read metadata of %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	return meta, nil
}

// ageColumns are of custom resources that define no columns, or whose definition is not known.
func ageColumns() *columns {
	age := ageHeader()
	age.Type = "date"
	return &columns{headers: []header{nameHeader(), age}, row: func(item scope.Item, now time.Time) ([]any, []metav1.TableRowCondition, error) {
		meta, err := decodeMetadata(item)
		if err != nil {
			return nil, nil, err
		}
		return []any{item.Name, since(meta.CreationTimestamp, now)}, nil, nil
	}}
}

// definedColumns are those of a CustomResourceDefinition.
func definedColumns(crd scope.Item, version string) (*columns, error) {
	d, err := readDefinition(crd)
	if err != nil {
		return nil, err
	}
	v, _ := d.version(version)
	if len(v.Columns) == 0 {
		return ageColumns(), nil
	}
	c := &columns{headers: []header{nameHeader()}}
	var paths []*jsonpath.JSONPath
	for _, column := range v.Columns {
		path := jsonpath.New(column.Name).AllowMissingKeys(true)
		if err := path.Parse("{" + column.JSONPath + "}"); err != nil {
			// kube-apiserver too leaves out this column and those after it.
			break
		}
		paths = append(paths, path)
		c.headers = append(c.headers, header{
			Name: column.Name, Type: column.Type, Format: column.Format, Priority: column.Priority,
			Description: orElse(column.Description, "Custom resource definition column (in JSONPath format): "+column.JSONPath),
		})
	}
	c.row = func(item scope.Item, now time.Time) ([]any, []metav1.TableRowCondition, error) {
		var o map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(item.Raw, &o); err != nil {
			return nil, nil, fmt.Errorf("read %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
		}
		cells := []any{item.Name}
		for i, path := range paths {
			cells = append(cells, definedValue(path, c.headers[i+1].Type, o, now))
		}
		return cells, nil, nil
	}
	return c, nil
}

// definedValue gives a cell of a custom resource; nil if the object does not have it.
func definedValue(path *jsonpath.JSONPath, kind string, o map[string]any, now time.Time) any {
	results, err := path.FindResults(o)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	value := results[0][0].Interface()
	if kind == "string" {
		var b bytes.Buffer
		if err := path.PrintResults(&b, []reflect.Value{reflect.ValueOf(value)}); err != nil {
			return nil
		}
		return b.String()
	}
	return cellOf(kind, value, now)
}

// cellOf gives a value as its column's type wants it.
func cellOf(kind string, value any, now time.Time) any {
	switch v := value.(type) {
	case bool:
		if kind == "boolean" {
			return v
		}
	case int64:
		switch kind {
		case "integer":
			return v
		case "number":
			return float64(v)
		}
	case float64:
		switch kind {
		case "integer":
			return int64(v)
		case "number":
			return v
		}
	case string:
		if kind == "date" {
			var t metav1.Time
			if err := t.UnmarshalQueryParameter(v); err != nil {
				return "<invalid>"
			}
			return since(t, now)
		}
	}
	return nil
}
