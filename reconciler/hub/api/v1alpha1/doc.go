// Package v1alpha1 holds the two kinds that the hub keeps in the cluster, so that a fleet operator sees the fleet with
// kubectl and other programs can watch it. They show what Git says and what nodes report; nobody edits them: the hub
// writes their spec from the signed revision and puts back what others change.
//
// +kubebuilder:object:generate=true
// +groupName=fleet.holdfast.dev
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 object paths=. crd:crdVersions=v1 output:crd:dir=../crds
