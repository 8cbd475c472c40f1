package offline_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestRegistration is what the kubelet does with its node at start.
func TestRegistration(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()
	if _, err := c.CoreV1().Nodes().Create(ctx, nodeOf(""), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Fatalf("create: %v, want AlreadyExists", err)
	}
	patch := `{"metadata":{"labels":{"node.kubernetes.io/new":"x"},"annotations":{"a":"b"}},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"},{"$patch":"replace"}],"capacity":{"cpu":"2"}}}`
	node, err := c.CoreV1().Nodes().Patch(ctx, nodeName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	if node.Labels["node.kubernetes.io/new"] != "x" || node.Labels["kubernetes.io/hostname"] != nodeName || len(node.Status.Addresses) != 1 ||
		node.Status.Addresses[0].Address != "192.0.2.7" || len(node.Status.Conditions) != 2 || node.ResourceVersion != "110" {
		t.Fatalf("merged: %+v", node)
	}
	// It is seen by whoever reads the node later, also after the agent was killed.
	again := siteOn(t, s.memory)
	node, err = again.client(t, nodeUser).CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil || node.Status.Addresses[0].Address != "192.0.2.7" || node.Labels["node.kubernetes.io/new"] != "x" || node.Spec.PodCIDR != "10.0.0.0/24" {
		t.Fatalf("after a restart: %+v, %v", node, err)
	}
}

func TestPodStatus(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()
	send := func(patch string) (*corev1.Pod, error) {
		return c.CoreV1().Pods("default").Patch(ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	}
	// Many patches coalesce into one entry, which says all of it.
	for i := range 3 {
		pod, err := send(fmt.Sprintf(`{"metadata":{"uid":"uid-web"},"status":{"message":"m%d","conditions":[{"type":"C%d","status":"True"}]}}`, i, i))
		if err != nil || pod.Status.Message != fmt.Sprintf("m%d", i) || pod.Status.QOSClass != corev1.PodQOSBestEffort {
			t.Fatalf("patch %d: %+v, %v", i, pod, err)
		}
	}
	if _, err := send(`{"metadata":{"uid":"uid-web"},"status":{"phase":"Succeeded","podIP":null,"podIPs":null}}`); err != nil {
		t.Fatal(err)
	}
	kept, _ := s.outbox.Status(outbox.Ref{Resource: "pods", Namespace: "default", Name: "web"})
	want := `{"status":{"conditions":[{"lastProbeTime":null,"lastTransitionTime":null,"message":null,"observedGeneration":null,"reason":null,"status":"True","type":"C2"},` +
		`{"lastProbeTime":null,"lastTransitionTime":null,"message":null,"observedGeneration":null,"reason":null,"status":"True","type":"C1"},` +
		`{"lastProbeTime":null,"lastTransitionTime":null,"message":null,"observedGeneration":null,"reason":null,"status":"True","type":"C0"}],` +
		`"message":"m2","phase":"Succeeded","podIP":null,"podIPs":null}}`
	if string(kept.Patch) != want || kept.UID != "uid-web" {
		t.Fatalf("kept\n%s\nwant\n%s", kept.Patch, want)
	}
	// A pod that has ended is not started again after a reboot: its list says so.
	pods, err := siteOn(t, s.memory).client(t, nodeUser).CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName})
	if err != nil || len(pods.Items) != 2 || pods.Items[0].Status.Phase != corev1.PodSucceeded || pods.Items[1].Status.Phase != corev1.PodRunning {
		t.Fatalf("pods: %v, %v", pods, err)
	}
	writes := s.writes
	if _, err := send(`{"metadata":{"uid":"uid-web"},"status":{"phase":"Succeeded"}}`); err != nil || s.writes != writes {
		t.Fatalf("a patch that changes nothing: %v, %d writes", err, s.writes-writes)
	}
}

// TestOtherWaysToWriteAStatus: PUT, merge patch, JSON patch.
func TestOtherWaysToWriteAStatus(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()
	pod, err := c.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Message, pod.Spec.NodeName = "put", "elsewhere"
	if pod, err = c.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil || pod.Status.Message != "put" || pod.Spec.NodeName != nodeName {
		t.Fatalf("PUT: %+v, %v", pod, err)
	}
	for kind, patch := range map[types.PatchType]string{
		types.MergePatchType: `{"status":{"message":"application/merge-patch+json","reason":null}}`,
		types.JSONPatchType:  `[{"op":"test","path":"/status/phase","value":"Running"},{"op":"replace","path":"/status/message","value":"application/json-patch+json"}]`,
	} {
		if pod, err = c.CoreV1().Pods("default").Patch(ctx, "web", kind, []byte(patch), metav1.PatchOptions{}, "status"); err != nil || pod.Status.Message != string(kind) {
			t.Fatalf("%s: %+v, %v", kind, pod, err)
		}
	}
	dry, err := c.CoreV1().Pods("default").Patch(ctx, "web", types.MergePatchType, []byte(`{"status":{"message":"dry"}}`), metav1.PatchOptions{DryRun: []string{"All"}}, "status")
	if err != nil || dry.Status.Message != "dry" {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if pod, err = c.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{}); err != nil || pod.Status.Message == "dry" {
		t.Fatalf("a dry run was kept: %+v, %v", pod, err)
	}
}

func TestRefusedStatuses(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default", Name: "far"}, "Pod", "50",
		item(t, podOf("default", "far", "50", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), "v1", "Pod"))
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "gone"}, "PodList", "125")
	web := "/api/v1/namespaces/default/pods/web/status"
	const strategic, merge, apply = "application/strategic-merge-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"
	for _, test := range []struct {
		method, path, contentType, body string
		code                            int
		want                            string
	}{
		{"PATCH", web, strategic, `{"metadata":{"uid":"other"},"status":{"phase":"Failed"}}`, 422, "field is immutable"},
		{"PATCH", web, merge, `{"metadata":{"resourceVersion":"99"},"status":{"phase":"Failed"}}`, 409, "the object has been modified"},
		{"PATCH", web, merge, `{"metadata":{"name":"x"}}`, 400, "does not match"},
		{"PATCH", web, merge, `{"metadata":{"labels":{"x":"y"}}}`, 503, "only the status"},
		{"PATCH", web, merge, `{"metadata":{"finalizers":["x"]}}`, 503, "only the status"},
		{"PATCH", web, apply, `{}`, 503, "server-side apply"},
		{"PATCH", web, "text/plain", `{}`, 415, "unknown format"},
		{"PATCH", web, merge, `{`, 400, "read patch"},
		{"PATCH", web, strategic, `{"status":{"conditions":[{"status":"True"}]}}`, 400, "does not say its type"},
		{"PATCH", web, "application/json-patch+json", `[{"op":"test","path":"/status/phase","value":"x"}]`, 422, "rejected"},
		{"PATCH", web, merge, `{"status":"broken"}`, 400, "cannot unmarshal"},
		{"PATCH", web, merge, `{"status":{"podIPs":["x"],"conditions":{"a":1}}}`, 400, "cannot unmarshal"},
		{"PATCH", web, strategic, `{"status":{"podIPs":[1]}}`, 400, "must be objects"},
		{"PATCH", web, merge, `[]`, 400, "read patch"},
		{"PATCH", web, "application/json-patch+json", `[{"op":"replace","path":"","value":[]}]`, 400, ""},
		{"PUT", web, "application/json", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"other"}}`, 409, "Precondition failed"},
		{"PATCH", "/api/v1/namespaces/default/pods/far/status", merge, `{"status":{"phase":"Failed"}}`, 503, "not on this node"},
		{"PATCH", "/api/v1/namespaces/gone/pods/x/status", merge, `{"status":{"phase":"Failed"}}`, 404, "not found"},
		{"PATCH", "/api/v1/namespaces/never/pods/x/status", merge, `{"status":{"phase":"Failed"}}`, 503, "not read"},
		{"PATCH", web, merge, `{"status":{"message":"` + strings.Repeat("x", 4<<20) + `"}}`, 413, "too large"},
	} {
		resp, body := s.ask(t, nodeUser, test.method, test.path, test.body, "Content-Type", test.contentType)
		if resp.StatusCode != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s %s %s %.60s: got %d %s, want %d %s", test.method, test.path, test.contentType, test.body, resp.StatusCode, body, test.code, test.want)
		}
	}
	// Nothing is answered 2xx that may be lost.
	s.full = true
	resp, body := s.ask(t, nodeUser, "PATCH", web, `{"status":{"phase":"Failed"}}`, "Content-Type", merge)
	if resp.StatusCode != 503 || !strings.Contains(body, "on fire") {
		t.Errorf("a full disk: got %d %s", resp.StatusCode, body)
	}
	resp, body = s.ask(t, nodeUser, "GET", strings.TrimSuffix(web, "/status"), "")
	if resp.StatusCode != 200 || strings.Contains(body, `"Failed"`) {
		t.Errorf("what was refused is shown: %s", body)
	}
	resp, body = s.ask(t, nodeUser, "POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"e"}}`, "Content-Type", "application/json")
	if resp.StatusCode != 503 {
		t.Errorf("an event on a full disk: got %d %s", resp.StatusCode, body)
	}
}

// TestHeartbeats: an idle node writes nothing.
func TestHeartbeats(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()
	for i := range 3 {
		patch := fmt.Sprintf(`{"status":{"$setElementOrder/conditions":[{"type":"Ready"},{"type":"NetworkUnavailable"}],"conditions":[{"lastHeartbeatTime":%q,"type":"Ready"}]}}`,
			epoch.Add(time.Duration(i+1)*time.Minute).Format(time.RFC3339))
		node, err := c.CoreV1().Nodes().Patch(ctx, nodeName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		if err != nil || !node.Status.Conditions[0].LastHeartbeatTime.Equal(&metav1.Time{Time: epoch.Add(time.Duration(i+1) * time.Minute)}) {
			t.Fatalf("patch: %v, %v", node, err)
		}
	}
	leases := c.CoordinationV1().Leases("kube-node-lease")
	if _, err := leases.Get(ctx, nodeName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("get: %v", err)
	}
	holder, seconds := nodeName, int32(40)
	lease, err := leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil || lease.ResourceVersion != "1" || lease.UID == "" || lease.Namespace != "kube-node-lease" {
		t.Fatalf("create: %+v, %v", lease, err)
	}
	now := metav1.NowMicro()
	lease.Spec.RenewTime = &now
	renewed, err := leases.Update(ctx, lease, metav1.UpdateOptions{})
	if err != nil || renewed.UID != lease.UID || renewed.Spec.RenewTime == nil {
		t.Fatalf("update: %+v, %v", renewed, err)
	}
	// The version that upstream gave stays good.
	lease.ResourceVersion = "4711"
	if renewed, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil || renewed.ResourceVersion != "4711" {
		t.Fatalf("update: %+v, %v", renewed, err)
	}
	if renewed, err = leases.Patch(ctx, nodeName, types.MergePatchType, []byte(`{"spec":{"leaseDurationSeconds":41}}`), metav1.PatchOptions{}); err != nil || *renewed.Spec.LeaseDurationSeconds != 41 {
		t.Fatalf("patch: %+v, %v", renewed, err)
	}
	if renewed, err = leases.Get(ctx, nodeName, metav1.GetOptions{}); err != nil || *renewed.Spec.LeaseDurationSeconds != 41 || *renewed.Spec.HolderIdentity != nodeName {
		t.Fatalf("get: %+v, %v", renewed, err)
	}
	if s.writes != 0 {
		t.Errorf("%d writes", s.writes)
	}
}

func TestEvents(t *testing.T) {
	s := newSite(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web.1"}, Reason: "Pulled", Count: 1, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web"}}
	got, err := c.CoreV1().Events("default").Create(ctx, event, metav1.CreateOptions{})
	if err != nil || got.Reason != "Pulled" || got.Name != "web.1" {
		t.Fatalf("create: %+v, %v", got, err)
	}
	if got, err = c.CoreV1().Events("default").Patch(ctx, "web.1", types.StrategicMergePatchType, []byte(`{"count":5}`), metav1.PatchOptions{}); err != nil || got.Count != 5 || got.Reason != "Pulled" {
		t.Fatalf("patch: %+v, %v", got, err)
	}
	if _, err = c.CoreV1().Events("default").Patch(ctx, "web.0", types.StrategicMergePatchType, []byte(`{"count":5}`), metav1.PatchOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("patch of an event that upstream has: %v", err)
	}
	kept, ok, err := s.outbox.Event("/api/v1/namespaces/default/events", "web.1")
	if err != nil || !ok || !strings.Contains(string(kept.Object), `"count":5`) || !strings.Contains(string(kept.Object), `"namespace":"default"`) {
		t.Fatalf("kept: %s, %v, %v", kept.Object, ok, err)
	}
	if resp, body := s.ask(t, nodeUser, "POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"e","namespace":"other"}}`, "Content-Type", "application/json"); resp.StatusCode != 400 {
		t.Errorf("an event in another namespace: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, nodeUser, "POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"e"},"message":"`+strings.Repeat("x", 20<<10)+`"}`, "Content-Type", "application/json"); resp.StatusCode != 413 {
		t.Errorf("a huge event: %d %s", resp.StatusCode, body)
	}
}

// TestHold: what goes upstream itself makes what waits obsolete, if upstream takes it.
func TestHold(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	const path = "/api/v1/namespaces/default/pods/web/status"
	s.ask(t, nodeUser, "PATCH", path, `{"status":{"message":"m"}}`, "Content-Type", "application/merge-patch+json")
	ref := outbox.Ref{Resource: "pods", Namespace: "default", Name: "web"}
	r, _ := http.NewRequest("PATCH", "https://x"+path, nil)
	for _, code := range []int{0, 500, 409} {
		s.handler.Hold(parse(t, r), caller(nodeUser))(code)
		if _, ok := s.outbox.Status(ref); !ok {
			t.Errorf("after %d it does not wait any more", code)
		}
	}
	s.handler.Hold(parse(t, r), caller("somebody"))(200)
	if _, ok := s.outbox.Status(ref); !ok {
		t.Error("somebody else's write counts")
	}
	s.handler.Hold(parse(t, r), caller(nodeUser))(200)
	if _, ok := s.outbox.Status(ref); ok {
		t.Error("what is obsolete still waits")
	}
}

func tokenRequest(audience, pod, uid string) *authenticationv1.TokenRequest {
	hour := int64(3607)
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod, UID: types.UID(uid)}}}
	if audience != "" {
		r.Spec.Audiences = []string{audience}
	}
	return r
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	asked := tokenRequest("", "web", "uid-web")
	body, err := asked.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	answer := asked.DeepCopy()
	answer.Status = authenticationv1.TokenRequestStatus{Token: "old.but.real", ExpirationTimestamp: metav1.NewTime(epoch.Add(-time.Hour))}
	raw, err := answer.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const path, protobuf = "/api/v1/namespaces/default/serviceaccounts/web/token", "application/vnd.kubernetes.protobuf"
	r, _ := http.NewRequest("POST", "https://x"+path, nil)
	req := parse(t, r)
	if !s.handler.Remembers(req) {
		t.Fatal("tokens are not remembered")
	}
	exchange := offline.Exchange{RequestType: protobuf, Request: envelope("authentication.k8s.io/v1", "TokenRequest", body),
		Code: 201, ResponseType: protobuf, Response: envelope("authentication.k8s.io/v1", "TokenRequest", raw)}
	s.handler.Remember(req, caller(nodeUser), exchange)

	c := s.client(t, nodeUser)
	asked.Spec.ExpirationSeconds = new(int64) // how long it is to hold does not matter
	got, err := c.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "web", asked, metav1.CreateOptions{})
	if err != nil || got.Status.Token != "old.but.real" || !got.Status.ExpirationTimestamp.Time.Equal(epoch.Add(-time.Hour)) {
		t.Fatalf("token: %+v, %v", got, err)
	}
	for name, test := range map[string]struct {
		user, path string
		asked      *authenticationv1.TokenRequest
	}{
		"another pod":         {nodeUser, path, tokenRequest("", "other", "uid-other")},
		"the same name again": {nodeUser, path, tokenRequest("", "web", "uid-new")},
		"another audience":    {nodeUser, path, tokenRequest("vault", "web", "uid-web")},
		"another account":     {nodeUser, strings.Replace(path, "/web/", "/admin/", 1), tokenRequest("", "web", "uid-web")},
		"another namespace":   {nodeUser, strings.Replace(path, "/default/", "/kube-system/", 1), tokenRequest("", "web", "uid-web")},
		"a pod":               {"system:serviceaccount:default:web@x", path, tokenRequest("", "web", "uid-web")},
	} {
		raw, err := json.Marshal(test.asked)
		if err != nil {
			t.Fatal(err)
		}
		resp, body := s.ask(t, test.user, "POST", test.path, string(raw), "Content-Type", "application/json")
		if resp.StatusCode != 503 || strings.Contains(body, "old.but.real") {
			t.Errorf("%s: got %d %s", name, resp.StatusCode, body)
		}
	}
	// A refusal is not remembered, nor what somebody was told in another's name.
	exchange.Code = 403
	before := len(s.tokens)
	s.handler.Remember(req, caller(nodeUser), exchange)
	exchange.Code = 201
	s.handler.Remember(req, offline.Caller{Name: "x", Impersonates: true}, exchange)
	if len(s.tokens) != before {
		t.Error("remembered what must not be")
	}
}

// TestGreedyAsker: what one caller asks does not push out what others were told, nor fill the memory.
func TestGreedyAsker(t *testing.T) {
	s := newSite(t)
	const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	r, _ := http.NewRequest("POST", "https://x"+path, nil)
	remember := func(user, question, answer string) {
		s.handler.Remember(parse(t, r), caller(user), offline.Exchange{RequestType: "application/json", Request: []byte(question), Code: 201,
			ResponseType: "application/json", Response: []byte(answer)})
	}
	knows := func(user, question string) bool {
		resp, _ := s.ask(t, user, "POST", path, question, "Content-Type", "application/json")
		return resp.StatusCode == 201
	}
	const question, answer = `{"spec":{"resourceAttributes":{"verb":"%d"}}}`, `{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}`
	remember("quiet", fmt.Sprintf(question, 0), answer)
	for i := range 500 {
		remember("greedy", fmt.Sprintf(question, i), answer)
	}
	if !knows("quiet", fmt.Sprintf(question, 0)) || !knows("greedy", fmt.Sprintf(question, 499)) {
		t.Error("what was remembered is gone")
	}
	kept := 0
	for i := range 500 {
		if knows("greedy", fmt.Sprintf(question, i)) {
			kept++
		}
	}
	if kept > 128 {
		t.Errorf("%d decisions of one caller are kept", kept)
	}
	remember("quiet", fmt.Sprintf(question, 1), strings.Replace(answer, "true", `true,"reason":"`+strings.Repeat("x", 9<<10)+`"`, 1))
	if knows("quiet", fmt.Sprintf(question, 1)) {
		t.Error("a huge answer is kept")
	}
}

// envelope is how Kubernetes sends protobuf.
func envelope(apiVersion, kind string, raw []byte) []byte {
	meta := append(append(append([]byte{0x0a, byte(len(apiVersion))}, apiVersion...), 0x12, byte(len(kind))), kind...)
	out := append([]byte("k8s\x00\x0a"), byte(len(meta)))
	out = append(out, meta...)
	out = append(out, 0x12)
	for n := len(raw); ; n >>= 7 {
		if n < 0x80 {
			out = append(out, byte(n))
			break
		}
		out = append(out, byte(n)|0x80)
	}
	return append(out, raw...)
}

func TestReviews(t *testing.T) {
	now := epoch
	s := newSite(t, func(c *offline.Config) { c.Now = func() time.Time { return now } })
	const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	ask := func(user, body string) (int, string) {
		resp, text := s.ask(t, user, "POST", path, body, "Content-Type", "application/json")
		return resp.StatusCode, text
	}
	question := `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"eve","resourceAttributes":{"verb":"get","resource":"nodes"}}}`
	if code, body := ask(nodeUser, question); code != 503 {
		t.Fatalf("nobody decided: got %d %s", code, body)
	}
	r, _ := http.NewRequest("POST", "https://x"+path, nil)
	s.handler.Remember(parse(t, r), caller(nodeUser), offline.Exchange{RequestType: "application/json", Request: []byte(question), Code: 201, ResponseType: "application/json",
		Response: []byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"eve"},"status":{"allowed":true}}`)})
	// The same question, with its fields in another order.
	same := `{"kind":"SubjectAccessReview","spec":{"resourceAttributes":{"resource":"nodes","verb":"get"},"user":"eve"},"apiVersion":"authorization.k8s.io/v1"}`
	if code, body := ask(nodeUser, same); code != 201 || !strings.Contains(body, `"allowed":true`) {
		t.Fatalf("remembered: got %d %s", code, body)
	}
	if code, _ := ask("somebody", question); code != 503 {
		t.Errorf("another asker: got %d", code)
	}
	if code, _ := ask(nodeUser, strings.Replace(question, "eve", "mallory", 1)); code != 503 {
		t.Errorf("another user: got %d", code)
	}
	for _, age := range []time.Duration{5 * time.Minute, -time.Hour} {
		now = epoch.Add(age)
		if code, _ := ask(nodeUser, question); code != 503 {
			t.Errorf("after %v: got %d", age, code)
		}
	}
	if code, body := ask("somebody", `{"spec":{"user":"`+strings.Repeat("x", 20<<10)+`"}}`); code != 413 {
		t.Errorf("a huge question: got %d %s", code, body)
	}
	// The proxy vouches for nobody but itself.
	for kind, body := range map[string]string{
		"/apis/authentication.k8s.io/v1/tokenreviews": `{"kind":"TokenReview","spec":{"token":"forged"}}`,
		path: `{"kind":"SubjectAccessReview","spec":{"user":"holdfast:local-root:00","resourceAttributes":{"resource":"nodes","name":"n1","verb":"create"}}}`,
	} {
		if resp, text := s.ask(t, nodeUser, "POST", kind, body, "Content-Type", "application/json"); resp.StatusCode != 503 {
			t.Errorf("%s: got %d %s", body, resp.StatusCode, text)
		}
	}
}
