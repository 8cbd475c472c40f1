package install

import (
	"bytes"
	"strings"
	"testing"
)

func TestObjects(t *testing.T) {
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, obj := range objects {
		got = append(got, obj.GetKind()+"/"+obj.GetName())
		if obj.GetNamespace() != "" {
			t.Errorf("%s has a namespace", obj.GetName())
		}
	}
	want := []string{
		"CustomResourceDefinition/edgenodes.fleet.holdfast.dev",
		"CustomResourceDefinition/nodepools.fleet.holdfast.dev",
		"ValidatingAdmissionPolicy/holdfast-node-reports",
		"ValidatingAdmissionPolicyBinding/holdfast-node-reports",
		"ValidatingAdmissionPolicy/holdfast-node-marks",
		"ValidatingAdmissionPolicyBinding/holdfast-node-marks",
		"ValidatingAdmissionPolicy/holdfast-hub-pods",
		"ValidatingAdmissionPolicyBinding/holdfast-hub-pods",
		"MutatingAdmissionPolicy/holdfast-pod-autonomy",
		"MutatingAdmissionPolicyBinding/holdfast-pod-autonomy",
		"ClusterRole/holdfast-node",
		"ClusterRoleBinding/holdfast-node",
		"ClusterRoleBinding/holdfast-node-issuer-discovery",
		"ClusterRole/holdfast-hub",
		"ClusterRole/holdfast-hub-state",
		"ClusterRole/holdfast-view",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("objects:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestYAMLRoundTrip: what --dry-run prints is what is applied.
func TestYAMLRoundTrip(t *testing.T) {
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	text, err := YAML(objects)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	second, err := YAML(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, second) || len(again) != len(objects) {
		t.Error("the YAML does not read back as what was written")
	}
}

func TestParseRefusesOtherKinds(t *testing.T) {
	_, err := parse([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"))
	if err == nil || !strings.Contains(err.Error(), "Secret x is of no kind that is installed") {
		t.Errorf("err = %v", err)
	}
}
