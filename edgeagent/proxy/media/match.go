package media

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Match tells whether a query selects an object.
type Match func(scope.Item) (bool, error)

// Compile makes the Match of a list's or watch's namespace and selectors. kind is of the objects or of their list, crd the
// CustomResourceDefinition of a custom resource, if the cache has it: it names the fields that may be selected. A field that may
// not is a *request.Error: 400, in kube-apiserver's words.
func Compile(key scope.Key, kind scope.Kind, crd scope.Item) (Match, error) {
	labels, err := selector.ParseLabels(key.Labels)
	if err != nil {
		return nil, badRequest(err.Error())
	}
	fields, err := selector.ParseFields(key.Fields)
	if err != nil {
		return nil, badRequest(err.Error())
	}
	terms, err := compileTerms(fields.Terms(), key.Resource, objectKind(kind), crd)
	if err != nil {
		return nil, err
	}
	return func(item scope.Item) (bool, error) {
		if key.Namespace != "" && item.Namespace != key.Namespace || key.Name != "" && item.Name != key.Name {
			return false, nil
		}
		for _, term := range terms {
			if ok, err := term(item); err != nil || !ok {
				return false, err
			}
		}
		if key.Labels == "" {
			return true, nil
		}
		has, err := wire.Labels(item)
		if err != nil {
			return false, fmt.Errorf("read labels of %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
		}
		return labels.Matches(has), nil
	}, nil
}

// compileTerms makes one Match of each requirement of a field selector.
func compileTerms(terms []selector.Term, resource scope.Resource, kind scope.Kind, crd scope.Item) ([]Match, error) {
	matches := make([]Match, 0, len(terms))
	for _, term := range terms {
		value, err := fieldOf(term.Field, resource, kind, crd)
		if err != nil {
			return nil, err
		}
		matches = append(matches, func(item scope.Item) (bool, error) {
			has, err := value(item)
			if err != nil {
				return false, fmt.Errorf("read %s of %s %s/%s: %w", term.Field, item.Kind, item.Namespace, item.Name, err)
			}
			return term.Holds(has), nil
		})
	}
	return matches, nil
}

// fieldOf gives what reads a field, if field selectors may name it.
func fieldOf(field string, resource scope.Resource, kind scope.Kind, crd scope.Item) (func(scope.Item) (string, error), error) {
	switch field {
	case "metadata.name":
		return func(item scope.Item) (string, error) { return item.Name, nil }, nil
	case "metadata.namespace":
		// Kinds without namespaces may refuse it online; no object of theirs has one.
		return func(item scope.Item) (string, error) { return item.Namespace, nil }, nil
	}
	if slices.Contains(wire.SelectableFields(kind.APIVersion, kind.Kind), field) {
		return func(item scope.Item) (string, error) { return wire.Selectable(item, field) }, nil
	}
	definition, err := readDefinition(crd)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(definition.selectable(resource.Version), field) {
		return nil, badRequest(unsupported(field, resource, kind))
	}
	path := strings.Split(field, ".")
	return func(item scope.Item) (string, error) {
		text, _, err := wire.Field(item, path...)
		return text, err
	}, nil
}

// unsupported says in kube-apiserver's words that field selectors may not name a field.
func unsupported(field string, resource scope.Resource, kind scope.Kind) string {
	switch {
	case resource.Group == "batch" && kind.Kind == "Job":
		return fmt.Sprintf("field label %q not supported for Job", field)
	case resource.Group == "resource.k8s.io" && kind.Kind == "ResourceSlice":
		return fmt.Sprintf("field label not supported for %s, Kind=%s: %s", kind.APIVersion, kind.Kind, field)
	case known().serves(resource) && !slices.ContainsFunc(wire.SelectableFields(kind.APIVersion, kind.Kind), ownField):
		return fmt.Sprintf("%q is not a known field selector: only %q, %q", field, "metadata.name", "metadata.namespace")
	}
	return "field label not supported: " + field
}

// ownField tells whether a field is one that not every kind has.
func ownField(field string) bool { return !strings.HasPrefix(field, "metadata.") }

func badRequest(message string) error {
	return &request.Error{Code: http.StatusBadRequest, Reason: "BadRequest", Message: message}
}
