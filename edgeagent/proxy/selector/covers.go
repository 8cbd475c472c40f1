package selector

import (
	"slices"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Covers tells whether a complete scope `wide` holds everything that `narrow` asks for: whatever is not in it does not exist
// for `narrow`. False means only that it cannot be proved. Keys have canonical selectors.
func Covers(wide, narrow scope.Key) bool {
	if wide.Identity != narrow.Identity || wide.Resource != narrow.Resource {
		return false
	}
	if wide.Metadata && !narrow.Metadata {
		return false
	}
	if wide.Name != "" {
		// A GET says nothing about other objects, nor as of which version of the collection it is.
		return wide.Name == narrow.Name && wide.Namespace == narrow.Namespace
	}
	asked, err := ParseFields(narrow.Fields)
	if err != nil {
		return false
	}
	if narrow.Name != "" {
		asked.terms = append(asked.terms, Term{Field: nameField, Value: narrow.Name}, Term{Field: namespaceField, Value: narrow.Namespace})
	} else if narrow.Namespace != "" {
		asked.terms = append(asked.terms, Term{Field: namespaceField, Value: narrow.Namespace})
	}
	if !coversNamespace(wide.Namespace, narrow.Namespace, asked) {
		return false
	}
	return coversFields(wide.Fields, asked) && coversLabels(wide.Labels, narrow.Labels)
}

// coversNamespace compares the namespaces. A list over all namespaces may still ask for one by its field selector.
func coversNamespace(wide, narrow string, asked Fields) bool {
	if wide == "" || wide == narrow {
		return true
	}
	only, ok := asked.exact(namespaceField)
	return narrow == "" && ok && only == wide
}

// coversFields tells whether each term of the wide selector follows from one of those that are asked for.
func coversFields(wide string, asked Fields) bool {
	if wide == "" {
		return true
	}
	all, err := ParseFields(wide)
	if err != nil {
		return false
	}
	for _, w := range all.terms {
		if !slices.ContainsFunc(asked.terms, func(n Term) bool { return n.implies(w) }) {
			return false
		}
	}
	return true
}

// implies tells whether whatever meets t meets w.
func (t Term) implies(w Term) bool {
	if t.Field != w.Field {
		return false
	}
	if t.Not {
		return t == w
	}
	return w.Holds(t.Value)
}

// coversLabels tells whether each requirement of the wide selector follows from one of the narrow one.
func coversLabels(wide, narrow string) bool {
	if wide == "" || wide == narrow {
		return true
	}
	all, err := ParseLabels(wide)
	if err != nil {
		return false
	}
	asked, err := ParseLabels(narrow)
	if err != nil {
		return false
	}
	for _, w := range all.requirements {
		if !slices.ContainsFunc(asked.requirements, func(n labels.Requirement) bool { return implies(n, w) }) {
			return false
		}
	}
	return true
}

// implies tells whether labels that meet n always meet w.
func implies(n, w labels.Requirement) bool {
	if n.Key() != w.Key() {
		return false
	}
	if n.String() == w.String() {
		return true
	}
	switch n.Operator() {
	case selection.In, selection.Equals, selection.DoubleEquals:
		// The label has one of these values: w must let each pass.
		for _, value := range n.ValuesUnsorted() {
			if !w.Matches(labels.Set{n.Key(): value}) {
				return false
			}
		}
		return true
	case selection.DoesNotExist:
		return w.Matches(labels.Set{})
	case selection.NotIn, selection.NotEquals:
		return excludes(w) && subset(w.ValuesUnsorted(), n.ValuesUnsorted())
	case selection.GreaterThan, selection.LessThan:
		return w.Operator() == selection.Exists || tighter(n, w)
	}
	return false
}

// excludes tells whether a requirement names values that must not be there.
func excludes(r labels.Requirement) bool {
	return r.Operator() == selection.NotIn || r.Operator() == selection.NotEquals
}

// subset tells whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(value string) bool { return !slices.Contains(b, value) })
}

// tighter tells whether one bound lies within another of the same kind.
func tighter(n, w labels.Requirement) bool {
	if n.Operator() != w.Operator() || len(n.ValuesUnsorted()) != 1 || len(w.ValuesUnsorted()) != 1 {
		return false
	}
	a, err1 := strconv.ParseInt(n.ValuesUnsorted()[0], 10, 64)
	b, err2 := strconv.ParseInt(w.ValuesUnsorted()[0], 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	if n.Operator() == selection.GreaterThan {
		return a >= b
	}
	return a <= b
}
