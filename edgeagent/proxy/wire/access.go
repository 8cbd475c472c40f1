package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// Owner is an entry of metadata.ownerReferences.
type Owner struct {
	APIVersion, Kind, Name, UID string
	Controller                  bool
}

// Labels gives metadata.labels.
func Labels(item scope.Item) (map[string]string, error) { return nil, ErrMalformed }

// Annotations gives metadata.annotations.
func Annotations(item scope.Item) (map[string]string, error) { return nil, ErrMalformed }

// Owners gives metadata.ownerReferences.
func Owners(item scope.Item) ([]Owner, error) { return nil, ErrMalformed }

// Field gives the text of a scalar at a path, as in Field(item, "spec", "nodeName"); false if the object does not have it.
// A JSON object may be asked for any path; a protobuf object only for what the tables have, else the error is ErrUnknownField.
func Field(item scope.Item, path ...string) (string, bool, error) { return "", false, ErrUnknownField }

// Selectable gives the value that kube-apiserver compares a field selector with, as in Selectable(item, "spec.hostNetwork"):
// fields that are left out have their default ("false", "0", ""). A field that the kind does not offer is ErrUnknownField.
// Custom resources offer metadata.name and metadata.namespace here; for their selectableFields use Field.
func Selectable(item scope.Item, field string) (string, error) { return "", ErrUnknownField }

// SelectableFields names the fields that a kind offers to field selectors, in kube-apiserver's spelling.
func SelectableFields(apiVersion, kind string) []string { return nil }
