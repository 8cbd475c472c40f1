package media

import (
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podColumns() *columns {
	status, spec := corev1.PodStatus{}.SwaggerDoc(), corev1.PodSpec{}.SwaggerDoc()
	return &columns{
		headers: []header{
			nameHeader(),
			text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
			text("Status", "The aggregate status of the containers in this pod."),
			text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
			ageHeader(),
			wide("IP", status["podIP"]),
			wide("Node", spec["nodeName"]),
			wide("Nominated Node", status["nominatedNodeName"]),
			wide("Readiness Gates", spec["readinessGates"]),
		},
		row: podRow,
	}
}

func podRow(item scope.Item, now time.Time) ([]any, []metav1.TableRowCondition, error) {
	pod, err := typed[*corev1.Pod](item)
	if err != nil {
		return nil, nil, err
	}
	s := summarize(pod)
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	cells := []any{
		pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, s.restartsText(now), since(pod.CreationTimestamp, now),
		orElse(ip, "<none>"), orElse(pod.Spec.NodeName, "<none>"), orElse(pod.Status.NominatedNodeName, "<none>"), gates(pod),
	}
	var conditions []metav1.TableRowCondition
	switch pod.Status.Phase {
	case corev1.PodSucceeded:
		conditions = completed(corev1.PodSucceeded, "The pod has completed successfully.")
	case corev1.PodFailed:
		conditions = completed(corev1.PodFailed, "The pod failed.")
	}
	return cells, conditions, nil
}

func completed(phase corev1.PodPhase, message string) []metav1.TableRowCondition {
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(phase), Message: message}}
}

// podSummary is a pod in the few words of `kubectl get pods`.
type podSummary struct {
	ready, total int
	reason       string
	restarts     int
	restarted    metav1.Time
}

// restartsText gives "3 (5m ago)".
func (s podSummary) restartsText(now time.Time) string {
	if s.restarts == 0 || s.restarted.IsZero() {
		return strconv.Itoa(s.restarts)
	}
	return fmt.Sprintf("%d (%s ago)", s.restarts, since(s.restarted, now))
}

// count adds a container's restarts.
func (s *podSummary) count(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.restarted.Before(&t.FinishedAt) {
		s.restarted = t.FinishedAt
	}
}

// summarize gives a pod's state as kube-apiserver's printer does.
func summarize(pod *corev1.Pod) podSummary {
	s := podSummary{total: len(pod.Spec.Containers), reason: orElse(pod.Status.Reason, string(pod.Status.Phase))}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}
	sidecars, initializing := s.initContainers(pod)
	if !initializing || isTrue(pod, corev1.PodInitialized) {
		s.restarts, s.restarted = sidecars.restarts, sidecars.restarted
		s.containers(pod)
	}
	switch {
	case pod.DeletionTimestamp == nil:
	case pod.Status.Reason == "NodeLost":
		s.reason = "Unknown"
	case pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
		s.reason = "Terminating"
	}
	return s
}

// initContainers looks at the init containers in order, up to the one that is at work. It gives the restarts of the restartable
// ones alone, which count for good, and whether the pod is still initializing.
func (s *podSummary) initContainers(pod *corev1.Pod) (sidecars podSummary, initializing bool) {
	restartable := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			restartable[c.Name] = true
			s.total++
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		s.count(c)
		if restartable[c.Name] {
			sidecars.count(c)
		}
		terminated := c.State.Terminated
		switch {
		case terminated != nil && terminated.ExitCode == 0:
			continue
		case restartable[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case terminated != nil:
			s.reason = "Init:" + exitReason(terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.reason = "Init:" + c.State.Waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return sidecars, true
	}
	return sidecars, false
}

// containers looks at the containers, last to first: the first one's trouble is what is shown.
func (s *podSummary) containers(pod *corev1.Pod) {
	running, failed := false, ""
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		s.count(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.reason = exitReason(c.State.Terminated)
			if c.State.Terminated.ExitCode != 0 {
				failed = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" {
		return
	}
	switch {
	case running && isTrue(pod, corev1.PodReady):
		s.reason = "Running"
	case failed != "":
		s.reason = failed
	case running:
		s.reason = "NotReady"
	}
}

// exitReason says why a container ended.
func exitReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

// isTrue tells whether a pod's condition is there and true.
func isTrue(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// gates gives how many readiness gates are open: "1/2".
func gates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if isTrue(pod, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}
