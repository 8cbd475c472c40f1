package offline

import (
	"maps"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// decodeClean gives an object as Go's maps, without fields that are null: absent means the same.
func decodeClean(item scope.Item) (map[string]any, error) {
	object, err := decodeItem(item)
	return clean(object), err
}

func clean(object map[string]any) map[string]any {
	maps.DeleteFunc(object, func(_ string, value any) bool { return value == nil })
	for _, value := range object {
		cleanValue(value)
	}
	return object
}

func cleanValue(value any) {
	switch value := value.(type) {
	case map[string]any:
		clean(value)
	case []any:
		for _, element := range value {
			cleanValue(element)
		}
	}
}

// child gives an object inside an object. It is never nil, but what is set in a new one is lost.
func child(object map[string]any, field string) map[string]any {
	if sub, ok := object[field].(map[string]any); ok {
		return sub
	}
	return map[string]any{}
}

func text(object map[string]any, path ...string) string {
	for _, field := range path[:len(path)-1] {
		object = child(object, field)
	}
	s, _ := object[path[len(path)-1]].(string)
	return s
}
