package wire_test

import (
	"bytes"
	"io"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// encodings are both, with the name and media type of each.
var encodings = []struct {
	name     string
	encoding scope.Encoding
	media    string
}{
	{"json", scope.JSON, runtime.ContentTypeJSON},
	{"protobuf", scope.Protobuf, runtime.ContentTypeProtobuf},
}

// api encodes and decodes as kube-apiserver and client-go do.
type api struct {
	codecs serializer.CodecFactory
	info   runtime.SerializerInfo
}

// newCodecs is slow: it looks at every type.
var newCodecs = sync.OnceValue(func() serializer.CodecFactory {
	return serializer.NewCodecFactory(scheme.Scheme,
		serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
})

func newAPI(t testing.TB, media string) api {
	t.Helper()
	codecs := newCodecs()
	info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), media)
	if !ok {
		t.Fatalf("no serializer for %s", media)
	}
	return api{codecs, info}
}

func (a api) encode(t testing.TB, object runtime.Object, version schema.GroupVersion) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := (serializer.WithoutConversionCodecFactory{CodecFactory: a.codecs}).EncoderForVersion(a.info.Serializer, version).Encode(object, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// frame encodes a watch event as kube-apiserver's watch handler does.
func (a api) frame(t testing.TB, kind string, object runtime.Object, version schema.GroupVersion) []byte {
	t.Helper()
	var out bytes.Buffer
	event := &metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: a.encode(t, object, version)}}
	w := a.info.StreamSerializer.NewFrameWriter(&out)
	encoder := serializer.WithoutConversionCodecFactory{CodecFactory: a.codecs}.EncoderForVersion(a.info.StreamSerializer.Serializer, version)
	if err := encoder.Encode(event, w); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (a api) decode(t testing.TB, body []byte, into runtime.Object) runtime.Object {
	t.Helper()
	object, _, err := a.info.Serializer.Decode(body, nil, into)
	if err != nil {
		t.Fatalf("client-go cannot decode %q: %v", body, err)
	}
	return object
}

// kinds are all kinds with metadata that client-go knows, in the versions that have protobuf.
func kinds(t testing.TB) []schema.GroupVersionKind {
	t.Helper()
	var all []schema.GroupVersionKind
	for kind, typ := range scheme.Scheme.AllKnownTypes() {
		object, ok := reflect.New(typ).Interface().(runtime.Object)
		if !ok || kind.Version == runtime.APIVersionInternal || strings.HasSuffix(kind.Kind, "List") {
			continue
		}
		_, hasMeta := object.(metav1.Object)
		_, hasProto := object.(runtime.ProtobufMarshaller)
		if hasMeta && hasProto && scheme.Scheme.Recognizes(kind.GroupVersion().WithKind(kind.Kind+"List")) {
			all = append(all, kind)
		}
	}
	if len(all) < 80 {
		t.Fatalf("only %d kinds: the test does not see client-go's scheme", len(all))
	}
	slices.SortFunc(all, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func filler(seed int64) *randfill.Filler {
	return fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), newCodecs()).NumElements(0, 3).NilChance(0.3)
}

// random makes an object with everything in it, as it is after it went over the wire once.
func random(t testing.TB, fill *randfill.Filler, kind schema.GroupVersionKind) runtime.Object {
	t.Helper()
	object, err := scheme.Scheme.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	fill.Fill(object)
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	m := object.(metav1.Object)
	m.SetName("n-" + m.GetName())
	m.SetSelfLink("")
	protobuf := newAPI(t, runtime.ContentTypeProtobuf)
	once, err := scheme.Scheme.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	protobuf.decode(t, protobuf.encode(t, object, kind.GroupVersion()), once)
	once.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return once
}

// randomList makes a list of random objects.
func randomList(t testing.TB, fill *randfill.Filler, kind schema.GroupVersionKind, n int) runtime.Object {
	t.Helper()
	list, err := scheme.Scheme.New(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err != nil {
		t.Fatal(err)
	}
	items := make([]runtime.Object, n)
	for i := range items {
		items[i] = random(t, fill, kind)
	}
	if err := meta.SetList(list, items); err != nil {
		t.Fatal(err)
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		t.Fatal(err)
	}
	remaining := int64(17)
	accessor.SetResourceVersion("4711")
	accessor.SetContinue("token\"&<")
	accessor.SetRemainingItemCount(&remaining)
	return list
}

// write gives a scanner a body in random pieces.
func write(t testing.TB, w io.Writer, random *rand.Rand, body []byte) error {
	t.Helper()
	for len(body) > 0 {
		n := 1 + random.Intn(min(len(body), 1+random.Intn(len(body))))
		if _, err := w.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// checkItem compares what a scanner says of an object with the object.
func checkItem(t testing.TB, got scope.Item, want runtime.Object, kind schema.GroupVersionKind, encoding scope.Encoding) {
	t.Helper()
	m := want.(metav1.Object)
	raw, essence := got.Raw, got.Essence
	got.Raw, got.Essence = nil, 0
	expected := scope.Item{
		Namespace: m.GetNamespace(), Name: m.GetName(), UID: string(m.GetUID()), Version: m.GetResourceVersion(),
		APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Encoding: encoding,
	}
	if !reflect.DeepEqual(got, expected) {
		t.Fatalf("%s: got %+v, want %+v", kind, got, expected)
	}
	if essence == 0 {
		t.Fatalf("%s: no essence", kind)
	}
	if len(raw) > 0 && cap(raw) > len(raw)+len(raw)/8+8 {
		t.Fatalf("%s: %d bytes are kept for %d", kind, cap(raw), len(raw))
	}
}

// checkAccess compares what the accessors give.
func checkAccess(t testing.TB, item scope.Item, want runtime.Object) {
	t.Helper()
	m := want.(metav1.Object)
	labels, err := wire.Labels(item)
	if err != nil || !sameMap(labels, m.GetLabels()) {
		t.Fatalf("%s: labels %q (%v), want %q", item.Kind, labels, err, m.GetLabels())
	}
	annotations, err := wire.Annotations(item)
	if err != nil || !sameMap(annotations, m.GetAnnotations()) {
		t.Fatalf("%s: annotations %q (%v), want %q", item.Kind, annotations, err, m.GetAnnotations())
	}
	owners, err := wire.Owners(item)
	if err != nil {
		t.Fatal(err)
	}
	var expected []wire.Owner
	for _, o := range m.GetOwnerReferences() {
		expected = append(expected, wire.Owner{
			APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: string(o.UID), Controller: o.Controller != nil && *o.Controller,
		})
	}
	if !slices.Equal(owners, expected) {
		t.Fatalf("%s: owners %+v, want %+v", item.Kind, owners, expected)
	}
}

func sameMap(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func setItems(t testing.TB, list runtime.Object, items ...runtime.Object) {
	t.Helper()
	if err := meta.SetList(list, items); err != nil {
		t.Fatal(err)
	}
}
