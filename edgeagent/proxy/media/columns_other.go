package media

import (
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

func eventHeaders() []header {
	doc := corev1.Event{}.SwaggerDoc()
	name := nameHeader()
	name.Priority = 1
	return []header{
		text("Last Seen", doc["lastTimestamp"]), text("Type", doc["type"]), text("Reason", doc["reason"]), text("Object", doc["involvedObject"]),
		wide("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"]), wide("Source", doc["source"]), text("Message", doc["message"]),
		wide("First Seen", doc["firstTimestamp"]), wide("Count", doc["count"]), name,
	}
}

// eventColumns are of core/v1, newEventColumns of events.k8s.io/v1: the same thing with other names.
func eventColumns() *columns { return printed(eventHeaders(), eventCells) }

func newEventColumns() *columns {
	return printed(eventHeaders(), func(e *eventsv1.Event, now time.Time) []any {
		old := &corev1.Event{
			ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Reason: e.Reason, Message: e.Note, Source: e.DeprecatedSource,
			FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount, Type: e.Type,
			EventTime: e.EventTime, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		}
		if e.Series != nil {
			old.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
		}
		return eventCells(old, now)
	})
}

func eventCells(e *corev1.Event, now time.Time) []any {
	first := since(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = since(metav1.Time(e.EventTime), now)
	}
	last, count := first, e.Count
	if !e.LastTimestamp.IsZero() {
		last = since(e.LastTimestamp, now)
	}
	if e.Series != nil {
		last, count = since(metav1.Time(e.Series.LastObservedTime), now), e.Series.Count
	} else if count == 0 {
		count = 1
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	source := orElse(e.Source.Component, e.ReportingController)
	if host := orElse(e.Source.Host, e.ReportingInstance); host != "" {
		source += ", " + host
	}
	return []any{
		last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, int64(count), e.Name,
	}
}

func leaseColumns() *columns {
	headers := []header{nameHeader(), text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), ageHeader()}
	return printed(headers, func(l *coordinationv1.Lease, now time.Time) []any {
		return []any{l.Name, value(l.Spec.HolderIdentity, ""), since(l.CreationTimestamp, now)}
	})
}

func ingressColumns() *columns {
	headers := []header{
		nameHeader(), text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
		text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
		text("Address", "Address is a list containing ingress points for the load-balancer"),
		text("Ports", "Ports of TLS configurations that open"), ageHeader(),
	}
	return printed(headers, func(i *networkingv1.Ingress, now time.Time) []any {
		var addresses []string
		for _, ingress := range i.Status.LoadBalancer.Ingress {
			if address := orElse(ingress.IP, ingress.Hostname); address != "" {
				addresses = append(addresses, address)
			}
		}
		slices.Sort(addresses)
		ports := "80"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		return []any{
			i.Name, value(i.Spec.IngressClassName, "<none>"), ingressHosts(i.Spec.Rules), strings.Join(slices.Compact(addresses), ","), ports,
			since(i.CreationTimestamp, now),
		}
	})
}

// ingressHosts gives the first three hosts. Rules without host count among the rest, as kube-apiserver counts them.
func ingressHosts(rules []networkingv1.IngressRule) string {
	var hosts []string
	more := ""
	for _, rule := range rules {
		if len(hosts) == 3 {
			more = someMore(len(rules) - 3)
			break
		}
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	return orElse(strings.Join(hosts, ","), "*") + more
}

func ingressClassColumns() *columns {
	headers := []header{
		nameHeader(), text("Controller", "Controller that is responsible for handling this class"),
		text("Parameters", "A reference to a resource with additional parameters"), ageHeader(),
	}
	return printed(headers, func(c *networkingv1.IngressClass, now time.Time) []any {
		name, parameters := c.Name, "<none>"
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			name += " (default)"
		}
		if p := c.Spec.Parameters; p != nil {
			parameters = p.Kind
			if p.APIGroup != nil {
				parameters += "." + *p.APIGroup
			}
			parameters += "/" + p.Name
		}
		return []any{name, c.Spec.Controller, parameters, since(c.CreationTimestamp, now)}
	})
}

func networkPolicyColumns() *columns {
	headers := []header{nameHeader(), text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]), ageHeader()}
	return printed(headers, func(p *networkingv1.NetworkPolicy, now time.Time) []any {
		return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), since(p.CreationTimestamp, now)}
	})
}

func serviceCIDRColumns() *columns {
	headers := []header{nameHeader(), text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]), ageHeader()}
	return printed(headers, func(c *networkingv1.ServiceCIDR, now time.Time) []any {
		return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), since(c.CreationTimestamp, now)}
	})
}

func ipAddressColumns() *columns {
	headers := []header{nameHeader(), text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"])}
	return printed(headers, func(a *networkingv1.IPAddress, now time.Time) []any {
		parent := "<none>"
		if p := a.Spec.ParentRef; p != nil {
			parent = strings.ToLower(schema.GroupResource{Group: p.Group, Resource: p.Resource}.String())
			if p.Namespace != "" {
				parent += "/" + p.Namespace
			}
			parent += "/" + p.Name
		}
		// kube-apiserver gives the age without a column for it.
		return []any{a.Name, parent, since(a.CreationTimestamp, now)}
	})
}

func runtimeClassColumns() *columns {
	return printed([]header{nameHeader(), text("Handler", ""), ageHeader()}, func(c *nodev1.RuntimeClass, now time.Time) []any {
		return []any{c.Name, c.Handler, since(c.CreationTimestamp, now)}
	})
}

func priorityClassColumns() *columns {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	headers := []header{
		nameHeader(), whole("Value", doc["value"]), truth("Global-Default", doc["globalDefault"]), ageHeader(),
		text("PreemptionPolicy", doc["preemptionPolicy"]),
	}
	return printed(headers, func(c *schedulingv1.PriorityClass, now time.Time) []any {
		return []any{c.Name, int64(c.Value), c.GlobalDefault, since(c.CreationTimestamp, now), string(value(c.PreemptionPolicy, ""))}
	})
}

func disruptionBudgetColumns() *columns {
	headers := []header{
		nameHeader(), text("Min Available", "The minimum number of pods that must be available."),
		text("Max Unavailable", "The maximum number of pods that may be unavailable."),
		whole("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."), ageHeader(),
	}
	return printed(headers, func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
		least, most := "N/A", "N/A"
		if b.Spec.MinAvailable != nil {
			least = b.Spec.MinAvailable.String()
		}
		if b.Spec.MaxUnavailable != nil {
			most = b.Spec.MaxUnavailable.String()
		}
		return []any{b.Name, least, most, int64(b.Status.DisruptionsAllowed), since(b.CreationTimestamp, now)}
	})
}

// bindingHeaders, like signingRequestColumns, take the words of v1beta1, as kube-apiserver does.
func bindingHeaders(kind, role string) []header {
	return []header{
		nameHeader(), text("Role", role), ageHeader(),
		wide("Users", "Users in the "+kind), wide("Groups", "Groups in the "+kind), wide("ServiceAccounts", "ServiceAccounts in the "+kind),
	}
}

func bindingCells(meta metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		}
	}
	return []any{
		meta.Name, role.Kind + "/" + role.Name, since(meta.CreationTimestamp, now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}

func roleBindingColumns() *columns {
	headers := bindingHeaders("roleBinding", rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"])
	return printed(headers, func(b *rbacv1.RoleBinding, now time.Time) []any {
		return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects, now)
	})
}

func clusterRoleBindingColumns() *columns {
	headers := bindingHeaders("clusterRoleBinding", rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"])
	return printed(headers, func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
		return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects, now)
	})
}

func signingRequestColumns() *columns {
	spec := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()
	headers := []header{
		nameHeader(), ageHeader(), text("SignerName", spec["signerName"]), text("Requestor", spec["request"]),
		text("RequestedDuration", spec["expirationSeconds"]), text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
	}
	return printed(headers, func(r *certificatesv1.CertificateSigningRequest, now time.Time) []any {
		lifetime := "<none>"
		if s := r.Spec.ExpirationSeconds; s != nil {
			lifetime = duration.HumanDuration(time.Duration(*s) * time.Second)
		}
		return []any{
			r.Name, since(r.CreationTimestamp, now), orElse(r.Spec.SignerName, "<none>"), r.Spec.Username, lifetime, signingStatus(r),
		}
	})
}

func signingStatus(r *certificatesv1.CertificateSigningRequest) string {
	has := map[certificatesv1.RequestConditionType]bool{}
	for _, c := range r.Status.Conditions {
		has[c.Type] = true
	}
	status := "Pending"
	switch {
	case has[certificatesv1.CertificateDenied]:
		status = "Denied"
	case has[certificatesv1.CertificateApproved]:
		status = "Approved"
	}
	if has[certificatesv1.CertificateFailed] {
		status += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		status += ",Issued"
	}
	return status
}
