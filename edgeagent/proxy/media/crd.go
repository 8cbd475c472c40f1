package media

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// definition is what is used of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Versions []definedVersion `json:"versions"`
	} `json:"spec"`
}

// definedVersion is one version of a custom resource.
type definedVersion struct {
	Name     string        `json:"name"`
	Columns  []definedCell `json:"additionalPrinterColumns"`
	Selected []struct {
		JSONPath string `json:"jsonPath"`
	} `json:"selectableFields"`
}

// definedCell is a column that a CustomResourceDefinition adds to Tables.
type definedCell struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Format      string `json:"format"`
	Description string `json:"description"`
	Priority    int32  `json:"priority"`
	JSONPath    string `json:"jsonPath"`
}

// readDefinition reads a CustomResourceDefinition. The zero Item, and one that was read as protobuf, define nothing.
func readDefinition(crd scope.Item) (definition, error) {
	var d definition
	if crd.Encoding != scope.JSON || len(crd.Raw) == 0 {
		return d, nil
	}
	if err := json.Unmarshal(crd.Raw, &d); err != nil {
		return d, fmt.Errorf("read CustomResourceDefinition %s: %w", crd.Name, err)
	}
	return d, nil
}

// version gives one version's definition.
func (d definition) version(name string) (definedVersion, bool) {
	for _, v := range d.Spec.Versions {
		if v.Name == name {
			return v, true
		}
	}
	return definedVersion{}, false
}

// selectable names the fields that field selectors may use.
func (d definition) selectable(version string) []string {
	v, _ := d.version(version)
	var fields []string
	for _, s := range v.Selected {
		fields = append(fields, strings.TrimPrefix(s.JSONPath, "."))
	}
	return fields
}
