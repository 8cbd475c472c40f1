package media

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func nodeColumns() *columns {
	status, info := corev1.NodeStatus{}.SwaggerDoc(), corev1.NodeSystemInfo{}.SwaggerDoc()
	headers := []header{
		nameHeader(),
		text("Status", "The status of the node"),
		text("Roles", "The roles of the node"),
		ageHeader(),
		text("Version", info["kubeletVersion"]),
		wide("Internal-IP", status["addresses"]),
		wide("External-IP", status["addresses"]),
		wide("OS-Image", info["osImage"]),
		wide("Kernel-Version", info["kernelVersion"]),
		wide("Container-Runtime", info["containerRuntimeVersion"]),
	}
	return printed(headers, func(node *corev1.Node, now time.Time) []any {
		info := node.Status.NodeInfo
		kernel := orElse(info.KernelVersion, "<unknown>")
		if info.Architecture != "" {
			kernel += " (" + info.Architecture + ")"
		}
		return []any{
			node.Name, nodeStatus(node), nodeRoles(node), since(node.CreationTimestamp, now), info.KubeletVersion,
			nodeAddress(node, corev1.NodeInternalIP), nodeAddress(node, corev1.NodeExternalIP),
			orElse(info.OSImage, "<unknown>"), kernel, orElse(info.ContainerRuntimeVersion, "<unknown>"),
		}
	})
}

func nodeStatus(node *corev1.Node) string {
	status := "Unknown"
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if node.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(node *corev1.Node) string {
	var roles []string
	for key, value := range node.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if key == "kubernetes.io/role" && value != "" {
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	return orElse(strings.Join(slices.Compact(roles), ","), "<none>")
}

func nodeAddress(node *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range node.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}

func serviceColumns() *columns {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	headers := []header{
		nameHeader(),
		text("Type", doc["type"]),
		text("Cluster-IP", doc["clusterIP"]),
		text("External-IP", doc["externalIPs"]),
		text("Port(s)", doc["ports"]),
		ageHeader(),
		wide("Selector", doc["selector"]),
	}
	return printed(headers, func(service *corev1.Service, now time.Time) []any {
		cluster := "<none>"
		if len(service.Spec.ClusterIPs) > 0 {
			cluster = service.Spec.ClusterIPs[0]
		}
		return []any{
			service.Name, string(service.Spec.Type), cluster, externalIP(service), servicePorts(service.Spec.Ports),
			since(service.CreationTimestamp, now), labels.FormatLabels(service.Spec.Selector),
		}
	})
}

func externalIP(service *corev1.Service) string {
	external := service.Spec.ExternalIPs
	switch service.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orElse(strings.Join(external, ","), "<none>")
	case corev1.ServiceTypeLoadBalancer:
		var addresses []string
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if address := orElse(ingress.IP, ingress.Hostname); address != "" {
				addresses = append(addresses, address)
			}
		}
		slices.Sort(addresses)
		return orElse(strings.Join(append(slices.Compact(addresses), external...), ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return service.Spec.ExternalName
	}
	return "<unknown>"
}

func servicePorts(ports []corev1.ServicePort) string {
	var pieces []string
	for _, p := range ports {
		if p.NodePort > 0 {
			pieces = append(pieces, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			pieces = append(pieces, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return orElse(strings.Join(pieces, ","), "<none>")
}

// some joins the first three of many.
func some(all []string, none string) string {
	if len(all) == 0 {
		return none
	}
	if len(all) > 3 {
		return strings.Join(all[:3], ",") + someMore(len(all)-3)
	}
	return strings.Join(all, ",")
}

func someMore(n int) string { return fmt.Sprintf(" + %d more...", n) }

func endpointsColumns() *columns {
	//lint:ignore SA1019 kube-apiserver still serves them, and clients still read them
	headers := []header{nameHeader(), text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]), ageHeader()}
	//lint:ignore SA1019 as above
	return printed(headers, func(endpoints *corev1.Endpoints, now time.Time) []any {
		var all []string
		for _, subset := range endpoints.Subsets {
			for _, address := range subset.Addresses {
				if len(subset.Ports) == 0 {
					all = append(all, address.IP)
				}
			}
			for _, port := range subset.Ports {
				for _, address := range subset.Addresses {
					all = append(all, net.JoinHostPort(address.IP, strconv.Itoa(int(port.Port))))
				}
			}
		}
		return []any{endpoints.Name, some(all, "<none>"), since(endpoints.CreationTimestamp, now)}
	})
}

func endpointSliceColumns() *columns {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("AddressType", doc["addressType"]), text("Ports", doc["ports"]), text("Endpoints", doc["endpoints"]), ageHeader(),
	}
	return printed(headers, func(slice *discoveryv1.EndpointSlice, now time.Time) []any {
		var ports, addresses []string
		for _, p := range slice.Ports {
			switch {
			case p.Port != nil:
				ports = append(ports, strconv.Itoa(int(*p.Port)))
			case p.Name != nil:
				ports = append(ports, *p.Name)
			default:
				ports = append(ports, "*")
			}
		}
		for _, e := range slice.Endpoints {
			addresses = append(addresses, e.Addresses...)
		}
		return []any{
			slice.Name, string(slice.AddressType), orElse(some(ports, ""), "<unset>"), orElse(some(addresses, ""), "<unset>"),
			since(slice.CreationTimestamp, now),
		}
	})
}

func configMapColumns() *columns {
	headers := []header{nameHeader(), text("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]), ageHeader()}
	return printed(headers, func(c *corev1.ConfigMap, now time.Time) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp, now)}
	})
}

func secretColumns() *columns {
	doc := corev1.Secret{}.SwaggerDoc()
	headers := []header{nameHeader(), text("Type", doc["type"]), text("Data", doc["data"]), ageHeader()}
	return printed(headers, func(s *corev1.Secret, now time.Time) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), since(s.CreationTimestamp, now)}
	})
}

func namespaceColumns() *columns {
	headers := []header{nameHeader(), text("Status", "The status of the namespace"), ageHeader()}
	return printed(headers, func(n *corev1.Namespace, now time.Time) []any {
		return []any{n.Name, string(n.Status.Phase), since(n.CreationTimestamp, now)}
	})
}

func serviceAccountColumns() *columns {
	return printed([]header{nameHeader(), ageHeader()}, func(s *corev1.ServiceAccount, now time.Time) []any {
		return []any{s.Name, since(s.CreationTimestamp, now)}
	})
}
