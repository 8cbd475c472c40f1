package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group. It is also the prefix of Holdfast's labels and annotations, which only the hub may set on Nodes.
const Group = "fleet.holdfast.dev"

// GroupVersion is the group and version of this package's kinds.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme makes this package's kinds known to s.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &NodePool{}, &NodePoolList{}, &EdgeNode{}, &EdgeNodeList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
