package media

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

// templateHeaders are the wide columns of whatever has a pod template.
func templateHeaders() []header {
	return []header{
		wide("Containers", "Names of each container in the template."),
		wide("Images", "Images referenced by each container in the template."),
	}
}

// containerCells gives names and images.
func containerCells(containers []corev1.Container) (names, images string) {
	var n, i []string
	for _, c := range containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// value gives what a pointer points to, or a default.
func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func deploymentColumns() *columns {
	status := appsv1.DeploymentStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("Ready", "Number of the pod with ready state"), text("Up-to-date", status["updatedReplicas"]),
		text("Available", status["availableReplicas"]), ageHeader(),
	}
	headers = append(append(headers, templateHeaders()...), wide("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"]))
	return printed(headers, func(d *appsv1.Deployment, now time.Time) []any {
		selected := "<invalid>"
		if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
			selected = s.String()
		}
		names, images := containerCells(d.Spec.Template.Spec.Containers)
		return []any{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, value(d.Spec.Replicas, 1)), int64(d.Status.UpdatedReplicas),
			int64(d.Status.AvailableReplicas), since(d.CreationTimestamp, now), names, images, selected,
		}
	})
}

func replicaSetColumns() *columns {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), whole("Desired", spec["replicas"]), whole("Current", status["replicas"]), whole("Ready", status["readyReplicas"]), ageHeader(),
	}
	headers = append(append(headers, templateHeaders()...), wide("Selector", spec["selector"]))
	return printed(headers, func(r *appsv1.ReplicaSet, now time.Time) []any {
		names, images := containerCells(r.Spec.Template.Spec.Containers)
		return []any{
			r.Name, int64(value(r.Spec.Replicas, 1)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
			since(r.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(r.Spec.Selector),
		}
	})
}

func statefulSetColumns() *columns {
	headers := []header{nameHeader(), text("Ready", "Number of the pod with ready state"), ageHeader()}
	return printed(append(headers, templateHeaders()...), func(s *appsv1.StatefulSet, now time.Time) []any {
		names, images := containerCells(s.Spec.Template.Spec.Containers)
		ready := fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, value(s.Spec.Replicas, 1))
		return []any{s.Name, ready, since(s.CreationTimestamp, now), names, images}
	})
}

func daemonSetColumns() *columns {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), whole("Desired", status["desiredNumberScheduled"]), whole("Current", status["currentNumberScheduled"]),
		whole("Ready", status["numberReady"]), whole("Up-to-date", status["updatedNumberScheduled"]),
		whole("Available", status["numberAvailable"]), text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]), ageHeader(),
	}
	headers = append(append(headers, templateHeaders()...), wide("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"]))
	return printed(headers, func(d *appsv1.DaemonSet, now time.Time) []any {
		names, images := containerCells(d.Spec.Template.Spec.Containers)
		s := d.Status
		return []any{
			d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled),
			int64(s.NumberAvailable), labels.FormatLabels(d.Spec.Template.Spec.NodeSelector), since(d.CreationTimestamp, now),
			names, images, metav1.FormatLabelSelector(d.Spec.Selector),
		}
	})
}

func controllerRevisionColumns() *columns {
	headers := []header{
		nameHeader(), text("Controller", "Controller of the object"), text("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]), ageHeader(),
	}
	return printed(headers, func(c *appsv1.ControllerRevision, now time.Time) []any {
		controller := "<none>"
		if owner := metav1.GetControllerOf(c); owner != nil {
			kind := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind()
			controller = strings.ToLower(kind.String()) + "/" + owner.Name
		}
		return []any{c.Name, controller, c.Revision, since(c.CreationTimestamp, now)}
	})
}

func jobColumns() *columns {
	headers := []header{
		nameHeader(), text("Status", "Status of the job."), text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		text("Duration", "Time required to complete the job."), ageHeader(),
	}
	headers = append(append(headers, templateHeaders()...), wide("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"]))
	return printed(headers, func(j *batchv1.Job, now time.Time) []any {
		took := ""
		if start := j.Status.StartTime; start != nil {
			end := now
			if j.Status.CompletionTime != nil {
				end = j.Status.CompletionTime.Time
			}
			took = duration.HumanDuration(end.Sub(start.Time))
		}
		names, images := containerCells(j.Spec.Template.Spec.Containers)
		return []any{
			j.Name, jobStatus(j), completions(j), took, since(j.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(j.Spec.Selector),
		}
	})
}

func completions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if parallelism := value(j.Spec.Parallelism, 0); parallelism > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobStatus(j *batchv1.Job) string {
	has := map[batchv1.JobConditionType]bool{}
	for _, c := range j.Status.Conditions {
		if _, seen := has[c.Type]; !seen {
			has[c.Type] = c.Status == corev1.ConditionTrue
		}
	}
	switch {
	case has[batchv1.JobComplete]:
		return "Complete"
	case has[batchv1.JobFailed]:
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has[batchv1.JobSuspended]:
		return "Suspended"
	case has[batchv1.JobFailureTarget]:
		return "FailureTarget"
	case has[batchv1.JobSuccessCriteriaMet]:
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func cronJobColumns() *columns {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("Schedule", spec["schedule"]), text("Timezone", spec["timeZone"]), truth("Suspend", spec["suspend"]),
		whole("Active", status["active"]), text("Last Schedule", status["lastScheduleTime"]), ageHeader(),
	}
	headers = append(append(headers, templateHeaders()...), wide("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"]))
	return printed(headers, func(c *batchv1.CronJob, now time.Time) []any {
		last, suspend := "<none>", "<unset>"
		if c.Status.LastScheduleTime != nil {
			last = since(*c.Status.LastScheduleTime, now)
		}
		if c.Spec.Suspend != nil {
			suspend = "False"
			if *c.Spec.Suspend {
				suspend = "True"
			}
		}
		names, images := containerCells(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
		return []any{
			c.Name, c.Spec.Schedule, value(c.Spec.TimeZone, "<none>"), suspend, int64(len(c.Status.Active)), last,
			since(c.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector),
		}
	})
}
