package outbox

import (
	"fmt"
	"slices"
)

// lists merges a list of objects by key.
func (m merger) lists(path, key string, have, patch []any) ([]any, error) {
	out := slices.Clone(have)
	var rest []map[string]any
	for _, element := range patch {
		e, ok := element.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("merge %s: its elements must be objects", path)
		}
		switch directive := e[patchDirective]; directive {
		case nil:
			rest = append(rest, e)
		case "delete":
			id, ok := e[key]
			if !ok {
				return nil, fmt.Errorf("merge %s: an element to delete does not say its %s", path, key)
			}
			out = slices.DeleteFunc(out, func(v any) bool { return same(v, key, id) })
		case "replace":
			return replaced(patch), nil
		default:
			return nil, fmt.Errorf("merge %s: unknown directive $patch: %v", path, directive)
		}
	}
	for _, e := range rest {
		id, ok := e[key]
		if !ok {
			return nil, fmt.Errorf("merge %s: an element does not say its %s", path, key)
		}
		i := slices.IndexFunc(out, func(v any) bool { return same(v, key, id) })
		if i < 0 {
			out = append(out, clean(e))
			continue
		}
		old, _ := out[i].(map[string]any)
		merged, err := m.maps(path, old, e)
		if err != nil {
			return nil, err
		}
		out[i] = merged
	}
	return sorted(out, patch, have, key), nil
}

// replaced gives a list that replaces another, without the directive that says so.
func replaced(patch []any) []any {
	out := []any{}
	for _, element := range patch {
		if e, ok := element.(map[string]any); ok && e[patchDirective] == nil {
			out = append(out, e)
		}
	}
	return out
}

// sorted brings a merged list into the order that a patch asks for. What the patch does not name keeps its place among the
// rest as well as it can.
func sorted(list, order, before []any, key string) []any {
	rank := func(in []any, v any) int {
		return slices.IndexFunc(in, func(w any) bool { return identity(w, key) == identity(v, key) })
	}
	var named, others []any
	for _, v := range list {
		if rank(order, v) >= 0 {
			named = append(named, v)
		} else {
			others = append(others, v)
		}
	}
	slices.SortStableFunc(named, func(a, b any) int { return rank(order, a) - rank(order, b) })
	slices.SortStableFunc(others, func(a, b any) int { return rank(before, a) - rank(before, b) })
	out := make([]any, 0, len(list))
	for len(named) > 0 && len(others) > 0 {
		o, n := rank(before, others[0]), rank(before, named[0])
		if o >= 0 && n >= 0 && o < n {
			out, others = append(out, others[0]), others[1:]
		} else {
			out, named = append(out, named[0]), named[1:]
		}
	}
	return append(append(out, named...), others...)
}

func union(have, more []any) []any {
	out := slices.Clone(have)
	for _, v := range more {
		if !contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func contains(list []any, v any) bool {
	return slices.ContainsFunc(list, func(w any) bool { return fmt.Sprint(w) == fmt.Sprint(v) })
}

func same(element any, key string, id any) bool {
	e, ok := element.(map[string]any)
	return ok && fmt.Sprint(e[key]) == fmt.Sprint(id)
}

func identity(element any, key string) string {
	if e, ok := element.(map[string]any); ok && key != "" {
		return fmt.Sprint(e[key])
	}
	return fmt.Sprint(element)
}
