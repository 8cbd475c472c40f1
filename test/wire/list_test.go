package wire_test

import (
	"bytes"
	"errors"
	"iter"
	"math/rand"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestListOfEveryKind scans what kube-apiserver sends for every kind, and writes it back to the byte.
func TestListOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, fill, chance := newAPI(t, e.media), filler(1), rand.New(rand.NewSource(1))
			for i, kind := range kinds(t) {
				list := randomList(t, fill, kind, i%4)
				body := api.encode(t, list, kind.GroupVersion())
				want, err := meta.ExtractList(list)
				if err != nil {
					t.Fatal(err)
				}
				var items []scope.Item
				s := wire.NewListScanner(e.encoding, wire.Limits{}, func(item scope.Item) error {
					checkItem(t, item, want[len(items)], kind, e.encoding)
					checkAccess(t, item, want[len(items)])
					items = append(items, item)
					return nil
				})
				if err := write(t, s, chance, body); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				got, err := s.Close()
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				checkList(t, got, wire.List{
					Kind:    scope.Kind{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind + "List"},
					Version: "4711", Continue: "token\"&<", Remaining: 17,
				}, len(items), len(want))
				checkWritten(t, e.encoding, got, items, body)
			}
		})
	}
}

func checkList(t *testing.T, got, want wire.List, items, wantItems int) {
	t.Helper()
	if got != want || items != wantItems {
		t.Fatalf("got %+v with %d items, want %+v with %d", got, items, want, wantItems)
	}
}

// checkWritten writes a list and compares it with what was read.
func checkWritten(t *testing.T, encoding scope.Encoding, list wire.List, items []scope.Item, want []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := wire.WriteList(&out, encoding, list, sequence(items)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("%s: wrote\n%q\nkube-apiserver writes\n%q", list.Kind.Kind, out.Bytes(), want)
	}
}

// TestWrittenListDecodes writes items that came from watches, which say their kind, and reads the list with client-go.
func TestWrittenListDecodes(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, fill := newAPI(t, e.media), filler(2)
			want := &corev1.PodList{}
			var items []scope.Item
			for range 5 {
				pod := random(t, fill, corev1.SchemeGroupVersion.WithKind("Pod")).(*corev1.Pod)
				item, err := wire.Object(e.encoding, "", "", api.encode(t, pod, corev1.SchemeGroupVersion))
				if err != nil {
					t.Fatal(err)
				}
				items = append(items, item)
				want.Items = append(want.Items, *pod)
			}
			want.ResourceVersion = "9"
			var out bytes.Buffer
			list := wire.List{Kind: scope.Kind{APIVersion: "v1", Kind: "PodList"}, Version: "9"}
			if err := wire.WriteList(&out, e.encoding, list, sequence(items)); err != nil {
				t.Fatal(err)
			}
			got := api.decode(t, out.Bytes(), nil).(*corev1.PodList)
			got.TypeMeta = want.TypeMeta
			for i := range got.Items {
				got.Items[i].TypeMeta = want.Items[i].TypeMeta
			}
			if !equality.Semantic.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestListCutShort ends a list after every byte: nothing short may pass as complete.
func TestListCutShort(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			kind := corev1.SchemeGroupVersion.WithKind("ConfigMap")
			body := bytes.TrimSpace(newAPI(t, e.media).encode(t, randomList(t, filler(3), kind, 3), kind.GroupVersion()))
			for cut := range len(body) {
				items := 0
				s := wire.NewListScanner(e.encoding, wire.Limits{}, func(scope.Item) error { items++; return nil })
				_, err := s.Write(body[:cut])
				if err != nil {
					t.Fatalf("cut at %d of %d: %v", cut, len(body), err)
				}
				list, err := s.Close()
				// After the list, protobuf has two empty fields: without them nothing is missing.
				if err == nil && (e.encoding == scope.JSON || items != 3 || list.Version != "4711" || cut < len(body)-4) {
					t.Errorf("cut at %d of %d bytes passes as complete with %d items", cut, len(body), items)
				}
				if err != nil && !errors.Is(err, wire.ErrTruncated) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			}
		})
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			large := &corev1.ConfigMapList{Items: []corev1.ConfigMap{{Data: map[string]string{"a": strings.Repeat("x", 5000)}}}}
			body := newAPI(t, e.media).encode(t, large, corev1.SchemeGroupVersion)
			for _, limit := range []int{4000, 6000} {
				s := wire.NewListScanner(e.encoding, wire.Limits{Object: limit}, func(scope.Item) error { return nil })
				err := write(t, s, rand.New(rand.NewSource(1)), body)
				if got := errors.Is(err, wire.ErrTooLarge); got != (limit < 5000) {
					t.Errorf("limit %d: %v", limit, err)
				}
			}
		})
	}
}

func sequence(items []scope.Item) iter.Seq2[scope.Item, error] {
	return func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}
