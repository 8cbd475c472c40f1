package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// benchPod is a pod as clusters have them: two containers, a projected token, conditions, managed fields.
func benchPod(i int) *corev1.Pod {
	now := metav1.NewTime(time.Unix(1_800_000_000, 0))
	name := "web-6c5d9bf76d-" + strconv.Itoa(i)
	controller := true
	container := func(name string) corev1.Container {
		return corev1.Container{
			Name: name, Image: "registry.example.com/team/" + name + ":v1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
			Env: []corev1.EnvVar{
				{Name: "LISTEN", Value: "0.0.0.0:8080"},
				{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}},
			},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
			VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-x2x9z", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
		}
	}
	status := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name: name, Ready: true, Image: "registry.example.com/team/" + name + ":v1.2.3",
			ImageID:     "registry.example.com/team/" + name + "@sha256:7f5a2a0c5f1f6f6a8b7f0c1f6b5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e",
			ContainerID: "containerd://5d1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8",
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, GenerateName: "web-6c5d9bf76d-", Namespace: "shop", UID: types.UID(fmt.Sprintf("0f8f1c7e-5f6f-4f43-9a39-%012d", i)),
			ResourceVersion: strconv.Itoa(1_000_000 + i), CreationTimestamp: now,
			Labels:          map[string]string{"app": "web", "pod-template-hash": "6c5d9bf76d", "tier": "front"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-6c5d9bf76d", UID: "a", Controller: &controller}},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kubelet", Operation: "Update", APIVersion: "v1", Time: &now, FieldsType: "FieldsV1", Subresource: "status",
				FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{}}}`),
			}},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "web", SchedulerName: "default-scheduler", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			Containers:  []corev1.Container{container("web"), container("sidecar")},
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "10.0.1.7", PodIPs: []corev1.PodIP{{IP: "10.0.1.7"}}, StartTime: &now, QOSClass: corev1.PodQOSBurstable,
			ContainerStatuses: []corev1.ContainerStatus{status("web"), status("sidecar")},
		},
	}
	for _, condition := range []corev1.PodConditionType{corev1.PodReady, corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return pod
}

func benchList(n int) *corev1.PodList {
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "2000000"}}
	for i := range n {
		list.Items = append(list.Items, *benchPod(i))
	}
	return list
}

// BenchmarkScanList scans a list of a thousand pods in pieces as a connection gives them.
func BenchmarkScanList(b *testing.B) {
	for _, e := range encodings {
		b.Run(e.name, func(b *testing.B) {
			body := newAPI(b, e.media).encode(b, benchList(1000), corev1.SchemeGroupVersion)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				items := 0
				s := wire.NewListScanner(e.encoding, wire.Limits{}, func(scope.Item) error { items++; return nil })
				for rest := body; len(rest) > 0; {
					n := min(32<<10, len(rest))
					if _, err := s.Write(rest[:n]); err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
				if _, err := s.Close(); err != nil || items != 1000 {
					b.Fatal(items, err)
				}
			}
		})
	}
}

func BenchmarkScanWatchEvent(b *testing.B) {
	for _, e := range encodings {
		b.Run(e.name, func(b *testing.B) {
			frame := newAPI(b, e.media).frame(b, wire.Modified, benchPod(1), corev1.SchemeGroupVersion)
			s := wire.NewWatchScanner(e.encoding, wire.Limits{}, func(wire.Frame) error { return nil })
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Write(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// items scans a list for a benchmark.
func items(b *testing.B, encoding scope.Encoding, body []byte) (wire.List, []scope.Item) {
	b.Helper()
	var all []scope.Item
	s := wire.NewListScanner(encoding, wire.Limits{}, func(item scope.Item) error { all = append(all, item); return nil })
	if _, err := s.Write(body); err != nil {
		b.Fatal(err)
	}
	list, err := s.Close()
	if err != nil {
		b.Fatal(err)
	}
	return list, all
}

func BenchmarkWriteList(b *testing.B) {
	for _, e := range encodings {
		b.Run(e.name, func(b *testing.B) {
			body := newAPI(b, e.media).encode(b, benchList(1000), corev1.SchemeGroupVersion)
			list, all := items(b, e.encoding, body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := wire.WriteList(io.Discard, e.encoding, list, sequence(all)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	for _, e := range encodings {
		b.Run(e.name, func(b *testing.B) {
			_, all := items(b, e.encoding, newAPI(b, e.media).encode(b, benchList(1), corev1.SchemeGroupVersion))
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = wire.AppendFrame(dst[:0], wire.Modified, all[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSelectable asks a pod for what the kubelet's selector asks.
func BenchmarkSelectable(b *testing.B) {
	for _, e := range encodings {
		b.Run(e.name, func(b *testing.B) {
			_, all := items(b, e.encoding, newAPI(b, e.media).encode(b, benchList(1), corev1.SchemeGroupVersion))
			b.ReportAllocs()
			for b.Loop() {
				if node, err := wire.Selectable(all[0], "spec.nodeName"); err != nil || node != "node-1" {
					b.Fatal(node, err)
				}
			}
		})
	}
}

// TestAllocations holds what the benchmarks promise: an event costs its bytes and its names.
func TestAllocations(t *testing.T) {
	for _, e := range encodings {
		frame := newAPI(t, e.media).frame(t, wire.Modified, benchPod(1), corev1.SchemeGroupVersion)
		s := wire.NewWatchScanner(e.encoding, wire.Limits{}, func(wire.Frame) error { return nil })
		if got := testing.AllocsPerRun(100, func() { _, _ = s.Write(frame) }); got > 2 {
			t.Errorf("%s: %v allocations for a frame, want at most 2", e.name, got)
		}
		body := newAPI(t, e.media).encode(t, benchList(100), corev1.SchemeGroupVersion)
		got := testing.AllocsPerRun(10, func() {
			s := wire.NewListScanner(e.encoding, wire.Limits{}, func(scope.Item) error { return nil })
			_, _ = io.Copy(s, bytes.NewReader(body))
		})
		if got > 2*100+30 {
			t.Errorf("%s: %v allocations for a list of 100", e.name, got)
		}
	}
}
