package offline

import (
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// address tells where a pod of this node is now, so that Services on the node find it.
func (h *Handler) address(pod scope.Item, object map[string]any) {
	if h.cfg.Rewriter == nil {
		return
	}
	status := child(object, "status")
	where := rewrite.Pod{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name}
	ips, _ := status["podIPs"].([]any)
	for _, ip := range ips {
		if entry, _ := ip.(map[string]any); text(entry, "ip") != "" {
			where.IPs = append(where.IPs, text(entry, "ip"))
		}
	}
	if one, _ := status["podIP"].(string); len(where.IPs) == 0 && one != "" {
		where.IPs = []string{one}
	}
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		if condition, _ := c.(map[string]any); condition["type"] == "Ready" {
			where.Ready = condition["status"] == "True"
		}
	}
	h.cfg.Rewriter.PodAddresses(where)
}

// restoreAddresses tells where the pods are, from what was written before the agent started again. It does so once each time the
// link goes down, when somebody first asks.
func (h *Handler) restoreAddresses() {
	select {
	case <-h.back():
		return // upstream's own word counts; somebody only tries what would be answered
	default:
	}
	if h.restored.Swap(true) {
		return
	}
	written, _ := h.cfg.Outbox.Statuses(0)
	for _, s := range written {
		if s.Resource != "pods" {
			continue
		}
		pod, _, _, err := h.find(scope.Key{Identity: h.node(), Resource: scope.Resource{Version: "v1", Resource: "pods"}, Namespace: s.Namespace, Name: s.Name})
		if err != nil || pod.UID != s.UID {
			continue
		}
		object, err := merged(pod, s)
		if err != nil {
			h.cfg.Log.Warn("find pod's address", "namespace", s.Namespace, "name", s.Name, "err", err)
			continue
		}
		h.address(pod, object)
	}
}
