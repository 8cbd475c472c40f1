package wire

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// valueType is how a field is written in protobuf, and what it is when it is left out.
type valueType uint8

const (
	textual valueType = iota // ""
	boolean                  // "false"
	numeric                  // "0"
)

// zero gives the text of a field that is left out.
func (t valueType) zero() string { return [...]string{"", "false", "0"}[t] }

// path is where a field is: its names in JSON with dots, its numbers in protobuf.
type path struct {
	json  string
	proto []protowire.Number
	typ   valueType
}

// offer is a field that kube-apiserver offers to field selectors, and where its value is: the first of the paths that has one.
type offer struct {
	name string
	at   []path
}

// kindFields are the fields of a kind. Source: AddFieldLabelConversionFunc in pkg/apis/*/*/conversion.go of Kubernetes 1.37, the
// values from the functions for selectable fields in pkg/registry, the numbers from the generated.proto files of k8s.io/api.
type kindFields struct {
	group     string
	kind      string
	namespace bool // metadata.namespace is offered
	offers    []offer
}

// same is a field whose selector name is its path in JSON.
func same(name string, typ valueType, numbers ...protowire.Number) offer {
	return offer{name, []path{{name, numbers, typ}}}
}

// other is a field whose value is elsewhere.
func other(name string, at ...path) offer { return offer{name, at} }

// reference gives the fields of an ObjectReference.
func reference(name string, at protowire.Number) []offer {
	var all []offer
	for i, part := range []string{"kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"} {
		all = append(all, same(name+"."+part, textual, at, protowire.Number(i+1)))
	}
	return all
}

// selectable gives the fields of a kind that offers more than name and namespace, or nil.
func selectable(group, kind string) *kindFields {
	i := slices.IndexFunc(selectableKinds, func(k kindFields) bool { return k.kind == kind && k.group == group })
	if i < 0 {
		return nil
	}
	return &selectableKinds[i]
}

// selectableKinds is read only.
var selectableKinds = []kindFields{
	{"", "Pod", true, []offer{
		same("spec.nodeName", textual, 2, 10),
		other("spec.host", path{"spec.nodeName", []protowire.Number{2, 10}, textual}),
		same("spec.restartPolicy", textual, 2, 3),
		same("spec.schedulerName", textual, 2, 19),
		same("spec.serviceAccountName", textual, 2, 8),
		same("spec.hostNetwork", boolean, 2, 11),
		same("status.phase", textual, 3, 1),
		same("status.podIP", textual, 3, 6),
		other("status.podIPs"), // is accepted and has no value
		same("status.nominatedNodeName", textual, 3, 11),
	}},
	{"", "Service", true, []offer{
		same("spec.clusterIP", textual, 2, 3),
		same("spec.type", textual, 2, 4),
	}},
	{"", "Node", false, []offer{same("spec.unschedulable", boolean, 2, 4)}},
	{"", "Secret", true, []offer{same("type", textual, 3)}},
	{"", "Namespace", false, []offer{same("status.phase", textual, 3, 1)}},
	{"", "ReplicationController", true, []offer{same("status.replicas", numeric, 3, 1)}},
	{"", "Event", true, append(reference("involvedObject", 2),
		same("reason", textual, 3),
		same("reportingComponent", textual, 14),
		other("source", path{"source.component", []protowire.Number{5, 1}, textual}, path{"reportingComponent", []protowire.Number{14}, textual}),
		same("type", textual, 9),
	)},
	{"events.k8s.io", "Event", true, append(reference("regarding", 8),
		same("reason", textual, 7),
		same("reportingController", textual, 4),
		same("type", textual, 11),
	)},
	{"batch", "Job", true, []offer{other("status.successful", path{"status.succeeded", []protowire.Number{3, 5}, numeric})}},
	{"certificates.k8s.io", "CertificateSigningRequest", false, []offer{same("spec.signerName", textual, 2, 7)}},
	{"certificates.k8s.io", "ClusterTrustBundle", false, []offer{same("spec.signerName", textual, 2, 1)}},
	{"certificates.k8s.io", "PodCertificateRequest", false, []offer{
		same("spec.signerName", textual, 2, 1),
		same("spec.podName", textual, 2, 2),
		same("spec.nodeName", textual, 2, 6),
	}},
	{"resource.k8s.io", "ResourceSlice", false, []offer{
		same("spec.nodeName", textual, 2, 3),
		same("spec.driver", textual, 2, 1),
		same("spec.pool.name", textual, 2, 2, 1),
	}},
}

// metaPaths are the fields of metadata that every object may have.
var metaPaths = []path{
	{"metadata.name", []protowire.Number{objectMeta, metaName}, textual},
	{"metadata.generateName", []protowire.Number{objectMeta, 2}, textual},
	{"metadata.namespace", []protowire.Number{objectMeta, metaNamespace}, textual},
	{"metadata.uid", []protowire.Number{objectMeta, metaUID}, textual},
	{"metadata.resourceVersion", []protowire.Number{objectMeta, metaVersion}, textual},
	{"metadata.generation", []protowire.Number{objectMeta, 7}, numeric},
	{"metadata.deletionGracePeriodSeconds", []protowire.Number{objectMeta, 10}, numeric},
}

// pathOf finds where protobuf has a field, by its path in JSON.
func pathOf(apiVersion, kind, dotted string) (path, bool) {
	for _, p := range metaPaths {
		if p.json == dotted {
			return p, true
		}
	}
	fields := selectable(groupOf(apiVersion), kind)
	if fields == nil {
		return path{}, false
	}
	for _, o := range fields.offers {
		for _, p := range o.at {
			if p.json == dotted {
				return p, true
			}
		}
	}
	return path{}, false
}

// groupOf gives the group of an apiVersion; the core group is "".
func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}
