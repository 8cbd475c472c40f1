// Package install puts what the cluster needs of Holdfast into it: the CustomResourceDefinitions, RBAC and admission
// policies. The hub's deployment is not part of it; nodes can report, and are held to their own, without one.
package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/policy/admission"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/crds"
)

// FieldManager owns what Apply writes.
const FieldManager = "holdfast-install"

// establishTimeout bounds the wait for the API server to serve a new kind.
const establishTimeout = time.Minute

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// resources are the kinds that are installed and where the API server serves them.
var resources = map[schema.GroupVersionKind]string{
	crdKind: "customresourcedefinitions",
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}:                         "clusterroles",
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"}:                  "clusterrolebindings",
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy"}:        "validatingadmissionpolicies",
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding"}: "validatingadmissionpolicybindings",
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicy"}:          "mutatingadmissionpolicies",
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicyBinding"}:   "mutatingadmissionpolicybindings",
}

// optional tells whether a cluster may do without a kind. Mutating policies are served from Kubernetes 1.36 on; without them the hub
// does what they do, a moment later.
func optional(kind schema.GroupVersionKind) bool {
	return kind.Kind == "MutatingAdmissionPolicy" || kind.Kind == "MutatingAdmissionPolicyBinding"
}

// Objects gives what is installed, in the order in which it is applied.
func Objects() ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, files := range []fs.FS{crds.Files, admission.Files} {
		err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			parsed, err := parse(raw)
			if err != nil {
				return fmt.Errorf("parse %s: %w", path, err)
			}
			objects = append(objects, parsed...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// parse reads YAML documents.
func parse(raw []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	docs := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for {
		obj := &unstructured.Unstructured{}
		if err := docs.Decode(&obj.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(obj.Object) == 0 {
			continue
		}
		if _, ok := resources[obj.GroupVersionKind()]; !ok {
			return nil, fmt.Errorf("%s %s is of no kind that is installed", obj.GetKind(), obj.GetName())
		}
		labels := obj.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["app.kubernetes.io/name"] = "holdfast"
		obj.SetLabels(labels)
		objects = append(objects, obj)
	}
}

// YAML gives the objects as YAML documents, for `kubectl apply -f -` or for a look.
func YAML(objects []*unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for _, obj := range objects {
		doc, err := yaml.Marshal(obj.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		out.WriteString("---\n")
		out.Write(doc)
	}
	return out.Bytes(), nil
}

// Outcome is what became of one object.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Changed   Outcome = "changed"
	Unchanged Outcome = "unchanged"
	// Skipped: the cluster does not serve the kind, and can do without.
	Skipped Outcome = "skipped: this cluster does not serve the kind, and can do without"
)

// Step is one object and what became of it.
type Step struct {
	Kind, Name string
	Outcome    Outcome
}

// Apply applies the objects in order, server-side, taking over fields that others set, and tells done of each. A
// CustomResourceDefinition is done when the API server serves its kind. Applying again changes nothing.
func Apply(ctx context.Context, cluster dynamic.Interface, objects []*unstructured.Unstructured, done func(Step)) error {
	for _, obj := range objects {
		outcome, err := apply(ctx, cluster, obj)
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		done(Step{Kind: obj.GetKind(), Name: obj.GetName(), Outcome: outcome})
	}
	return nil
}

func apply(ctx context.Context, cluster dynamic.Interface, obj *unstructured.Unstructured) (Outcome, error) {
	kind := obj.GroupVersionKind()
	client := cluster.Resource(kind.GroupVersion().WithResource(resources[kind]))
	before := ""
	switch old, err := client.Get(ctx, obj.GetName(), metav1.GetOptions{}); {
	case err == nil:
		before = old.GetResourceVersion()
	case !apierrors.IsNotFound(err):
		return "", err
	}
	after, err := client.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	if apierrors.IsNotFound(err) && optional(kind) {
		return Skipped, nil
	}
	if err != nil {
		return "", err
	}
	if kind == crdKind {
		if err := established(ctx, client, obj.GetName()); err != nil {
			return "", err
		}
	}
	switch before {
	case "":
		return Created, nil
	case after.GetResourceVersion():
		return Unchanged, nil
	}
	return Changed, nil
}

// established waits until the API server serves the kind.
func established(ctx context.Context, client dynamic.ResourceInterface, name string) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
		crd, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
		for _, c := range conditions {
			m, _ := c.(map[string]any)
			switch {
			case m["type"] == "Established" && m["status"] == "True":
				return true, nil
			case m["status"] == "False":
				last = fmt.Sprintf(": %v: %v", m["reason"], m["message"])
			}
		}
		return false, nil
	})
	if err != nil && wait.Interrupted(err) {
		return fmt.Errorf("the API server does not serve it after %s%s", establishTimeout, last)
	}
	return err
}
