package rewrite

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	localCA   = "-----BEGIN CERTIFICATE-----\nbG9jYWw=\n-----END CERTIFICATE-----\n"
	clusterCA = "-----BEGIN CERTIFICATE-----\nY2x1c3Rlcg==\n-----END CERTIFICATE-----"
)

// message is an object that can be sent in both encodings.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
	metav1.Object
}

// both gives an object in both encodings, as lists have it.
func both(t testing.TB, apiVersion, kind string, o message) []scope.Item {
	t.Helper()
	it := scope.Item{Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID()), Version: o.GetResourceVersion(), APIVersion: apiVersion, Kind: kind, Essence: 7}
	j, p := it, it
	var err error
	if j.Raw, err = json.Marshal(o); err != nil {
		t.Fatal(err)
	}
	if p.Raw, err = o.Marshal(); err != nil {
		t.Fatal(err)
	}
	j.Encoding, p.Encoding = scope.JSON, scope.Protobuf
	return []scope.Item{j, p}
}

// read decodes an item into a fresh object.
func read[T any, P interface {
	*T
	message
}](t testing.TB, it scope.Item) *T {
	t.Helper()
	var o T
	var err error
	if it.Encoding == scope.Protobuf {
		err = P(&o).Unmarshal(it.Raw)
	} else {
		err = json.Unmarshal(it.Raw, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &o
}

func rewriter() *Rewriter {
	return New(Config{Node: "n1", CA: []byte(localCA), Address: netip.MustParseAddrPort("169.254.64.40:6440")})
}

func ptr[T any](v T) *T { return &v }

func apiSlice() *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: "default", UID: "u1", ResourceVersion: "42", Generation: 3,
			Labels: map[string]string{"kubernetes.io/service-name": "kubernetes", "x": "y"}, Annotations: map[string]string{"a": "<&>"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}, {Addresses: []string{"10.0.0.2"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("https"), Port: ptr(int32(6443)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
}

func TestTheAPIServerIsTheProxy(t *testing.T) {
	want := apiSlice()
	want.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"169.254.64.40"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}, NodeName: ptr("n1")}}
	want.Ports[0].Port = ptr(int32(6440))
	for _, it := range both(t, "discovery.k8s.io/v1", "EndpointSlice", apiSlice()) {
		original := slices.Clone(it.Raw)
		got, changed := rewriter().Item(it)
		if !changed || !reflect.DeepEqual(read[discoveryv1.EndpointSlice](t, got), want) {
			t.Errorf("encoding %d: %v, %+v", it.Encoding, changed, read[discoveryv1.EndpointSlice](t, got))
		}
		if got.Essence != 0 || got.Version != "42" || !slices.Equal(it.Raw, original) {
			t.Errorf("%+v", got)
		}
	}
}

// unchanged checks that a rewriter leaves an object alone.
func unchanged(t *testing.T, name string, r *Rewriter, apiVersion, kind string, o message) {
	t.Helper()
	for _, it := range both(t, apiVersion, kind, o) {
		if got, changed := r.Item(it); changed || !slices.Equal(got.Raw, it.Raw) || got.Essence != 7 {
			t.Errorf("%s, encoding %d: changed", name, it.Encoding)
		}
	}
}

func TestWhatStaysAsItIs(t *testing.T) {
	slice := func(change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := apiSlice()
		change(s)
		return s
	}
	const v1 = "discovery.k8s.io/v1"
	unchanged(t, "other namespace", rewriter(), v1, "EndpointSlice", slice(func(s *discoveryv1.EndpointSlice) { s.Namespace = "prod" }))
	unchanged(t, "other service", rewriter(), v1, "EndpointSlice", slice(func(s *discoveryv1.EndpointSlice) { s.Labels["kubernetes.io/service-name"] = "web" }))
	unchanged(t, "label in an annotation", rewriter(), v1, "EndpointSlice", slice(func(s *discoveryv1.EndpointSlice) {
		s.Labels, s.Annotations = nil, map[string]string{"kubernetes.io/service-name": "kubernetes"}
	}))
	unchanged(t, "other family", rewriter(), v1, "EndpointSlice", slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }))
	unchanged(t, "no address", New(Config{Node: "n1"}), v1, "EndpointSlice", apiSlice())
	unchanged(t, "older API", rewriter(), "discovery.k8s.io/v1beta1", "EndpointSlice", apiSlice())
	unchanged(t, "metadata only", rewriter(), "meta.k8s.io/v1", "PartialObjectMetadata", apiSlice())
	cm := func(name string, data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod"}, Data: data}
	}
	unchanged(t, "other ConfigMap", rewriter(), "v1", "ConfigMap", cm("kube-root-ca", map[string]string{"ca.crt": clusterCA}))
	unchanged(t, "no authority in it", rewriter(), "v1", "ConfigMap", cm("kube-root-ca.crt", map[string]string{"x": clusterCA}))
	unchanged(t, "it is there already", rewriter(), "v1", "ConfigMap", cm("kube-root-ca.crt", map[string]string{"ca.crt": localCA + clusterCA}))
	unchanged(t, "no authority to append", New(Config{Node: "n1"}), "v1", "ConfigMap", cm("kube-root-ca.crt", map[string]string{"ca.crt": clusterCA}))
	unchanged(t, "a Secret", rewriter(), "v1", "Secret", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt"}})
	for _, enc := range []scope.Encoding{scope.JSON, scope.Protobuf} {
		broken := scope.Item{Namespace: "prod", Name: "kube-root-ca.crt", APIVersion: "v1", Kind: "ConfigMap", Encoding: enc, Raw: []byte{0x12, 0xff}}
		if got, changed := rewriter().Item(broken); changed || string(got.Raw) != string(broken.Raw) {
			t.Errorf("encoding %d: broken and changed", enc)
		}
	}
}

func TestTheAuthorityIsAppended(t *testing.T) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt", Namespace: "prod", ResourceVersion: "5", Annotations: map[string]string{"kubernetes.io/description": "Contains a CA bundle…"}},
		Data:       map[string]string{"ca.crt": clusterCA, "other": "<x>"}, BinaryData: map[string][]byte{"b": {0, 1}}, Immutable: ptr(false),
	}
	want := cm.DeepCopy()
	want.Data["ca.crt"] = clusterCA + "\n" + localCA
	for _, it := range both(t, "v1", "ConfigMap", cm) {
		got, changed := rewriter().Item(it)
		if !changed || !reflect.DeepEqual(read[corev1.ConfigMap](t, got), want) {
			t.Errorf("encoding %d: %v, %+v", it.Encoding, changed, read[corev1.ConfigMap](t, got))
		}
		if again, changed := rewriter().Item(got); changed || !slices.Equal(again.Raw, got.Raw) {
			t.Errorf("encoding %d: appended twice", it.Encoding)
		}
	}
}

// TestUnknownFieldsStay: what a newer API server adds reaches the client.
func TestUnknownFieldsStay(t *testing.T) {
	items := both(t, "discovery.k8s.io/v1", "EndpointSlice", apiSlice())
	items[0].Raw = []byte(strings.Replace(string(items[0].Raw), `{`, `{"newer":{"big":12345678901234567890},`, 1))
	items[1].Raw = append(slices.Clone(items[1].Raw), 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023
	for i, want := range []string{`"newer":{"big":12345678901234567890}`, "new"} {
		got, changed := rewriter().Item(items[i])
		if !changed || !strings.Contains(string(got.Raw), want) {
			t.Errorf("encoding %d: %v, %q", items[i].Encoding, changed, got.Raw)
		}
	}
}

func podSlice(family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	target := func(uid types.UID) *corev1.ObjectReference {
		return &corev1.ObjectReference{Kind: "Pod", Namespace: "prod", Name: "web-" + string(uid), UID: uid}
	}
	address := map[discoveryv1.AddressType][]string{discoveryv1.AddressTypeIPv4: {"10.1.0.1", "10.2.0.1"}, discoveryv1.AddressTypeIPv6: {"fd00:1::1", "fd00:2::1"}}[family]
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-x", Namespace: "prod", ResourceVersion: "9", Labels: map[string]string{"kubernetes.io/service-name": "web"}},
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: address[:1], Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}, TargetRef: target("uid-here"), NodeName: ptr("n1"), Zone: ptr("z"), Hostname: ptr("h")},
			{Addresses: address[1:], Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}, TargetRef: target("uid-elsewhere"), NodeName: ptr("n2")},
		},
		Ports: []discoveryv1.EndpointPort{{Port: ptr(int32(80))}},
	}
}

func TestPodsThatMoved(t *testing.T) {
	for name, c := range map[string]struct {
		family  discoveryv1.AddressType
		prepare func(*discoveryv1.EndpointSlice)
		pod     Pod
		want    func(*discoveryv1.EndpointSlice)
	}{
		"ready": {pod: Pod{IPs: []string{"10.1.0.77"}, Ready: true}, want: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.1.0.77"} }},
		"not ready": {pod: Pod{IPs: []string{"10.1.0.77"}}, want: func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Addresses = []string{"10.1.0.77"}
			s.Endpoints[0].Conditions.Ready, s.Endpoints[0].Conditions.Serving = ptr(false), ptr(false)
		}},
		"no address yet": {pod: Pod{}, want: func(s *discoveryv1.EndpointSlice) { s.Endpoints = s.Endpoints[1:] }},
		"of both families": {family: discoveryv1.AddressTypeIPv6, pod: Pod{IPs: []string{"10.1.0.77", "fd00:1::77"}, Ready: true}, want: func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Addresses = []string{"fd00:1::77"}
		}},
		"terminating": {prepare: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Terminating = ptr(true) },
			pod: Pod{IPs: []string{"10.1.0.77"}, Ready: true}, want: func(s *discoveryv1.EndpointSlice) {
				s.Endpoints[0].Addresses = []string{"10.1.0.77"}
				s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
			}},
		"published although not ready": {prepare: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Serving = ptr(false) },
			pod: Pod{IPs: []string{"10.1.0.77"}}, want: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.1.0.77"} }},
		"no conditions known": {prepare: func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{}
		}, pod: Pod{IPs: []string{"10.1.0.77"}}, want: func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Addresses = []string{"10.1.0.77"}
			s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false)}
		}},
	} {
		if c.family == "" {
			c.family = discoveryv1.AddressTypeIPv4
		}
		slice := podSlice(c.family)
		if c.prepare != nil {
			c.prepare(slice)
		}
		want := slice.DeepCopy()
		c.want(want)
		r := rewriter()
		c.pod.UID, c.pod.Namespace, c.pod.Name = "uid-here", "prod", "web-uid-here"
		r.PodAddresses(c.pod)
		r.PodAddresses(Pod{UID: "uid-elsewhere", Namespace: "other", IPs: []string{"10.9.9.9"}, Ready: true}) // another pod of that UID there is not
		for _, it := range both(t, "discovery.k8s.io/v1", "EndpointSlice", slice) {
			got, changed := r.Item(it)
			if s := read[discoveryv1.EndpointSlice](t, got); !changed || !reflect.DeepEqual(s, want) {
				t.Errorf("%s, encoding %d: %v\n%+v\n%+v", name, it.Encoding, changed, s, want)
			}
		}
		r.Clear()
		for _, it := range both(t, "discovery.k8s.io/v1", "EndpointSlice", slice) {
			if _, changed := r.Item(it); changed {
				t.Errorf("%s: the overlay did not give way", name)
			}
		}
	}
}

func TestSubscribers(t *testing.T) {
	r := rewriter()
	var mu sync.Mutex
	var got []Change
	cancel := r.Subscribe(func(c Change) { mu.Lock(); defer mu.Unlock(); got = append(got, c) })
	p := Pod{UID: "u", Namespace: "prod", Name: "web", IPs: []string{"10.1.0.1"}}
	r.PodAddresses(p)
	r.PodAddresses(p) // nothing new
	p.Ready = true
	r.PodAddresses(p)
	p.IPs[0] = "10.1.0.2" // the caller's slice is the caller's
	r.PodAddresses(p)
	cancel()
	p.IPs = nil
	r.PodAddresses(p)
	if want := (Change{UID: "u", Namespace: "prod", Name: "web"}); !slices.Equal(got, []Change{want, want, want}) {
		t.Errorf("%+v", got)
	}
	slice := both(t, "discovery.k8s.io/v1", "EndpointSlice", podSlice(discoveryv1.AddressTypeIPv4))
	for _, it := range slice {
		if !Mentions(it, Change{UID: "uid-here", Namespace: "prod"}) || Mentions(it, Change{UID: "uid-here", Namespace: "x"}) || Mentions(it, Change{UID: "uid-gone", Namespace: "prod"}) {
			t.Error("a slice mentions the wrong pods")
		}
	}
}

func TestWants(t *testing.T) {
	slices, endpoints := scope.Resource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, scope.Resource{Version: "v1", Resource: "endpoints"}
	maps := scope.Resource{Version: "v1", Resource: "configmaps"}
	const proxy, admin = "system:serviceaccount:kube-system:kube-proxy@https://x", "kubernetes-admin"
	for _, c := range []struct {
		r      scope.Resource
		caller string
		want   bool
	}{
		{slices, "system:node:n1", true}, {slices, proxy, true}, {slices, admin, false}, {slices, "", false}, {slices, "system:node:n2", false},
		{endpoints, "system:node:n1", true}, {endpoints, proxy, true}, {endpoints, admin, false},
		{maps, "system:node:n1", true}, {maps, proxy, false},
		{scope.Resource{Version: "v1", Resource: "pods"}, "system:node:n1", false},
		{scope.Resource{Group: "metrics.k8s.io", Version: "v1", Resource: "endpoints"}, "system:node:n1", false},
	} {
		if got := rewriter().Wants(c.r, c.caller); got != c.want {
			t.Errorf("%v for %q: %v", c.r, c.caller, got)
		}
	}
}

// FuzzItem: no bytes break the rewriter, and what it gives can be read again.
func FuzzItem(f *testing.F) {
	for kind, it := range map[uint8][]scope.Item{0: both(f, "discovery.k8s.io/v1", "EndpointSlice", apiSlice()), 1: both(f, "discovery.k8s.io/v1", "EndpointSlice", podSlice(discoveryv1.AddressTypeIPv4))} {
		for _, i := range it {
			f.Add(kind, i.Encoding == scope.JSON, i.Raw)
		}
	}
	kinds := []scope.Item{
		{Namespace: "default", Name: "kubernetes", APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		{Namespace: "prod", Name: "web-x", APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		{Namespace: "default", Name: "kubernetes", APIVersion: "v1", Kind: "Endpoints"},
		{Namespace: "prod", Name: "kube-root-ca.crt", APIVersion: "v1", Kind: "ConfigMap"},
	}
	r := rewriter()
	r.PodAddresses(Pod{UID: "uid-here", Namespace: "prod", IPs: []string{"10.1.0.7"}})
	f.Fuzz(func(t *testing.T, kind uint8, isJSON bool, raw []byte) {
		it := kinds[int(kind)%len(kinds)]
		it.Raw, it.Encoding = raw, scope.Protobuf
		if isJSON {
			it.Encoding = scope.JSON
		}
		got, changed := r.Item(it)
		if !changed {
			return
		}
		if isJSON {
			if !json.Valid(got.Raw) {
				t.Errorf("%q became %q", raw, got.Raw)
			}
			return
		}
		if err := walk(got.Raw, func(field) error { return nil }); err != nil {
			t.Errorf("%q became %q: %v", raw, got.Raw, err)
		}
	})
}

func BenchmarkUntouched(b *testing.B) {
	r := rewriter()
	r.PodAddresses(Pod{UID: "uid-gone", Namespace: "prod"})
	items := both(b, "discovery.k8s.io/v1", "EndpointSlice", podSlice(discoveryv1.AddressTypeIPv4))
	b.ReportAllocs()
	for b.Loop() {
		if _, changed := r.Item(items[1]); changed {
			b.Fatal("changed")
		}
	}
}
