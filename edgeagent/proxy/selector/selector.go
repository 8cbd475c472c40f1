// Package selector reads label and field selectors and tells which query answers which: a scope that was read with a wider
// selector can answer a narrower one. It claims only what it can prove, because a list that is short by one pod kills that pod.
package selector

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Labels is a label selector. The zero value selects everything.
type Labels struct {
	requirements []labels.Requirement
	text         string
}

// Fields is a field selector. The zero value selects everything.
type Fields struct {
	terms []Term
	text  string
}

// Term is one requirement of a field selector.
type Term struct {
	Field, Value string
	// Not: the field must not have the value.
	Not bool
}

// ParseLabels reads a label selector. Selectors that mean the same, but for the order and the way of writing, are printed the same.
func ParseLabels(text string) (Labels, error) {
	if text == "" {
		return Labels{}, nil
	}
	requirements, err := labels.ParseToRequirements(text)
	if err != nil {
		return Labels{}, err
	}
	byText := map[string]labels.Requirement{}
	var texts []string
	for _, r := range requirements {
		plain, err := simplest(r)
		if err != nil {
			return Labels{}, err
		}
		if _, twice := byText[plain.String()]; !twice {
			texts = append(texts, plain.String())
		}
		byText[plain.String()] = plain
	}
	slices.Sort(texts)
	l := Labels{text: strings.Join(texts, ",")}
	for _, t := range texts {
		l.requirements = append(l.requirements, byText[t])
	}
	return l, nil
}

// simplest gives a requirement in the one way of writing that is kept.
func simplest(r labels.Requirement) (labels.Requirement, error) {
	values := r.ValuesUnsorted()
	slices.Sort(values)
	values = slices.Compact(values)
	operator := r.Operator()
	switch {
	case operator == selection.DoubleEquals, operator == selection.In && len(values) == 1:
		operator = selection.Equals
	case operator == selection.NotIn && len(values) == 1:
		operator = selection.NotEquals
	}
	plain, err := labels.NewRequirement(r.Key(), operator, values)
	if err != nil {
		return labels.Requirement{}, err
	}
	return *plain, nil
}

// String gives the canonical form. Parsed again, it gives itself.
func (l Labels) String() string { return l.text }

// Matches tells whether an object's labels are selected.
func (l Labels) Matches(object map[string]string) bool {
	for i := range l.requirements {
		if !l.requirements[i].Matches(labels.Set(object)) {
			return false
		}
	}
	return true
}

// ParseFields reads a field selector.
func ParseFields(text string) (Fields, error) {
	if text == "" {
		return Fields{}, nil
	}
	if !utf8.ValidString(text) {
		// No field of an object has such a value, and what means nothing has no canonical form.
		return Fields{}, fmt.Errorf("field selector %q is not UTF-8", text)
	}
	parsed, err := fields.ParseSelector(text)
	if err != nil {
		return Fields{}, err
	}
	var f Fields
	for _, r := range parsed.Requirements() {
		f.terms = append(f.terms, Term{Field: r.Field, Value: r.Value, Not: r.Operator == selection.NotEquals})
	}
	slices.SortFunc(f.terms, func(a, b Term) int { return strings.Compare(a.String(), b.String()) })
	f.terms = slices.Compact(f.terms)
	texts := make([]string, len(f.terms))
	for i, t := range f.terms {
		texts[i] = t.String()
	}
	f.text = strings.Join(texts, ",")
	return f, nil
}

// String gives the canonical form. Parsed again, it gives itself.
func (f Fields) String() string { return f.text }

// Terms gives the requirements. All must hold.
func (f Fields) Terms() []Term { return f.terms }

// String prints a term.
func (t Term) String() string {
	if t.Not {
		return t.Field + "!=" + fields.EscapeValue(t.Value)
	}
	return t.Field + "=" + fields.EscapeValue(t.Value)
}

// Holds tells whether a field's value meets the term. A field that is not set has the value "".
func (t Term) Holds(value string) bool { return (value == t.Value) != t.Not }

const (
	nameField      = "metadata.name"
	namespaceField = "metadata.namespace"
)

// Name gives the name that a field selector, in canonical form, asks for.
func Name(canonical string) (string, bool) {
	if !strings.Contains(canonical, nameField+"=") {
		return "", false
	}
	f, err := ParseFields(canonical)
	if err != nil {
		return "", false
	}
	return f.exact(nameField)
}

// ByName is the field selector of one name, in canonical form.
func ByName(name string) string { return Term{Field: nameField, Value: name}.String() }

// exact gives the value that a field must have.
func (f Fields) exact(field string) (string, bool) {
	for _, t := range f.terms {
		if t.Field == field && !t.Not {
			return t.Value, true
		}
	}
	return "", false
}
