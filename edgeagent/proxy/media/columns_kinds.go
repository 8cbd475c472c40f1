package media

// builtinColumns gives the columns of a built-in kind, or nil if it has those of every kind.
func builtinColumns(apiVersion, kind string) *columns {
	if make := columnsOf(apiVersion + " " + kind); make != nil {
		return make()
	}
	return nil
}

// columnsOf names what prints a kind. kube-apiserver prints more kinds than these; none of the others is read on a node.
func columnsOf(kind string) func() *columns {
	switch kind {
	case "v1 Pod":
		return podColumns
	case "v1 Node":
		return nodeColumns
	case "v1 Service":
		return serviceColumns
	case "v1 Endpoints":
		return endpointsColumns
	case "v1 ConfigMap":
		return configMapColumns
	case "v1 Secret":
		return secretColumns
	case "v1 Namespace":
		return namespaceColumns
	case "v1 ServiceAccount":
		return serviceAccountColumns
	case "v1 PersistentVolume":
		return volumeColumns
	case "v1 PersistentVolumeClaim":
		return claimColumns
	case "v1 Event":
		return eventColumns
	case "events.k8s.io/v1 Event":
		return newEventColumns
	case "discovery.k8s.io/v1 EndpointSlice":
		return endpointSliceColumns
	case "coordination.k8s.io/v1 Lease":
		return leaseColumns
	case "node.k8s.io/v1 RuntimeClass":
		return runtimeClassColumns
	case "policy/v1 PodDisruptionBudget":
		return disruptionBudgetColumns
	case "scheduling.k8s.io/v1 PriorityClass":
		return priorityClassColumns
	case "certificates.k8s.io/v1 CertificateSigningRequest":
		return signingRequestColumns
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		return roleBindingColumns
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		return clusterRoleBindingColumns
	}
	return moreColumnsOf(kind)
}

// moreColumnsOf goes on by group: workloads, networking and storage.
func moreColumnsOf(kind string) func() *columns {
	switch kind {
	case "apps/v1 Deployment":
		return deploymentColumns
	case "apps/v1 ReplicaSet":
		return replicaSetColumns
	case "apps/v1 StatefulSet":
		return statefulSetColumns
	case "apps/v1 DaemonSet":
		return daemonSetColumns
	case "apps/v1 ControllerRevision":
		return controllerRevisionColumns
	case "batch/v1 Job":
		return jobColumns
	case "batch/v1 CronJob":
		return cronJobColumns
	case "networking.k8s.io/v1 Ingress":
		return ingressColumns
	case "networking.k8s.io/v1 IngressClass":
		return ingressClassColumns
	case "networking.k8s.io/v1 NetworkPolicy":
		return networkPolicyColumns
	case "networking.k8s.io/v1 ServiceCIDR":
		return serviceCIDRColumns
	case "networking.k8s.io/v1 IPAddress":
		return ipAddressColumns
	case "storage.k8s.io/v1 StorageClass":
		return storageClassColumns
	case "storage.k8s.io/v1 VolumeAttachment":
		return attachmentColumns
	case "storage.k8s.io/v1 CSINode":
		return csiNodeColumns
	case "storage.k8s.io/v1 CSIDriver":
		return csiDriverColumns
	}
	return nil
}
